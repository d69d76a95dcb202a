# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # TEST_MACHINES and FILES are read by the case files
#
# The test run: named cases, each "ok NAME", "FAIL NAME: why" or "skip NAME: reason", a log of each
# under target/test-logs/, and a last line with the counts. The cases are in kernel/tests/*.sh.

TEST_LOGS=$TARGET_DIR/test-logs
FILES=$TEST_LOGS/files
PASSED=0 FAILED=0 SKIPPED=0

# Inside a case. Both end it.
fail() {
	printf 'why: %s\n' "$*"
	exit 1
}
skip() {
	printf 'why: %s\n' "$*"
	exit 77
}

# wanted NAME: whether this case is to run; what is built, and the files, the others need.
wanted() {
	# shellcheck disable=SC2053 # a pattern
	[[ -z $OPT_CASE || $1 == $OPT_CASE ]] || [[ $1 == @(build-*|usage-files) && $OPT_DRY_RUN == 0 ]]
}

# run_case NAME COMMAND...: one case in a subshell, its output in its log.
run_case() {
	local name=$1 log=$TEST_LOGS/$1.log status why
	shift
	wanted "$name" || return 0
	if [[ $OPT_DRY_RUN == 1 ]]; then
		printf '%s\n' "$name"
		return
	fi
	[[ ! -t 2 ]] || printf '... %s\r' "$name" >&2
	set +e
	# The lock of the run folder is the parent's; a case starts runs of its own.
	(
		set -euo pipefail
		"$@"
	) >"$log" 2>&1 </dev/null
	status=$?
	set -e
	why=$(sed -n 's/^why: //p' "$log" | tail -n 1)
	[[ ! -t 2 ]] || printf '\033[K' >&2
	case $status in
	0)
		PASSED=$((PASSED + 1))
		printf 'ok %s\n' "$name"
		;;
	77)
		SKIPPED=$((SKIPPED + 1))
		printf 'skip %s: %s\n' "$name" "$why"
		;;
	*)
		FAILED=$((FAILED + 1))
		printf 'FAIL %s: %s (%s)\n' "$name" "${why:-status $status}" "${log#"$ROOT"/}"
		;;
	esac
}

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
	setup_rust
	setup_tool dtc device-tree-compiler
	# What only some cases need: without it they are skipped, by name.
	(setup_tool shellcheck shellcheck) || true
	(setup_tool python3 python3) || true
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
	if [[ $OPT_DRY_RUN == 0 ]]; then
		setup_for_tests
		mkdir -p "$FILES"
		rm -f "$TEST_LOGS"/*.log
	fi
	for cases in host usage boot partitions control; do
		# shellcheck source=/dev/null
		source "$ROOT/kernel/tests/$cases.sh"
	done
	host_cases
	build_cases
	usage_cases
	boot_cases
	partition_cases
	control_cases
	[[ $OPT_ALL == 0 ]] || long_cases
	[[ $OPT_DRY_RUN == 0 ]] || return 0
	say "tests took $((SECONDS - start)) s; logs are in ${TEST_LOGS#"$ROOT"/}"
	printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
	((FAILED == 0))
}
