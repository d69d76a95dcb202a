# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # NEEDS is for run_case
#
# Cases of the other files once more, with a newer QEMU, whose interrupt
# controller, timers and memory model are other code: what comes in the next releases is seen here first.

newest_cases() {
	local machine mode NEEDS='build-hypervisor build-checker'
	for machine in "${TEST_MACHINES[@]}"; do
		newest_case "selftest-$machine" selftest_case "$machine"
		newest_case "builtin-$machine" builtin_case "$machine"
		newest_case "builtin-xive-$machine" builtin_xive_case "$machine"
		CORES=2 newest_case "builtin-vcpus-$machine" builtin_vcpus_case "$machine" 2
		CORES=2 newest_case "xive-ipis-$machine" xive_ipis_case "$machine"
		newest_case "xive-narrow-$machine" xive_narrow_case "$machine"
		newest_case "partitions-xive-$machine" partitions_xive_case "$machine"
		newest_case "partitions-irqs-$machine" partitions_irqs_case "$machine"
		CORES=2 newest_case "threads-builtin-$machine" threads_builtin_case "$machine"
		CORES=2 newest_case "threads-monitor-$machine" threads_monitor_case "$machine"
		for mode in xics xive; do
			CORES=2 newest_case "debian-smp-$mode-$machine" debian_smp_case "$machine" "$mode"
		done
	done
	newest_case last-words-stray-load last_words_case "${TEST_MACHINES[0]}" stray-load
	CORES=2 newest_case control-tool-smp control_tool_case "${TEST_MACHINES[0]}" --smp 2
}

# newest_case NAME COMMAND...: that case, with the newer QEMU, as newest-NAME.
newest_case() {
	local name=$1
	shift
	run_case "newest-$name" with_newest_qemu "$@"
}

with_newest_qemu() {
	[[ -z $NO_NEWEST_QEMU ]] || skip "$NO_NEWEST_QEMU"
	export PENSTOCK_QEMU=$NEWEST_QEMU
	"$PENSTOCK_QEMU" --version
	# The cases look for their console under the names that they have without this.
	CONSOLE_PREFIX=newest-
	"$@"
}
