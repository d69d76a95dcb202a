# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2016,SC2034 # for the stand-ins for QEMU; NEEDS is for run_case
#
# Wrong use is answered: each case expects status 2, one clear line, and that QEMU was not started.

usage_cases() {
	local NEEDS='usage-files build-checker'
	NEEDS='' run_case usage-files make_files
	option_cases
	kernel_cases
	tree_cases
	run_case usage-qemu-7.2 old_qemu_case
	run_case usage-qemu-missing refused 'PENSTOCK_QEMU: no such program' env PENSTOCK_QEMU=no-such-qemu
	run_case usage-qemu-newest-missing refused 'PENSTOCK_QEMU_NEWEST: no such program' \
		env PENSTOCK_QEMU_NEWEST=no-such-qemu test --all --case 'newest-*'
	run_case usage-firmware-ends firmware_ends_case
	run_case dry-run dry_run_case
	run_case dry-run-quoting dry_run_quoting_case
}

option_cases() {
	run_case usage-unknown-option refused 'unknown option --frobnicate' --frobnicate
	run_case usage-unknown-argument refused "unknown argument 'start'" start
	run_case usage-no-value refused '--kernel needs a value' --kernel
	run_case usage-machine refused '--machine pseries: it is powernv9 or powernv10' --machine pseries
	run_case usage-size refused '--memory 2T: it is a number of bytes' --memory 2T
	run_case usage-size-zero refused '--guest-memory 0: it is a number of bytes' --guest-memory 0
	run_case usage-size-huge refused '--memory 99999999999G: it is a number' --memory 99999999999G
	run_case usage-count refused '--smp none: it is a number from 1' --smp none
	run_case usage-address refused '--load-address 0xq: it is a number' --kernel "$FILES/text" --load-address 0xq
	run_case usage-framebuffer refused '--framebuffer 640x480: it is like 640x480x32' --framebuffer 640x480
	run_case usage-framebuffer-builtin refused '--builtin and --framebuffer exclude' --builtin --framebuffer 640x480x32
	run_case usage-load-address refused '--load-address needs --kernel' --load-address 4M
	run_case usage-builtin-kernel refused '--builtin and --kernel exclude each other' --builtin --kernel "$FILES/text"
	run_case usage-builtin-tree refused '--partitions and --builtin exclude' --builtin --partitions "$FILES/good.dts"
	run_case usage-tree-append refused '--partitions and --append exclude' --append x --partitions "$FILES/good.dts"
	run_case usage-test-kernel refused '--kernel has no meaning with test' test --kernel "$FILES/text"
	run_case usage-case refused '--case belongs to test' --case monitor
	run_case usage-no-such-case refused '--case no-such: no case of this run has such a name' test --case pool --case no-such
	run_case usage-all refused '--all belongs to test' --all
}

kernel_cases() {
	run_case usage-no-kernel refused 'no-such-kernel: no such file' --kernel no-such-kernel
	run_case usage-kernel-folder refused 'is not a regular file' --kernel "$FILES"
	run_case usage-text-kernel checked 'the options, --kernel .*/text: partition guest: kernel is not an ELF file' --kernel "$FILES/text"
	run_case usage-empty-kernel checked 'no data|empty' --kernel "$FILES/empty"
	run_case usage-other-machine checked 'an ELF file for x86-64' --kernel "$FILES/x86.elf"
	run_case usage-host-program checked 'an ELF file for|of type' --kernel /bin/true
	run_case usage-segment-outside checked 'do not lie in the guest.s 512 MiB' --kernel "$FILES/outside.elf"
	run_case usage-elf-truncated checked 'cut off' --kernel "$FILES/short.elf"
	run_case usage-load-address-fixed checked 'linked to a fixed address' --kernel "$FILES/good.elf" --load-address 4M
	run_case usage-initrd-too-large checked 'no room for the initrd' --kernel "$FILES/good.elf" --initrd "$FILES/96M" --guest-memory 64M
	run_case usage-payload-too-large refused 'more than the 134217728 \(128 MiB\)' --kernel "$FILES/good.elf" --initrd "$FILES/129M"
	run_case usage-guest-too-large checked 'do not fit' --kernel "$FILES/good.elf" --guest-memory 4G
	run_case usage-framebuffer-depth checked 'framebuffer: depth 24 is not 8, 16 or 32' --kernel "$FILES/good.elf" --framebuffer 640x0480x24
	run_case usage-framebuffer-width checked 'framebuffer: width 4097 is not in 64 to 4096' --kernel "$FILES/good.elf" --framebuffer 4097x480x32
	run_case usage-guest-memory-odd checked 'not a multiple of 16 MiB' --kernel "$FILES/good.elf" --guest-memory 100000K
}

