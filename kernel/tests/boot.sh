# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2016,SC2034 # for the guest's shell; NEEDS is for run_case
#
# Cases on the machine: the built-in guest with the on-target self tests, and Debian guests.

boot_cases() {
	local machine death NEEDS='build-hypervisor build-checker'
	for machine in "${TEST_MACHINES[@]}"; do
		run_case "selftest-$machine" selftest_case "$machine"
		run_case "builtin-$machine" builtin_case "$machine"
		run_case "builtin-xive-$machine" builtin_xive_case "$machine"
		CORES=2 run_case "builtin-vcpus-$machine" builtin_vcpus_case "$machine" 2
		run_case "builtin-vcpus-shared-$machine" builtin_vcpus_case "$machine" 1
	done
	run_case mitigations mitigations_case
	CORES=2 run_case backed-ahead backed_ahead_case "${TEST_MACHINES[0]}"
	run_case raw-image raw_image_case "${TEST_MACHINES[0]}"
	# Which of two processors boots is a race of firmware's.
	CORES=2 run_case builtin-smp builtin_smp_case "${TEST_MACHINES[0]}"
	for death in panic illegal-instruction stray-load; do
		run_case "last-words-$death" last_words_case "${TEST_MACHINES[0]}" "$death"
	done
	for death in panic stray-load; do
		CORES=2 run_case "last-words-$death-smp2" last_words_case "${TEST_MACHINES[0]}" "$death" 2
	done
	run_case monitor monitor_case "${TEST_MACHINES[0]}"
	run_case framebuffer framebuffer_case "${TEST_MACHINES[0]}"
	run_case "hpt-resize-debian-vcpus1-${TEST_MACHINES[0]}" hpt_resize_case "${TEST_MACHINES[0]}" 1
	CORES=2 run_case "hpt-resize-debian-vcpus2-${TEST_MACHINES[-1]}" hpt_resize_case "${TEST_MACHINES[-1]}" 2
	run_case "debian13-64k-${TEST_MACHINES[0]}" debian_case "${TEST_MACHINES[0]}" debian13-64k
	run_case "debian-xive-${TEST_MACHINES[-1]}" debian_xive_case "${TEST_MACHINES[-1]}"
	for machine in "${TEST_MACHINES[@]}"; do
		for mode in xics xive; do
			CORES=2 run_case "debian-smp-$mode-$machine" debian_smp_case "$machine" "$mode"
		done
	done
}

# What only test --all runs.
long_cases() {
	local machine guest word NEEDS='build-hypervisor build-checker'
	for machine in "${TEST_MACHINES[@]}"; do
		for guest in debian13-64k debian13-4k debian12; do
			# The first of these is in every test run.
			[[ $machine-$guest != "${TEST_MACHINES[0]}-debian13-64k" ]] || continue
			run_case "$guest-$machine" debian_case "$machine" "$guest"
		done
		for word in stress_hpt stress_slb disable_1tb_segments; do
			run_case "debian13-64k-$word-$machine" debian_case "$machine" debian13-64k "$word"
		done
		run_case "shell-$machine" shell_case "$machine"
		run_case "reboot-$machine" reboot_case "$machine"
		CORES=2 run_case "storm-$machine" storm_case "$machine"
		run_case "partitions-restart-50-$machine" partitions_restart_case "$machine" 50
	done
	CORES=2 run_case "partitions-restart-debian-${TEST_MACHINES[0]}" partitions_restart_debian_case "${TEST_MACHINES[0]}"
	CORES=2 run_case "partitions-soak-${TEST_MACHINES[0]}" partitions_soak_case "${TEST_MACHINES[0]}"
	newest_cases
}

# boot_to_end MACHINE OPTIONS...: boots, expects status 0. The console is the case's log.
boot_to_end() {
	local machine=$1 status=0
	shift
	[[ -f $HYPERVISOR_ELF ]] || skip "the hypervisor does not build"
	"$ROOT/run-qemu.sh" --machine "$machine" "${MACHINE_OPTIONS[@]}" --timeout "${OPT_TIMEOUT:-600}" "$@" \
		"${QEMU_OPTIONS[@]}" || status=$?
	case $status in
	0) ;;
	1) fail "status 1: the hypervisor crashed" ;;
	3) fail "status 3: the guest was stopped by an error" ;;
	124) fail "status 124: did not end in ${OPT_TIMEOUT:-600} s" ;;
	*) fail "status $status instead of 0: see the end of the log" ;;
	esac
}

# expect_line LOG PATTERN: the console has a line that is all PATTERN.
expect_line() {
	tr -d '\r' <"$1" | grep -Ea "$2" >/dev/null || fail "the console has no line like: $2"
}

# The console of the case of that name, or where newest.sh runs it once more, of that one.
console_of() { printf '%s\n' "$TEST_LOGS/${CONSOLE_PREFIX:-}$1.log"; }

