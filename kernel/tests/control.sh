# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2154,SC2016,SC2034 # as in boot.sh; console is set by open_session
#
# Cases on the machine: a page table that is streamed out, dropped and streamed in while its guest
# goes on working, by the monitor and by a tool in another partition.

control_cases() {
	local machine NEEDS='build-hypervisor build-checker'
	for machine in "${TEST_MACHINES[@]}"; do
		run_case "control-tool-$machine" control_tool_case "$machine"
		NEEDS+=' build-tools' run_case "control-monitor-$machine" control_monitor_case "$machine"
	done
	CORES=2 run_case control-tool-smp control_tool_case "${TEST_MACHINES[0]}" --smp 2
	run_case control-abandoned control_abandoned_case "${TEST_MACHINES[0]}"
	run_case control-debian control_debian_case "${TEST_MACHINES[0]}"
}

# control_partitions FILE.dts TOOL-BOOTARGS: a built-in guest that is a tool, and one that works through
# mappings of its own and says in the end whether all were kept.
control_partitions() {
	local common='memory = <0 0x10000000>; kernel = <&b>; memory-backing = "lazy";'
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	write_partitions "$1" "b: builtin { data = /incbin/(\"$BUILTIN_ELF\"); };" \
		"tool:$common control; bootargs = \"$2\";" \
		"work:$common bootargs = \"wait\";"
}

# monitor_does COMMANDS LINE [COUNT]: types commands, and waits for so many lines of their answer.
monitor_does() {
	printf '%b' "$1" >&3
	wait_for "$2" "${3:-1}"
}

# A tool reads and writes the other partition's page table and registers while it works, and that one
# notices nothing but lost time; on the same thread, and with further options on another one.
control_tool_case() {
	control_partitions "$FILES/tool.dts" tool=2
	open_session "control-tool-$1${2:-}" "$@" --partitions "$FILES/tool.dts"
	# The tool has passed and ended; the other one has the console.
	wait_for 'kernel: tool: gave its memory back'
	printf 'x' >&3
	end_session 0
	expect_count "$console" '^ok control-' 6
	expect_line "$console" '^ok control-a-table-is-streamed-out-dropped-and-streamed-in$'
	expect_line "$console" '^ok mappings-are-kept-while-it-waits$'
	expect_count "$console" '^builtin: [0-9]+ passed, 0 failed$' 2
}

# The monitor does the same to a guest that works, and one that is suspended stays so.
control_monitor_case() {
	local i
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	open_session "control-monitor-$1" "$1" --kernel "$BUILTIN_ELF" --guest-memory 256M --append wait
	wait_for 'builtin: waits for a key'
	printf '\035' >&3
	wait_for 'penstock> '
	for i in 1 2 3 4 5; do
		monitor_does 'hpt guest reload\n' 'guest: page table dropped and put back from a stream of' "$i"
	done
	monitor_does 'hpt guest check\n' 'guest: page table is sound (.* entries in use)'
	monitor_does 'hpt guest stats\n' '^Pages of 16M: '
	monitor_does 'registers guest\n' '^  r28 ' 1
	monitor_does 'registers guest 7\n' 'error: guest: has 1 virtual processors, from 0'
	monitor_does 'suspend guest\nhpt guest reload\nlist\n' '^ 1 *guest *paused (by the operator)'
	monitor_does 'resume guest\ndirty guest\n' 'slot 0 at 0x0: log is on'
	sleep 1
	monitor_does 'dirty guest\n' 'slot 0 at 0x0: .* pages of 4 KiB written since the last look'
	monitor_does 'dirty guest off\n' 'slot 0 at 0x0: log is off'
	monitor_does 'hpt guest dump\n' '@hptdump-end guest '
	monitor_does 'hpt nobody check\nhpt guest frob\n' 'usage: hpt NAME'
	# The guest says whether all was kept.
	printf '\035' >&3
	sleep 1
	printf 'x' >&3
	end_session 0
	expect_line "$console" '^ok mappings-are-kept-while-it-waits$'
	expect_builtin "$console"
	expect_count "$console" 'page table dropped and put back' 6
	if have python3; then
		python3 "$ROOT/kernel/scripts/hptdump.py" --name guest "$console" "$FILES/guest.hpt"
		"$HPTSTREAM" verify "$FILES/guest.hpt"
	fi
}

# The tool is destroyed while it holds the other partition, which stays as it is until the operator
# takes it back.
control_abandoned_case() {
	control_partitions "$FILES/abandoned.dts" 'hold=2'
	open_session control-abandoned "$1" --partitions "$FILES/abandoned.dts"
	wait_for 'builtin: holds partition 2'
	printf '\035' >&3
	wait_for 'penstock> '
	monitor_does 'list\nresume work\n' '^error: work: another tool holds the partition'
	expect_line "$console" '^ 2 +work +paused \(by a tool\)$'
	monitor_does 'hpt work reload\n' '^error: work: another tool holds the partition' 2
	monitor_does 'destroy tool\nlist\n' '^ - *tool *shut off'
	expect_line "$console" '^kernel: WARN: work: the tool that holds it is gone$'
	expect_count "$console" '^ 2 +work +paused \(by a tool\)$' 2
	monitor_does 'resume work\nlist\n' '^ 2 *work *running'
	monitor_does 'hpt work reload\n' 'work: page table dropped and put back'
	monitor_does 'console work\nx' 'builtin: [0-9]* passed, 0 failed'
	end_session 0
	expect_line "$console" '^ok mappings-are-kept-while-it-waits$'
}

# A Debian guest under memory stress, whose page table is put back again and again.
control_debian_case() {
	local i kernel
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	open_session control-debian "$1" --kernel "$kernel" --initrd "$INITRD_TEST"
	wait_for 'penstock-guest: userspace up'
	printf 'mmstress & echo pid$((40+2))\n' >&3
	wait_for 'pid42'
	printf '\035' >&3
	wait_for 'penstock> '
	for i in 1 2 3 4 5 6 7 8; do
		monitor_does 'hpt guest reload\n' 'guest: page table dropped and put back from a stream of' "$i"
		# Longer than the guest waits between two of its own looks.
		sleep 1
	done
	monitor_does 'hpt guest check\n' 'guest: page table is sound'
	printf '\035' >&3
	wait_for 'mmstress: [0-9]* checks, '
	printf 'poweroff\n' >&3
	end_session 0
	expect_line "$console" '^mmstress: [0-9]+ checks, 0 failures$'
}