tree_cases() {
	run_case usage-no-tree refused 'none.dtb: no such file' --partitions "$FILES/none.dtb"
	run_case usage-tree-name refused 'the name ends in .dts or .dtb' --partitions "$FILES/text"
	run_case usage-tree-text refused 'is no device tree source' --partitions "$FILES/text.dts"
	run_case usage-tree-too-large refused 'more than the 134217728 \(128 MiB\)' --partitions "$FILES/129M.dtb"
	run_case usage-tree-good accepted "$FILES/good.dts"
	run_case usage-tree-truncated checked '.' --partitions "$FILES/truncated.dtb"
	run_case usage-tree-mutated mutated_case
	run_case usage-tree-property checked 'property.dts:7: /partitions/test: unknown property speed$' --partitions "$FILES/property.dts"
	run_case usage-tree-nearest checked 'nearest.dts:7: .*: unknown property weigth \(the nearest known one is weight\)' --partitions "$FILES/nearest.dts"
	run_case usage-tree-names refused 'names.dts:8.* /partitions/test: Duplicate node name' --partitions "$FILES/names.dts"
	run_case usage-tree-memory checked 'memory.dts:7: partition test: 4096 MiB of memory .* do not fit' --partitions "$FILES/memory.dts"
	run_case usage-tree-thread checked 'thread.dts:7: partition test: pinned to thread 3, but' --smp 2 --partitions "$FILES/thread.dts"
	run_case usage-hpt-order-low checked 'hpt-order 17 is not in' --partitions "$FILES/hpt-17.dts"
	run_case usage-hpt-order-high checked 'hpt-order 37 is not in' --partitions "$FILES/hpt-37.dts"
}

# refused PATTERN [env NAME=VALUE] ARGS...: run-qemu.sh with a QEMU that only tells its version.
refused() {
	local pattern=$1 status=0 out=$FILES/refused environment=()
	shift
	if [[ ${1:-} == env ]]; then
		environment=("$2")
		shift 2
	fi
	rm -f "$FILES/started"
	env PATH="$INPUTS/bin:$PATH" STARTED="$FILES/started" "${environment[@]}" "$ROOT/run-qemu.sh" "${NO_SETUP[@]}" "$@" >"$out" 2>&1 || status=$?
	cat "$out"
	# How a kernel was packed is told before what is wrong with it.
	grep -v 'without its symbols' "$out" >"$out.lines" || true
	rm -f "$out"
	((status == 2)) || fail "status $status instead of 2"
	[[ ! -e $FILES/started ]] || fail "QEMU was started"
	[[ $(wc -l <"$out.lines") == 1 ]] || fail "not one line but $(wc -l <"$out.lines")"
	grep -Eq -- "$pattern" "$out.lines" || fail "the message does not say: $pattern"
	rm -f "$out.lines"
}

# The same for what the hypervisor's own parser refuses.
checked() {
	have_checker || skip "there is no penstock-check yet"
	refused "$@"
}

# A good tree comes as far as QEMU: the other cases are refused for their own reason.
accepted() {
	local status=0
	rm -f "$FILES/started"
	PATH="$INPUTS/bin:$PATH" STARTED="$FILES/started" "$ROOT/run-qemu.sh" --no-setup --partitions "$1" || status=$?
	[[ -e $FILES/started ]] || fail "a good tree was refused with status $status"
}