# The built-in guest's summary; its failed checks are named in the log, as FAIL lines.
expect_builtin() {
	local summary
	summary=$(tr -d '\r' <"$1" | grep -Ea '^builtin: [0-9]+ passed, [0-9]+ failed$' | tail -n 1)
	[[ -n $summary ]] || fail "the built-in guest printed no summary"
	[[ $summary == *', 0 failed' ]] || fail "$summary"
}

# The tests that run in the hypervisor itself, before any guest.
selftest_case() {
	PENSTOCK_APPEND=penstock.selftest=1 boot_to_end "$1" --builtin
	expect_line "$(console_of "selftest-$1")" '^kernel: selftest: [0-9]+ passed, 0 failed$'
}

# The hypervisor dies, says how, and the script ends with 1. With several processors it dies on one that
# did not boot.
last_words_case() {
	local machine=$1 death=$2 smp=${3:-1} status=0 log
	log=$(console_of "last-words-$death${3:+-smp$3}")
	[[ -f $HYPERVISOR_ELF ]] || skip "the hypervisor does not build"
	PENSTOCK_APPEND=penstock.selftest=$death "$ROOT/run-qemu.sh" --machine "$machine" "${MACHINE_OPTIONS[@]}" \
		--smp "$smp" --timeout 120 --builtin "${QEMU_OPTIONS[@]}" || status=$?
	((status == 1)) || fail "status $status instead of 1"
	case $death in
	panic) expect_line "$log" '^penstock: PANIC: ' ;;
	illegal-instruction) expect_line "$log" '^penstock: illegal instruction \(0xe40\) in the hypervisor at 0x2' ;;
	stray-load) expect_line "$log" '^penstock: machine check \(0x200\) in the hypervisor at 0x2.*MSR 0x9' ;;
	esac
	expect_line "$log" '^ +called from: 0x2'
	((smp == 1)) || expect_line "$log" '^kernel: thread [01] \(PIR 0x[04]\) is to die$'
	[[ $death == panic ]] || expect_line "$log" '^ +r28 [0-9a-f]{16}'
}

builtin_case() {
	boot_to_end "$1" --builtin
	expect_builtin "$(console_of "builtin-$1")"
}

# The same guest on one of two threads, never idle, with memory that is backed at first touch: the other
# thread backs what it does not touch, and then nothing is hidden from the hardware any more.
backed_ahead_case() {
	local tries=0
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	PARTITION_BACKING=lazy open_session backed-ahead "$1" --smp 2 --kernel "$BUILTIN_ELF" --guest-memory 256M --append wait
	wait_for 'builtin: waits for a key'
	printf '\035' >&3
	wait_for 'penstock> '
	until grep -aq '^Backed memory: *262144 KiB' "$console" && grep -aq '^Hidden: *0' "$console"; do
		((tries++ < 60)) || fail 'memory that its guest does not touch is not backed, or not shown'
		sleep 1
		printf 'dominfo guest\nhpt guest\n' >&3
	done
	# It starts over, with its memory as it is.
	printf 'reboot guest\nhpt guest check\n' >&3
	wait_for 'guest: page table is sound'
	printf '\035' >&3
	wait_for 'builtin: waits for a key' 2
	printf 'x' >&3
	end_session 0
	expect_count "$console" '^builtin: [0-9]+ passed, 0 failed$' 1
}

# The same guest in exploitation mode: it works on the interrupt controller itself.
builtin_xive_case() {
	local log
	log=$(console_of "builtin-xive-$1")
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	boot_to_end "$1" --kernel "$BUILTIN_ELF" --guest-memory 256M --interrupts xive
	expect_builtin "$log"
	expect_line "$log" '^builtin: 10000 IPIs by XIVE took [0-9]+ ticks$'
}

# The same guest on two virtual processors, on a thread each or taking turns on one, with XICS calls and in
# exploitation mode, and with memory that is backed before and at the first touch.
builtin_vcpus_case() {
	local log name=builtin-vcpus
	(($2 == 2)) || name+=-shared
	log=$(console_of "$name-$1")
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	boot_to_end "$1" --smp "$2" --kernel "$BUILTIN_ELF" --guest-memory 256M --guest-vcpus 2
	expect_builtin "$log"
	PARTITION_BACKING=lazy boot_to_end "$1" --smp "$2" --kernel "$BUILTIN_ELF" --guest-memory 256M \
		--guest-vcpus 2 --interrupts xive
	expect_builtin "$log"
	expect_count "$log" '^ok both-processors-work-on-the-same-groups$' 2
	expect_count "$log" '^ok after-reboot-the-second-processor-is-stopped$' 2
	(($2 == 1)) || expect_count "$log" '^kernel: guest: on threads [01], [01]$' 2
}

