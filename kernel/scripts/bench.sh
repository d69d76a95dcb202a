# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # the options set here are read by the other parts
#
# The table of costs: lines "bench: NAME VALUE". The benchmark guest counts the instructions of
# single operations itself, with -icount shift=0, where one instruction is one nanosecond; so does a
# program in a Debian guest. A plugin of ours in QEMU counts the tlbie and tlbiel of each operation, and
# who executes what while a Debian guest boots.

PLUGIN=$TARGET_DIR/count.so

run_bench() {
	if [[ $OPT_DRY_RUN == 1 ]]; then
		OPT_ICOUNT=1
		run_boot
		return
	fi
	# Nobody is to type into a measurement, and the hypervisor is told so.
	exec </dev/null
	setup_qemu
	setup_rust
	setup_tool dtc device-tree-compiler
	claim_run_dir
	build_hypervisor || die "the hypervisor does not build"
	build_bench_guest || die "the benchmark guest does not build"
	build_plugin "$PLUGIN"
	COUNTS=$RUN_DIR/counts
	bench_operations
	bench_debian_boot
	bench_debian_costs
}

# Boots what the options describe, with the console in a file; ends the script unless that ended with 0.
bench_run() {
	local status=0
	prepare_payload
	compose_command "$PAYLOAD"
	launch >"$RUN_DIR/bench.out" || status=$?
	if ((status != 0)); then
		tail -n 20 "$RUN_DIR/bench.out" >&2
		say "$1 ended with status $status instead of 0"
		exit "$status"
	fi
}

# Three times: with memory backed before the start, as by default, with memory that is backed at first
# touch, where alone the hypervisor has faults of its own to resolve, and in exploitation mode.
bench_operations() {
	local icount=$OPT_ICOUNT
	say "running the benchmark guest"
	OPT_KERNEL=$BENCH_ELF OPT_APPEND='' OPT_ICOUNT=1
	if [[ -z $WITHOUT_PLUGIN ]]; then
		QEMU_EXTRA+=(-plugin "$PLUGIN,out=${COUNTS//,/,,}")
	else
		say "tlbie and tlbiel are not counted: $WITHOUT_PLUGIN"
	fi
	rm -f "$COUNTS"
	bench_run "the benchmark guest"
	bench_table | grep -av 'hypervisor fault' || die "the benchmark guest printed no table"
	PARTITION_BACKING=lazy
	rm -f "$COUNTS"
	bench_run "the benchmark guest"
	bench_table | grep -a 'hypervisor fault' || die "the benchmark guest measured no fault"
	PARTITION_BACKING=
	OPT_INTERRUPTS=xive
	rm -f "$COUNTS"
	bench_run "the benchmark guest"
	bench_table | grep -a 'XIVE\|touch of' || die "the benchmark guest measured nothing of the controller"
	OPT_INTERRUPTS=''
	OPT_KERNEL='' OPT_ICOUNT=$icount
}

# The guest's rows, each with what the plugin counted in one operation: it has a line for each row, which
# are those with a target.
bench_table() {
	tr -d '\r' <"$RUN_DIR/bench.out" | grep -a '^bench: ' | awk -v counts="$COUNTS" '
		BEGIN {
			while ((getline line < counts) > 0)
				if (split(line, field, " ") == 4 && field[1] == "row" && field[2] > 0)
					row[++rows] = sprintf("  tlbie %.2f, tlbiel %.2f", field[3] / field[2], field[4] / field[2])
				else if (field[1] == "row")
					row[++rows] = ""
		}
		/\(target| failed: | skipped: / { $0 = $0 row[++number] }
		{ print }'
}

# The hypervisor's share of the instructions of a boot to userspace and power-off.
bench_debian_boot() {
	if [[ -n $WITHOUT_PLUGIN ]]; then
		say "no share of a Debian boot: $WITHOUT_PLUGIN"
		return
	elif ! setup_debian_guest debian13-64k; then
		say "no share of a Debian boot: Debian's guest kernel cannot be had here"
		return
	fi
	say "counting the instructions of a Debian boot"
	rm -f "$COUNTS"
	OPT_APPEND='console=hvc0 quick'
	bench_run "the Debian guest"
	awk '
		{ count[$1] = $2 }
		END {
			for (who in count) total += count[who]
			printf "bench: debian-boot-firmware-before %d\n", count["firmware"]
			printf "bench: debian-boot-hypervisor-start %d\n", count["start"]
			printf "bench: debian-boot-guest %d\n", count["guest"]
			printf "bench: debian-boot-hypervisor %d\n", count["hypervisor"]
			printf "bench: debian-boot-opal %d\n", count["opal"]
			printf "bench: debian-boot-hypervisor-share %.2f%%\n", 100 * count["hypervisor"] / count["guest"]
		}' "$COUNTS"
}

# What a program in a Debian guest pays, above what it pays where a hypervisor costs no instructions: on
# QEMU's own pseries machine. The targets, and what KVM HV costs, are above that too.
bench_debian_costs() {
	local icount=$OPT_ICOUNT
	if ! { setup_debian_guest debian13-64k && setup_test_initrd; }; then
		say "no costs inside a Debian guest: it cannot be had here"
		return
	fi
	say "measuring inside a Debian guest"
	OPT_APPEND='console=hvc0 mitigations=off costs' OPT_INITRD=$INITRD_TEST OPT_ICOUNT=1
	timeout 600 "${PENSTOCK_QEMU:-$QEMU}" -M pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken -cpu power9 \
		-smp 1 -m "$OPT_GUEST_MEMORY" -icount shift=0 -display none -vga none -nic none -monitor none \
		-serial file:"$RUN_DIR/floor.out" -no-reboot -kernel "$GUESTS_DIR/debian13-64k/vmlinux" -initrd "$INITRD_TEST" \
		-append "$OPT_APPEND disable_radix" || die "the Debian guest does not run on the pseries machine"
	bench_run "the Debian guest"
	tr -d '\r' <"$RUN_DIR/bench.out" | cat "$RUN_DIR/floor.out" - | awk '
		BEGIN {
			target["mprotect-and-back"] = 850; kvm["mprotect-and-back"] = 8210
			target["mmap-touch-munmap"] = 995; kvm["mmap-touch-munmap"] = 8285
			target["fork-exit-wait"] = 12400; kvm["fork-exit-wait"] = 112400
			target["fork-exec-wait"] = 39300; kvm["fork-exec-wait"] = 389300
		}
		$1 != "costs:" || !($2 in target) { next }
		!($2 in floor) { floor[$2] = $3; next }
		{
			printf "bench: debian-%-24s %6d above %6d (target %6d, KVM P9 %6d)\n", $2, $3 - floor[$2],
				floor[$2], target[$2], kvm[$2]
			found++
		}
		END { exit found != 4 }' || die "the Debian guest measured nothing"
	OPT_INITRD='' OPT_ICOUNT=$icount
}