# One byte of a good tree changed at a time: accepted or refused, but never anything else.
mutated_case() {
	local checker=$TARGET_DIR/release/penstock-check size offset status refusals=0 file=$FILES/mutated.dtb
	have_checker || skip "there is no penstock-check yet"
	size=$(file_size "$INPUTS/good.dtb")
	# The header, and then steps through the structure; images are data and may hold anything.
	for offset in {0..39} $(seq 40 $((size / 97 + 1)) $((size - 1))); do
		cp "$INPUTS/good.dtb" "$file"
		printf '\xa5' | dd of="$file" bs=1 seek="$offset" conv=notrunc status=none
		status=0
		"$checker" "$file" >"$FILES/mutated.out" 2>&1 || status=$?
		case $status in
		0) ;;
		2)
			refusals=$((refusals + 1))
			[[ $(wc -l <"$FILES/mutated.out") == 1 ]] || fail "byte $offset: not one line"
			;;
		*) fail "byte $offset changed: status $status" ;;
		esac
	done
	((refusals > 20)) || fail "only $refusals mutated trees were refused"
	printf '%d mutated trees refused\n' "$refusals"
}

old_qemu_case() {
	mkdir -p "$FILES/old"
	printf '#!/bin/sh\ntest "$1" = --version || exec touch "$STARTED"\necho "QEMU emulator version 7.2.22 (Debian 1:7.2)"\n' \
		>"$FILES/old/qemu-system-ppc64"
	chmod +x "$FILES/old/qemu-system-ppc64"
	NO_SETUP=()
	refused 'QEMU 7.2.22, but 9.1 is the oldest' env "PATH=$FILES/old:$PATH" --builtin
}

# QEMU is started again where it ends in the firmware, but not for ever, and not once the hypervisor runs.
firmware_ends_case() {
	local firmware='[    0.490,3] IMC' hypervisor='kernel: Penstock'
	stands_in "$firmware" "$firmware" "$firmware"
	run_stand_in 1 3
	grep -q 'QEMU ended with status 3, without the hypervisor' "$FILES/told" || fail "the end is not told"
	stands_in "$firmware" "$hypervisor" "$firmware"
	run_stand_in 1 2
	[[ $(grep -c 'while the firmware ran; starting it again$' "$FILES/told") == 1 ]] || fail "it is not told"
	stands_in ''
	run_stand_in 1 1
	stands_in "$firmware" "$firmware"$'\n'"$hypervisor"$'\n''penstock: exit 0 WORD'
	run_stand_in 0 2
}