# Debian on two virtual processors of two threads, by XICS calls or in exploitation mode: memory stress
# on both, interrupts between them, and the second one offline and online again.
debian_smp_case() {
	local machine=$1 mode=$2 log before
	log=$(console_of "debian-smp-$mode-$machine")
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	boot_to_end "$machine" --smp 2 --guest-vcpus 2 --kernel "$(guest_kernel debian13-64k)" \
		--initrd "$INITRD_TEST" --append "console=hvc0 smp" --interrupts "$mode"
	expect_line "$log" '^kernel: guest: on threads 0, 1$'
	expect_line "$log" '^penstock-guest: userspace up, .*, 2 CPU\(s\), '
	expect_count "$log" '^mmstress: [0-9]+ checks, 0 failures$' 4
	expect_count "$log" '^penstock-guest: CPU [01] had [0-9]{2,} IPIs$' 2
	expect_count "$log" '^penstock-guest: round [123], 1 CPU online$' 3
	expect_count "$log" '^penstock-guest: round [123], 2 CPUs online again$' 3
}

# Debian in exploitation mode, to userspace, through mmstress, to power-off.
debian_xive_case() {
	local log
	log=$(console_of "debian-xive-$1")
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	boot_to_end "$1" --kernel "$(guest_kernel debian13-64k)" --initrd "$INITRD_TEST" \
		--append "console=hvc0 mmstress" --interrupts xive
	expect_line "$log" '^.*xive: Interrupt handling initialized with spapr backend$'
	expect_line "$log" '^mmstress: [0-9]+ checks, 0 failures$'
}

# POWER9 has the instruction that flushes the L1 data cache; QEMU takes it for nothing.
mitigations_case() {
	PENSTOCK_APPEND=penstock.mitigations=on boot_to_end powernv9 --builtin
	expect_line "$(console_of mitigations)" '^kernel: L1D flush at each entry of a guest$'
	expect_builtin "$(console_of mitigations)"
}

# The same guest without its ELF headers, at the address that it is linked for.
raw_image_case() {
	have powerpc64le-linux-gnu-objcopy || skip "powerpc64le-linux-gnu-objcopy is not installed"
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	powerpc64le-linux-gnu-objcopy -O binary "$BUILTIN_ELF" "$FILES/builtin.raw"
	boot_to_end "$1" --kernel "$FILES/builtin.raw" --load-address 0x400000 --guest-memory 256M
	expect_builtin "$(console_of raw-image)"
}

builtin_smp_case() {
	for _ in 1 2 3; do
		boot_to_end "$1" --builtin --smp 2
		expect_builtin "$(console_of builtin-smp)"
	done
}

# debian_case MACHINE GUEST [WORD]: to userspace, through mmstress, to power-off.
debian_case() {
	local machine=$1 guest=$2 word=${3:-} kernel
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel "$guest")
	[[ -s $kernel ]] || skip "the kernel of $guest cannot be had here"
	boot_to_end "$machine" --kernel "$kernel" --initrd "$INITRD_TEST" --append "console=hvc0 mmstress $word"
	expect_line "$(console_of "$guest${word:+-$word}-$machine")" '^mmstress: [0-9]+ checks, 0 failures$'
}

# A Debian guest resizes its page table all the time while it uses it, by its kernel's debugfs file, and its
# memory is right during that and after it. Its own table is of order 22.
hpt_resize_case() {
	local log kernel vcpus=$2
	log=$(console_of "hpt-resize-debian-vcpus$vcpus-$1")
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	VCPUS=$vcpus write_partitions "$FILES/resize.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD_TEST\"); };" \
		"debian:memory = <0 0x20000000>; hpt-order = <22>; hpt-resize-order = <24>; kernel = <&k>; initrd = <&i>;
		bootargs = \"console=hvc0 hpt_order=24,22,23,20,22,21\";"
	boot_to_end "$1" --smp "$vcpus" --partitions "$FILES/resize.dts"
	expect_count "$log" '^mmstress: [0-9]+ checks, 0 failures$' 2
	expect_count "$log" '^penstock-guest: mmstress ended with status 0$' 2
	# The table grows and shrinks, by the kernel's word too.
	expect_line "$log" '^hpt_order: 24 of 24$'
	expect_line "$log" '^hpt_order: 22 of 22$'
	expect_line "$log" '^hpt_order: 21 of 21$'
}

# open_session NAME MACHINE OPTIONS...: boots. What is typed goes to descriptor 3; the console is in
# $console.
open_session() {
	local machine=$2
	console=$FILES/$1.console CONSOLE_SHOWN=
	shift 2
	[[ -f $HYPERVISOR_ELF ]] || skip "the hypervisor does not build"
	rm -f "$FILES/input" "$console"
	mkfifo "$FILES/input"
	"$ROOT/run-qemu.sh" --machine "$machine" "${MACHINE_OPTIONS[@]}" --timeout "${OPT_TIMEOUT:-600}" "$@" \
		"${QEMU_OPTIONS[@]}" <"$FILES/input" >"$console" &
	pid=$!
	exec 3>"$FILES/input"
}

