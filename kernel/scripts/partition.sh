# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
#
# What is given to the hypervisor by -initrd: a partition tree, compiled by dtc. A partition that is
# described by options is written as a tree too and takes the same path.

# QEMU's powernv machines load an -initrd at 640 MiB and keep 128 MiB for it.
PAYLOAD_LIMIT=$((128 * 1024 * 1024))

check_payload_size() {
	local what=$1 size=$2
	((size <= PAYLOAD_LIMIT)) ||
		die "$what is $size bytes, more than the $PAYLOAD_LIMIT (128 MiB) that QEMU takes as -initrd"
}

file_size() { stat -L -c %s "$1"; }

is_elf() { [[ $(head -c 4 "$1" | od -An -tx1) == ' 7f 45 4c 46' ]]; }

# An image beside the tree, under a name of ours: a user's path never has to be quoted in the tree.
place_image() {
	local from=$1 to=$2 before after
	rm -f "$to"
	# The guests that set-up fetched are stripped already.
	if [[ $(basename "$to") == kernel && $from != "$GUESTS_DIR"/* ]] && is_elf "$from"; then
		strip_kernel "$from" "$to"
		before=$(file_size "$from") after=$(file_size "$to")
		if ((after < before)); then
			say "packing $(basename "$from") without its symbols: $after of $before bytes"
			return
		fi
		rm -f "$to"
	fi
	ln -s "$(absolute_path "$from")" "$to"
}

# A string as dtc reads it between quotes.
dts_string() {
	local s=$1
	s=${s//\\/\\\\}
	s=${s//\"/\\\"}
	s=${s//$'\n'/\\n}
	s=${s//$'\t'/\\t}
	printf '"%s"' "$s"
}

dts_two_cells() { printf '<0x%x 0x%x>' $(($1 >> 32)) $(($1 & 0xffffffff)); }

# 0640x480x32 as cells, which dtc would read as octal with zeros in front.
framebuffer_cells() {
	local width height depth
	IFS=x read -r width height depth <<<"$1"
	printf '%d %d %d' $((10#$width)) $((10#$height)) $((10#$depth))
}

# write_partition DIRECTORY NAME KERNEL INITRD: DIRECTORY/partitions.dts from the options, and from
# PARTITION_BACKING, which no option sets: when memory is backed, where not by default.
write_partition() {
	local dir=$1 name=$2 kernel=$3 initrd=$4
	check_payload_size "$(basename "$kernel")${initrd:+ with $(basename "$initrd")}" \
		$(($(file_size "$kernel") + ${initrd:+$(file_size "$initrd")} + 0))
	place_image "$kernel" "$dir/kernel"
	[[ -z $initrd ]] || place_image "$initrd" "$dir/initrd"
	{
		printf '/dts-v1/;\n/ {\n\tcompatible = "penstock,partitions-v1";\n'
		printf '\t#address-cells = <2>;\n\t#size-cells = <2>;\n\n\timages {\n'
		printf '\t\tkernel: kernel {\n\t\t\tdata = /incbin/("kernel");\n'
		[[ -z $OPT_LOAD_ADDRESS ]] || printf '\t\t\tload-address = %s;\n' "$(dts_two_cells "$OPT_LOAD_ADDRESS")"
		printf '\t\t};\n'
		[[ -z $initrd ]] || printf '\t\tinitrd: initrd { data = /incbin/("initrd"); };\n'
		printf '\t};\n\n\tpartitions {\n\t\t%s {\n' "$name"
		printf '\t\t\tmemory = %s;\n' "$(dts_two_cells "$(size_to_bytes "$OPT_GUEST_MEMORY")")"
		printf '\t\t\tvcpus = <%s>;\n\t\t\tkernel = <&kernel>;\n' "$OPT_GUEST_VCPUS"
		[[ -z $initrd ]] || printf '\t\t\tinitrd = <&initrd>;\n'
		[[ -z $OPT_FRAMEBUFFER ]] || printf '\t\t\tframebuffer = <%s>;\n' "$(framebuffer_cells "$OPT_FRAMEBUFFER")"
		[[ -z $OPT_INTERRUPTS ]] || printf '\t\t\tinterrupt-mode = "%s";\n' "$OPT_INTERRUPTS"
		[[ -z ${PARTITION_BACKING:-} ]] || printf '\t\t\tmemory-backing = "%s";\n' "$PARTITION_BACKING"
		printf '\t\t\tbootargs = %s;\n\t\t};\n\t};\n};\n' "$(dts_string "$OPT_APPEND")"
	} >"$dir/partitions.dts"
}

# compile_tree FROM.dts TO.dtb. dtc's warnings are about bindings that partition trees do not follow.
compile_tree() {
	local errors
	errors=$(dtc -q -I dts -O dtb -o "$2" "$1" 2>&1) ||
		die "$1 is no device tree source: $(printf '%s\n' "$errors" | grep -v '^FATAL ERROR: Syntax' | sed -n 1p)"
}

# check_tree TREE.dtb [--source SOURCE.dts | --name TEXT]: the hypervisor's own parser, on the host. What it
# refuses is refused before QEMU starts, with the line of the source, or under this name.
check_tree() {
	local threads=() tree=$1
	shift
	check_payload_size "$(basename "$tree")" "$(file_size "$tree")"
	have_checker_source || return 0
	build_once build_checker || die "penstock-check does not build"
	# What follows -- may change the number of threads; then the hypervisor alone can tell.
	[[ " ${QEMU_EXTRA[*]-} " == *' -smp '* ]] || threads=(--threads "$OPT_SMP")
	"$TARGET_DIR/release/penstock-check" --memory "$(size_to_bytes "$OPT_MEMORY")" "${threads[@]}" "$@" "$tree" ||
		exit "$EXIT_USAGE"
}

# Sets PAYLOAD to the file for -initrd, or to nothing for the built-in guest.
prepare_payload() {
	local kernel=$OPT_KERNEL initrd=$OPT_INITRD name=guest
	PAYLOAD=$(payload_name)
	case $OPT_PARTITIONS in
	*.dts)
		compile_tree "$OPT_PARTITIONS" "$PAYLOAD"
		check_tree "$PAYLOAD" --source "$OPT_PARTITIONS"
		;;
	*.dtb) check_tree "$PAYLOAD" ;;
	'')
		[[ $OPT_BUILTIN == 0 ]] || return 0
		if [[ -z $kernel ]]; then
			name=debian
			kernel=$(guest_kernel debian13-64k)
			initrd=${initrd:-$INITRD}
		fi
		write_partition "$RUN_DIR" "$name" "$kernel" "$initrd"
		compile_tree "$RUN_DIR/partitions.dts" "$PAYLOAD"
		check_tree "$PAYLOAD" --name "the options${OPT_KERNEL:+, --kernel $OPT_KERNEL}"
		;;
	esac
}

# The name alone, for --dry-run as well.
payload_name() {
	case $OPT_PARTITIONS in
	*.dtb) absolute_path "$OPT_PARTITIONS" ;;
	*) [[ $OPT_BUILTIN == 1 ]] || printf '%s\n' "$RUN_DIR/partitions.dtb" ;;
	esac
}