# stands_in TEXT...: a QEMU that writes these texts to its console, one for each start.
stands_in() {
	local n=0 text
	mkdir -p "$FILES/stand-in"
	rm -f "$FILES/stand-in"/*
	for text in "$@"; do
		n=$((n + 1))
		printf '%s\n' "$text" >"$FILES/stand-in/$n"
	done
	cat >"$FILES/stand-in/qemu" <<-END
		#!/bin/bash
		if [[ \$1 == --version ]]; then exec $(command -v "$QEMU") --version; fi
		n=\$((\$(cat "$FILES/stand-in/starts" 2>/dev/null || echo 0) + 1))
		echo \$n >"$FILES/stand-in/starts"
		[[ "\$*" =~ logfile=([^\ ]*)\ .*penstock.exit=([0-9a-f]*) ]] || exit 9
		sed "s/WORD/\${BASH_REMATCH[2]}/" "$FILES/stand-in/\$n" | tee "\${BASH_REMATCH[1]}"
		exit 3
	END
	chmod +x "$FILES/stand-in/qemu"
}

# run_stand_in STATUS STARTS: how a boot with it ends, and how often it is started.
run_stand_in() {
	local status=0 starts
	PENSTOCK_QEMU=$FILES/stand-in/qemu "$ROOT/run-qemu.sh" --no-setup --builtin >"$FILES/told" 2>&1 || status=$?
	starts=$(cat "$FILES/stand-in/starts")
	((status == $1 && starts == $2)) || fail "status $status after $starts starts: $(<"$FILES/told")"
}

# In a copy of the scripts alone: no file may appear there.
dry_run_case() {
	local copy=$FILES/dry-run output
	rm -rf "$copy"
	mkdir -p "$copy/kernel"
	cp "$ROOT/run-qemu.sh" "$copy"
	cp -r "$ROOT/kernel/scripts" "$copy/kernel"
	(cd "$copy" && find . | sort) >"$FILES/before"
	output=$("$copy/run-qemu.sh" --dry-run --machine powernv10 --smp 2 --icount)
	(cd "$copy" && find . | sort) | diff "$FILES/before" - || fail "--dry-run wrote files"
	[[ $output == qemu-system-ppc64\ *'-M powernv10 -smp 2'*'-initrd '*'-icount shift=0'* ]] ||
		fail "not the QEMU command: $output"
	[[ $("$copy/run-qemu.sh" --dry-run --builtin) != *-initrd* ]] || fail "--builtin has an -initrd"
}

# The printed command, read by a shell again, has the words that were given.
dry_run_quoting_case() {
	local -a words
	eval "words=($("$ROOT/run-qemu.sh" --dry-run -- -d "it's \$HOME, \"x\" & y"))"
	[[ ${words[-1]} == "it's \$HOME, \"x\" & y" ]] || fail "read again as: ${words[-1]}"
}

# A small ELF64 kernel image: write_elf FILE MACHINE PHYSICAL-ADDRESS
write_elf() {
	local file=$1 machine=$2 address=$3
	{
		printf '\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0'
		le 2 2 && le 2 "$machine" && le 4 1    # ET_EXEC
		le 8 "$address" && le 8 64 && le 8 0   # entry, program headers, no sections
		le 4 2 && le 2 64 && le 2 56 && le 2 1 # ELFv2; sizes; one program header
		le 2 64 && le 2 0 && le 2 0
		le 4 1 && le 4 7 && le 8 120 # PT_LOAD, readable, writable, executable; behind the headers
		le 8 "$address" && le 8 "$address" && le 8 4096 && le 8 4096 && le 8 65536
		head -c 4096 /dev/zero
	} >"$file"
}

# Little-endian bytes: le COUNT NUMBER
le() {
	local i
	for ((i = 0; i < $1; i++)); do
		# shellcheck disable=SC2059 # the format is the byte
		printf "\\x$(printf '%02x' $((($2 >> (8 * i)) & 0xff)))"
	done
}

write_tree() {
	local file=$1 extra=${2:-}
	cat >"$file" <<-TREE
		/dts-v1/;
		/ {
			compatible = "penstock,partitions-v1";
			#address-cells = <2>;
			#size-cells = <2>;
			images { kernel: kernel { data = /incbin/("good.elf"); }; };
			partitions { test { memory = <0 0x4000000>; vcpus = <1>; kernel = <&kernel>; bootargs = ""; $extra }; };
		};
	TREE
}

make_files() {
	local FILES=$INPUTS
	mkdir -p "$FILES/bin"
	printf '#!/bin/sh\nif test "$1" = --version; then exec %q --version; fi\ntouch "$STARTED"\n' \
		"$(command -v "$QEMU")" >"$FILES/bin/qemu-system-ppc64"
	chmod +x "$FILES/bin/qemu-system-ppc64"
	printf 'This is not a kernel.\n' | tee "$FILES/text" >"$FILES/text.dts"
	: >"$FILES/empty"
	write_elf "$FILES/good.elf" 21 0
	write_elf "$FILES/x86.elf" 62 0
	write_elf "$FILES/outside.elf" 21 $((1 << 40))
	head -c 100 "$FILES/good.elf" >"$FILES/short.elf"
	truncate -s 96M "$FILES/96M"
	truncate -s 129M "$FILES/129M" "$FILES/129M.dtb"
	write_tree "$FILES/good.dts"
	write_tree "$FILES/property.dts" 'speed = <11>;'
	write_tree "$FILES/nearest.dts" 'weigth = <2>;'
	write_tree "$FILES/names.dts" $'};\n\t\ttest { vcpus = <1>;'
	write_tree "$FILES/thread.dts" 'pinned = <3>;'
	write_tree "$FILES/memory.dts"
	sed -i 's/memory = <0 /memory = <1 /; s/0x4000000/0/' "$FILES/memory.dts"
	write_tree "$FILES/hpt-17.dts" 'hpt-order = <17>;'
	write_tree "$FILES/hpt-37.dts" 'hpt-order = <37>;'
	dtc -q -o "$FILES/good.dtb" "$FILES/good.dts"
	head -c $(($(file_size "$FILES/good.dtb") / 2)) "$FILES/good.dtb" >"$FILES/truncated.dtb"
}
NO_SETUP=(--no-setup)