# start_session NAME MACHINE: boots the default guest to its shell.
start_session() {
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	open_session "$1" "$2"
	wait_for 'penstock-guest: userspace up'
}

# end_session STATUS: waits for the end, which must be this.
end_session() {
	local status=0
	wait "$pid" || status=$?
	exec 3>&-
	cat "$console"
	CONSOLE_SHOWN=1
	((status == $1)) || fail "status $status instead of $1"
}

# wait_for TEXT [COUNT]: until the console of the session has that many lines with the text.
wait_for() {
	until (($(grep -ac "$1" "$console" 2>/dev/null) >= ${2:-1})); do
		kill -0 "$pid" 2>/dev/null || fail "the run ended before the console had: $1"
		sleep 0.2
	done
}

# A session in the default guest's shell by piped standard input. The answer differs from what is
# typed, which the console echoes.
shell_case() {
	start_session "shell-$1" "$1"
	printf 'echo pen$((40+2))stock\n' >&3
	wait_for 'pen42stock'
	printf 'poweroff\n' >&3
	end_session 0
}

# A Debian guest that reboots starts again, and powers off in its second life.
reboot_case() {
	start_session "reboot-$1" "$1"
	printf 'reboot\n' >&3
	wait_for 'kernel: debian: restarts'
	wait_for 'penstock-guest: userspace up' 2
	printf 'poweroff\n' >&3
	end_session 0
}

# ^] reaches the monitor while a guest runs; its commands answer, and destroy is the user's end.
monitor_case() {
	start_session monitor "$1"
	printf '\035' >&3
	wait_for 'penstock> '
	# Tab completes what is sure and lists the rest; the line is edited in its middle.
	printf 'li\t\nxominfo\001\033[3~d\005 d\t\nre\t\t\003shu\t\n' >&3
	wait_for 'shutdown: name of a partition missing'
	expect_line "$console" '^reboot  registers  resume$'
	expect_line "$console" '^ 1 +debian +running'
	expect_line "$console" '^ +H_ENTER +[0-9]+'
	# Back to the guest, which has gone on.
	printf '\035' >&3
	printf 'echo pen$((40+2))stock\n' >&3
	wait_for 'pen42stock'
	# A flood of output arrives whole.
	printf 'seq 1 $((19999+1))\n' >&3
	wait_for '^20000'
	[[ $(tr -d '\r' <"$console" | grep -Eac '^[0-9]+$') == 20000 ]] || fail "lines of a flood were lost"
	printf '\035destroy debian\n' >&3
	end_session 130
}

# The built-in guest draws and changes eight rows; a screenshot after each is exactly that picture, the
# second by way of the rows that changed.
framebuffer_case() {
	have python3 || skip "python3 is not installed"
	[[ -f $HYPERVISOR_ELF && -f $BUILTIN_ELF ]] || skip "the hypervisor or the built-in guest does not build"
	console=$FILES/framebuffer.console
	rm -f "$FILES/input" "$console"
	mkfifo "$FILES/input"
	"$ROOT/run-qemu.sh" --machine "$1" "${MACHINE_OPTIONS[@]}" --timeout "${OPT_TIMEOUT:-600}" \
		--kernel "$BUILTIN_ELF" --guest-memory 256M --framebuffer 640x480x32 \
		"${QEMU_OPTIONS[@]}" <"$FILES/input" >"$console" &
	pid=$!
	exec 3>"$FILES/input"
	framebuffer_shot 'framebuffer: eight bars' 1 eight-bars
	framebuffer_shot 'framebuffer: eight rows in orange' 2 changed-rows
	# The other rows of their pages alone, and not the whole picture again.
	expect_line "$console" '(^|> )@screenshot 1 guest 2 640x480x32 2560 little changed 8 [0-9a-f]{8}$'
	end_session 0
	expect_builtin "$console"
}

# framebuffer_shot TEXT NUMBER PICTURE: when the console shows the text, takes that screenshot, compares
# it, and gives the guest the key that leads on.
framebuffer_shot() {
	wait_for "$1"
	printf '\035screenshot guest\n' >&3
	wait_for "^@screenshot-end guest $2 "
	python3 "$ROOT/kernel/scripts/screenshot.py" guest "$console" -o "$FILES/$3.png"
	python3 "$ROOT/kernel/tests/bars.py" "$FILES/$3.png" "$3"
	printf '\035' >&3
	# Typed too early after it, a key would still be the monitor's.
	sleep 1
	printf 'x' >&3
}
