# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # TEST_MACHINES and FILES are read by the case files
#
# The test run: named cases, each "ok NAME (SECONDS)", "FAIL NAME: why" or "skip NAME: reason", a log of
# each under target/test-logs/, and a last line with the counts. The cases are in kernel/tests/*.sh;
# pool.sh runs them.

TEST_LOGS=$TARGET_DIR/test-logs
# What the cases of usage.sh start from. Inside a case, FILES is a folder of its own.
INPUTS=$TEST_LOGS/inputs
FILES=$INPUTS

# shellcheck source=kernel/scripts/pool.sh
source "$ROOT/kernel/scripts/pool.sh"
# shellcheck source=kernel/scripts/newest-qemu.sh
source "$ROOT/kernel/scripts/newest-qemu.sh"

# The options of this test run, for each run-qemu.sh that a case starts.
machine_options() {
	MACHINE_OPTIONS=(--no-setup --smp "$OPT_SMP" --memory "$OPT_MEMORY")
	[[ $OPT_ICOUNT == 0 ]] || MACHINE_OPTIONS+=(--icount)
	QEMU_OPTIONS=()
	((${#QEMU_EXTRA[@]} == 0)) || QEMU_OPTIONS=(-- "${QEMU_EXTRA[@]}")
	TEST_MACHINES=(powernv9 powernv10)
	[[ -z $OPT_MACHINE ]] || TEST_MACHINES=("$OPT_MACHINE")
}

# Set-up for tests: also what a boot of the default guest does not need.
setup_for_tests() {
	setup_qemu
	[[ $'\n'$(print_cases) != *$'\n'newest-* ]] || setup_newest_qemu
	setup_rust
	setup_tool dtc device-tree-compiler
	# What only some cases need: without it they are skipped, by name.
	(setup_tool shellcheck shellcheck) || true
	(setup_tool python3 python3) || true
	[[ $'\n'$(print_cases) != *$'\n'cargo-test-big-endian* ]] || (setup_big_endian) || true
	NO_GUEST=
	if ! setup_debian_guest debian13-64k || ! setup_test_initrd; then
		NO_GUEST="Debian's guest kernel cannot be had here"
	elif [[ $OPT_ALL == 1 ]]; then
		if ! setup_debian_guest debian13-4k || ! setup_debian_guest debian12; then
			say "not every Debian kernel can be had here"
		fi
	fi
}

run_tests() {
	local cases start=$SECONDS
	machine_options
	for cases in host usage boot partitions threads interrupts control newest; do
		# shellcheck source=/dev/null
		source "$ROOT/kernel/tests/$cases.sh"
	done
	build_cases
	host_cases
	usage_cases
	boot_cases
	partition_cases
	control_cases
	[[ $OPT_ALL == 0 ]] || long_cases
	expect_cases ${OPT_CASES[@]+"${OPT_CASES[@]}"}
	if [[ $OPT_DRY_RUN == 1 ]]; then
		WITHOUT_NEEDS=1 choose_cases ${OPT_CASES[@]+"${OPT_CASES[@]}"}
		print_cases
		return 0
	fi
	choose_cases ${OPT_CASES[@]+"${OPT_CASES[@]}"}
	setup_for_tests
	rm -rf "$TEST_LOGS"
	mkdir -p "$INPUTS"
	# Cases start what the run has built, and none where that failed.
	export PENSTOCK_PREBUILT=1
	run_pool
	show_failures
	say "tests took $((SECONDS - start)) s; logs are in ${TEST_LOGS#"$ROOT"/}"
	printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
	((FAILED == 0))
}
