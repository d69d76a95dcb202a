# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2154,SC2034 # console is set by open_session; NEEDS is for run_case
#
# Cases on the machine with several partitions. What a session needs is in boot.sh.

partition_cases() {
	local machine smp NEEDS='build-hypervisor build-checker'
	for machine in "${TEST_MACHINES[@]}"; do
		run_case "partitions-builtin-$machine" partitions_builtin_case "$machine"
		run_case "partitions-xive-$machine" partitions_xive_case "$machine"
		run_case "partitions-restart-$machine" partitions_restart_case "$machine"
		run_case "partitions-irqs-$machine" partitions_irqs_case "$machine"
		CORES=2 run_case "threads-selftest-$machine" threads_selftest_case "$machine"
		CORES=2 run_case "threads-builtin-$machine" threads_builtin_case "$machine"
		CORES=2 run_case "threads-monitor-$machine" threads_monitor_case "$machine"
		CORES=2 run_case "threads-balance-$machine" threads_balance_case "$machine"
		CORES=2 run_case "threads-moving-$machine" threads_moving_case "$machine"
		run_case "partitions-shared-$machine" partitions_shared_case "$machine"
		CORES=2 run_case "xive-ipis-$machine" xive_ipis_case "$machine"
		run_case "xive-narrow-$machine" xive_narrow_case "$machine"
	done
	run_case "partitions-weights-${TEST_MACHINES[0]}" partitions_weights_case "${TEST_MACHINES[0]}"
	run_case "partitions-provoked-${TEST_MACHINES[0]}" partitions_provoked_case "${TEST_MACHINES[0]}"
	for smp in 1 2; do
		CORES=$smp run_case "threads-spin-smp$smp" threads_spin_case "${TEST_MACHINES[0]}" "$smp"
	done
	CORES=2 run_case "threads-debian-${TEST_MACHINES[0]}" threads_debian_case "${TEST_MACHINES[0]}"
	run_case "partitions-no-memory-${TEST_MACHINES[0]}" partitions_no_memory_case "${TEST_MACHINES[0]}"
	run_case "partitions-shared-debian-${TEST_MACHINES[-1]}" partitions_shared_debian_case "${TEST_MACHINES[-1]}"
	run_case "partitions-debian-${TEST_MACHINES[0]}" partitions_debian_case "${TEST_MACHINES[0]}"
	CORES=2 run_case "partitions-shutdown-${TEST_MACHINES[0]}" partitions_shutdown_case "${TEST_MACHINES[0]}"
	run_case "partitions-shutdown-early-${TEST_MACHINES[-1]}" partitions_shutdown_early_case "${TEST_MACHINES[-1]}"
	run_case "partitions-busy-${TEST_MACHINES[-1]}" partitions_busy_case "${TEST_MACHINES[-1]}"
}

# write_partitions FILE.dts IMAGES NAME:PROPERTIES...: a tree with these images and partitions, each
# of one processor, or of VCPUS. POOL, where it is set, is the pool's size in bytes.
write_partitions() {
	local file=$1 images=$2 partition
	shift 2
	{
		printf '/dts-v1/;\n/ {\n\tcompatible = "penstock,partitions-v1";\n'
		printf '\t#address-cells = <2>;\n\t#size-cells = <2>;\n\timages { %s };\n\tpartitions {\n' "$images"
		[[ -z ${POOL:-} ]] || printf '\t\tmemory-pool = <0 %d>;\n' "$POOL"
		for partition in "$@"; do
			printf '\t\t%s { vcpus = <%d>; %s };\n' "${partition%%:*}" "${VCPUS:-1}" "${partition#*:}"
		done
		printf '\t};\n};\n'
	} >"$file"
}

# builtin_partitions FILE.dts NAME:BOOTARGS[:PROPERTIES]...: each runs the built-in guest.
builtin_partitions() {
	local file=$1 partition name bootargs properties partitions=()
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	shift
	for partition in "$@"; do
		IFS=: read -r name bootargs properties <<<"$partition"
		partitions+=("$name:memory = <0 0x10000000>; kernel = <&b>; hpt-resize-order = <22>; memory-backing = \"lazy\"; bootargs = \"$bootargs\"; $properties")
	done
	write_partitions "$file" "b: builtin { data = /incbin/(\"$BUILTIN_ELF\"); };" "${partitions[@]}"
}

# expect_count LOG PATTERN COUNT: the console has so many lines that are all PATTERN.
expect_count() {
	local count
	count=$(tr -d '\r' <"$1" | grep -Eac "$2" || true)
	((count == $3)) || fail "the console has $count lines like: $2, not $3"
}

# exits_of NAME COUNT: of the COUNTth "stats NAME" in the session's console, a line "NAME VALUE" of each
# count: full exits by reason, and hypervisor calls.
exits_of() {
	tr -d '\r' <"$console" | awk -v name="$1" -v wanted="$2" '
		$0 ~ name ": [0-9.]+ s in the guest$" { seen++; part = "" }
		seen != wanted { next }
		/^Exits: / { part = "exit"; next }
		/^Storage faults: / { part = ""; next }
		/^Hypervisor calls: / { part = "call"; next }
		/^  [a-zA-Z]/ && part != "" {
			match($0, / [0-9]+( |$)/)
			what = substr($0, 3, RSTART - 3)
			sub(/ +$/, "", what)
			gsub(/ +/, "-", what)
			print part "-" what, substr($0, RSTART) + 0
			next
		}
		/^[^ ]/ { part = "" }'
}

# exits_between NAME FROM TO: what was added from one "stats NAME" to a later one.
exits_between() {
	{ exits_of "$1" "$2" | sed 's/ / -/' && exits_of "$1" "$3"; } |
		awk '{ sum[$1] += $2 } END { for (what in sum) if (sum[what]) print what, sum[what] }' | sort
}

# sum_of LINES PATTERN: of the counts whose names match.
sum_of() { awk -v pattern="$2" '$1 ~ pattern { sum += $2 } END { print sum + 0 }' <<<"$1"; }

# wait_for_stats NAME COUNT: until that many "stats NAME" have been printed, with all their calls.
wait_for_stats() {
	wait_for "$1: [0-9.]* s in the guest" "$2"
	wait_for '^Hypervisor calls: ' "$2"
	sleep 1
}

# 100,000 interrupts between two processors, each on a thread of its own: none takes an exit or a call.
# What there is is the hypervisor's own timer, now and then, and what the session does.
xive_ipis_case() {
	local counts timer others calls seconds
	builtin_partitions "$FILES/ipis.dts" 'ipis:ipis:interrupt-mode = "xive"; pinned = <0 1>;'
	sed -i 's/\<ipis { vcpus = <1>/ipis { vcpus = <2>/' "$FILES/ipis.dts"
	open_session "xive-ipis-$1" "$1" --smp 2 --partitions "$FILES/ipis.dts"
	wait_for 'builtin: ready for 100000 IPIs'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'stats ipis\n' >&3
	wait_for_stats ipis 1
	printf '\035' >&3
	# Typed too early after it, a key would still be the monitor's.
	sleep 1
	printf 'x' >&3
	wait_for 'builtin: IPIs took [0-9]* ticks'
	printf '\035stats ipis\n' >&3
	wait_for_stats ipis 2
	printf '\035' >&3
	sleep 1
	printf 'x' >&3
	end_session 0
	expect_line "$console" '^builtin: 1 passed, 0 failed$'
	expect_line "$console" '^kernel: ipis: on threads 0, 1, pinned$'
	expect_line "$console" '^builtin: 100000 IPIs in [0-9]+ interrupts$'
	counts=$(exits_between ipis 1 2)
	printf '%s\n' "$counts"
	timer=$(sum_of "$counts" '^exit-hypervisor-decrementer$')
	others=$(($(sum_of "$counts" '^exit-') - timer))
	calls=$(sum_of "$counts" '^call-')
	calls=$((calls - $(sum_of "$counts" '^call-H_(GET|PUT)_TERM_CHAR$')))
	((timer > 0)) || fail "no timer in the counts: they are not read right"
	# The boot thread looks after the console a hundred times a second; and between the keys there is more
	# than the run.
	seconds=$(tr -d '\r' <"$console" | sed -n 's/^builtin: IPIs took \([0-9]*\) ticks$/\1/p')
	seconds=$((seconds / 512000000))
	((timer < 120 * (seconds + 60))) || fail "$timer exits by the hypervisor's timer in $seconds s"
	((others < 40)) || fail "$others exits besides the timer's"
	((calls == 0)) || fail "$calls hypervisor calls"
}

# A guest makes narrow loads from the page of an interrupt source all the time: powernv9 answers each with a
# machine check, which is the guest's own. Another partition on the same thread passes its checks, and the
# log stays short.
xive_narrow_case() {
	local log lines
	log=$(console_of "xive-narrow-$1")
	builtin_partitions "$FILES/narrow.dts" 'narrow:narrow=20000:interrupt-mode = "xive";' two:
	boot_to_end "$1" --partitions "$FILES/narrow.dts"
	expect_count "$log" '^builtin: [0-9]+ passed, 0 failed$' 1
	expect_line "$log" '^builtin: 20000 narrow loads, [0-9]+ machine checks$'
	[[ $1 != powernv9 ]] || expect_line "$log" '^builtin: 20000 narrow loads, 20000 machine checks$'
	lines=$(tr -d '\r' <"$log" | grep -ac 'narrow: machine check at' || true)
	((lines < 100)) || fail "$lines lines of the log tell of machine checks"
}

# storm_case MACHINE: a guest that does nothing has a thread for itself; with a partition on the other thread
# that interrupts itself as fast as it can it takes no more exits than without, and the hypervisor executes no
# more instructions on its thread.
storm_case() {
	local calm storm seconds=20 marks
	builtin_partitions "$FILES/storm.dts" "storm:storm=$seconds:interrupt-mode = \"xive\"; pinned = <0>;" \
		'still:spin:pinned = <1>;'
	build_plugin "$FILES/count.so"
	[[ -n $WITHOUT_PLUGIN ]] ||
		QEMU_OPTIONS=(-- "${QEMU_EXTRA[@]}" -plugin "$FILES/count.so,out=$FILES/counts")
	open_session "storm-$1" "$1" --smp 2 --partitions "$FILES/storm.dts"
	wait_for 'builtin: is to be calm'
	printf '\035' >&3
	wait_for 'penstock> '
	storm_stats 1 'stats still'
	wait_for 'builtin: is to storm'
	printf '\035' >&3
	storm_stats 2 'stats still'
	wait_for 'builtin: [0-9]* interrupts sent'
	printf '\035' >&3
	storm_stats 3 'stats still\ndestroy still'
	end_session 0
	expect_line "$console" '^builtin: [0-9]{5,} interrupts sent$'
	calm=$(sum_of "$(exits_between still 1 2)" '^exit-')
	storm=$(sum_of "$(exits_between still 2 3)" '^exit-')
	printf 'exits of the still one: %d while it is calm, %d in the storm\n' "$calm" "$storm"
	((calm > 0)) || fail "no exits in the counts: they are not read right"
	((storm <= calm + 4)) || fail "$storm exits in the storm, $calm without"
	if [[ -n $WITHOUT_PLUGIN ]]; then
		printf 'instructions are not counted: %s\n' "$WITHOUT_PLUGIN"
		return
	fi
	# Thread 1 is CPU 1.
	marks=$(sed -n 's/^mark //p' "$FILES/counts" | cut -d' ' -f2 | paste -sd' ')
	read -r -a marks <<<"$marks"
	((${#marks[@]} == 4)) || fail "the plugin saw ${#marks[@]} marks, not 4"
	calm=$((marks[1] - marks[0]))
	storm=$((marks[3] - marks[2]))
	printf 'instructions of the hypervisor on its thread: %d while it is calm, %d in the storm\n' "$calm" "$storm"
	((calm > 0)) || fail "no instructions in the counts: they are not read right"
	((storm <= calm + calm / 10)) || fail "$storm instructions in the storm, $calm without"
}

# storm_stats COUNT COMMANDS: the figures of the still one, and the key that the other one waits for.
storm_stats() {
	printf '%b\n' "$2" >&3
	wait_for_stats still "$1"
	printf '\035' >&3
	# Typed too early after it, a key would still be the monitor's.
	sleep 1
	printf 'x' >&3
}

# Two guests that nobody watches: both pass all their checks, resizes of the page table among them,
# each in the other's turns, and the console is the second's when the first has ended. One is told of
# pages of 4 KiB only, the other of 64 KiB too; their real modes have such pages.
partitions_builtin_case() {
	local log
	log=$(console_of "partitions-builtin-$1")
	builtin_partitions "$FILES/two.dts" 'one:largest=4096:largest-page = <0x1000>;' \
		'two:largest=65536:largest-page = <0x10000>;'
	boot_to_end "$1" --partitions "$FILES/two.dts"
	expect_count "$log" '^builtin: [0-9]+ passed, 0 failed$' 2
	expect_count "$log" '^kernel: (one|two): restarts$' 2
	expect_line "$log" '^kernel: one: shut off$'
	expect_line "$log" '^kernel: two: shut off$'
}

# Two guests in exploitation mode and one that makes XICS calls: no context inherits anything of the
# one that was on the thread before it.
partitions_xive_case() {
	local log
	log=$(console_of "partitions-xive-$1")
	builtin_partitions "$FILES/three.dts" 'one::interrupt-mode = "xive";' 'two::interrupt-mode = "xics";' \
		'three::interrupt-mode = "xive";'
	boot_to_end "$1" --partitions "$FILES/three.dts"
	expect_count "$log" '^builtin: [0-9]+ passed, 0 failed$' 3
	expect_count "$log" '^ok xive-reset$' 2
}

# A guest that works on the interrupt controller itself: the monitor shows which pages of it the guest
# has, and that all is given back at its end.
partitions_irqs_case() {
	local figures sources blocks sources_after blocks_after
	builtin_partitions "$FILES/two.dts" 'one:wait:interrupt-mode = "xive";' two:wait
	open_session "partitions-irqs-$1" "$1" --partitions "$FILES/two.dts"
	wait_for 'builtin: waits for a key'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'irqs\nirqs one\ndestroy one\nirqs\nstart one\nirqs nobody\n' >&3
	wait_for '^Held: ' 3
	wait_for 'error: no partition nobody'
	expect_count "$console" '^one: xive$' 2
	expect_count "$console" '^two: xics$' 2
	# The sources for its own use, the console's, and that of power events.
	# Those of the other mode are two.
	expect_count "$console" '^  0x[0-9a-f]+ +0x[0-9a-f]+ +edge .*( 0x[0-9a-f]{16}){2}$' 24
	expect_count "$console" '^  CPU 0: VP 0x[0-9a-f]+, on .* thread, escalation 0x[0-9a-f]+ PQ 01$' 2
	figures=$(tr -d '\r' <"$console" | sed -n 's/^Held: \([0-9]*\) interrupt numbers, \([0-9]*\) .*/\1 \2/p' | xargs)
	read -r _ _ sources blocks sources_after blocks_after <<<"$figures"
	((sources - sources_after == 10 && blocks - blocks_after == 1)) || fail "held before and after: $figures"
	printf 'console two\nx' >&3
	wait_for 'kernel: two: gave its memory back'
	printf '\035console one\nx' >&3
	end_session 0
	expect_count "$console" '^builtin: [0-9]+ passed, 0 failed$' 2
}

# One partition is busy all the time; the other is destroyed in the middle of its work and started
# again, five times or as often as is said. Nothing is lost by that, and the first one notices nothing.
partitions_restart_case() {
	local i figures times=${2:-5}
	builtin_partitions "$FILES/two.dts" one:wait two:wait
	open_session "partitions-restart-$1" "$1" --timeout "${OPT_TIMEOUT:-1800}" --partitions "$FILES/two.dts"
	wait_for 'builtin: waits for a key'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'irqs\n' >&3
	wait_for '^Held: '
	for ((i = 1; i <= times; i++)); do
		printf 'destroy two\nirqs\n' >&3
		wait_for 'kernel: two: gave its memory back' "$i"
		printf 'list\nstart two\nirqs\n' >&3
		wait_for 'kernel: two: running' "$i"
	done
	# Both have a source for the console, and an IPI; while one is gone, so are its own.
	wait_for '^Held: ' $((1 + 2 * times))
	expect_count "$console" '^(one|two): xics$' $((2 + 3 * times))
	expect_count "$console" '^  0x1000 +0x[0-9a-f]+ +edge ' $((2 + 3 * times))
	expect_count "$console" '^  CPU 0: VP 0x[0-9a-f]+, on (a|no) thread, IPI 0x[0-9a-f]+ PQ [01]{2}$' $((2 + 3 * times))
	figures=$(tr -d '\r' <"$console" | grep -a '^Held: ' | sort | uniq -c | awk '{ print $1 }' | sort -n | xargs)
	[[ $figures == "$times $((times + 1))" ]] || fail "not the same interrupts each time: $figures"
	expect_count "$console" '^ 1 +one +running$' "$times"
	expect_count "$console" '^ - +two +shut off$' "$times"
	figures=$(tr -d '\r' <"$console" | sed -n 's/^kernel: two: gave its memory back: //p' | sort -u)
	[[ $(wc -l <<<"$figures") == 1 ]] || fail "not the same memory each time: $figures"

	printf 'start two\nsuspend two\nsuspend two\nlist\nresume two\nresume two\nsuspend nobody\ndominfo\ndominfo two\n' >&3
	wait_for '^Hypervisor calls: '
	expect_line "$console" '^error: two is running$'
	expect_line "$console" '^kernel: two: paused \(by the operator\)$'
	expect_line "$console" '^error: two is paused \(by the operator\)$'
	expect_line "$console" '^ 2 +two +paused \(by the operator\)$'
	expect_line "$console" '^error: no partition nobody$'
	expect_line "$console" '^error: dominfo: name of a partition missing$'
	expect_line "$console" '^Name: +two$'

	# What the second one does to its registers all the time is not to be seen in the first one's.
	printf '\035x' >&3
	wait_for 'builtin: [0-9]* passed, 0 failed'
	# The second one has the console now.
	wait_for 'kernel: one: gave its memory back'
	printf 'x' >&3
	end_session 0
	expect_count "$console" '^builtin: [0-9]+ passed, 0 failed$' 2
}

# Three partitions on two threads: a Debian guest under stress that has one for itself, another one, and one
# that is busy all the time, which share what is left. The second Debian guest is destroyed in the middle of
# its stress and started again, fifty times or RESTARTS. Nothing is lost by that, and the others notice nothing.
partitions_restart_debian_case() {
	local i kernel properties figures times=${RESTARTS:-50} OPT_TIMEOUT=3600
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	kernel=$(guest_kernel debian13-64k)
	properties="memory = <0 0x18000000>; kernel = <&k>; initrd = <&i>;"
	write_partitions "$FILES/three.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD_TEST\"); };
		b: builtin { data = /incbin/(\"$BUILTIN_ELF\"); };" \
		"steady:$properties pinned = <1>; bootargs = \"console=hvc0 soak=$((4 * times))\";" \
		"mortal:$properties interrupt-mode = \"xive\"; bootargs = \"console=hvc0 soak=100000\";" \
		"busy:memory = <0 0x10000000>; kernel = <&b>; bootargs = \"wait\";"
	open_session "partitions-restart-debian-$1" "$1" --smp 2 --partitions "$FILES/three.dts"
	wait_for 'penstock-guest: round 1'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'irqs\nconsole mortal\n' >&3
	for ((i = 1; i <= times; i++)); do
		# The first time is that of the steady one.
		wait_for 'penstock-guest: userspace up' $((1 + i))
		# Well into the first round.
		sleep 1
		printf '\035destroy mortal\nmemmap\nirqs\n' >&3
		wait_for '^Held: ' $((2 * i))
		printf 'start mortal\nirqs\nconsole mortal\n' >&3
		wait_for '^Held: ' $((2 * i + 1))
	done
	wait_for 'penstock-guest: userspace up' $((1 + times))
	printf '\035console steady\n' >&3
	wait_for '^penstock-guest: soaked for '
	printf '\035destroy mortal\nconsole busy\n' >&3
	wait_for 'kernel: mortal: gave its memory back' $((times + 1))
	sleep 1
	printf 'x' >&3
	wait_for '^builtin: [0-9]* passed, 0 failed'
	printf '\035console steady\n' >&3
	sleep 1
	printf 'x\n' >&3
	end_session 0
	expect_count "$console" '^penstock-guest: soaked for [0-9]+ rounds, 0 runs failed$' 1
	expect_count "$console" '^builtin: [0-9]+ passed, 0 failed$' 1
	expect_count "$console" '(stall|lockup|BUG:|Oops)' 0
	# With and without it, the same numbers each time.
	figures=$(tr -d '\r' <"$console" | grep -a '^Held: ' | sort | uniq -c | awk '{ print $1 }' | sort -n | xargs)
	[[ $figures == "$times $((times + 1))" ]] || fail "not the same interrupts each time: $figures"
	figures=$(tr -d '\r' <"$console" | sed -n 's/^kernel: mortal: gave its memory back: //p' | sort -u)
	[[ $(wc -l <<<"$figures") == 1 ]] || fail "not the same memory each time: $figures"
	figures=$(tr -d '\r' <"$console" | grep -a '^Free: ' | sort -u)
	[[ $(wc -l <<<"$figures") == 1 ]] || fail "not the same free memory each time: $figures"
}

# What must not happen is made to happen to one partition: the memory behind the large pages that it
# was promised is in pieces, then the hypervisor finds an error of its own. It stops, with its
# registers shown, and the other one goes on.
partitions_provoked_case() {
	builtin_partitions "$FILES/provoked.dts" one:wait two:wait 'small:wait:largest-page = <0x10000>;'
	open_session "partitions-provoked-$1" "$1" --partitions "$FILES/provoked.dts"
	wait_for 'builtin: waits for a key'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'provoke small backing\ndestroy small\nprovoke one backing\n' >&3
	wait_for 'kernel: one: failed'
	expect_line "$console" '^error: its guest has no pages larger than 64 KiB$'
	expect_line "$console" \
		'^kernel: ERROR: one: guest real 0x[0-9a-f_]+: a page of 16384 KiB is wanted, and its backing has pages of 64 KiB$'
	expect_line "$console" '^kernel: ERROR: one: stopped: BackingTooSmall at 0x[0-9a-f]+$'
	# The page about it: the registers, the HPTE of the large page, and the calls.
	expect_line "$console" '^kernel: ERROR:   CPU 0 MSR 0x[0-9a-f]+ LR 0x.* LPCR 0x[0-9a-f]+$'
	expect_line "$console" '^kernel: ERROR:   SRR0 0x[0-9a-f]+ SRR1 0x[0-9a-f]+ DAR 0x[0-9a-f]+ DSISR 0x[0-9a-f]+$'
	expect_count "$console" '^kernel: ERROR:   r[0-9]+ +[0-9a-f]{16} [0-9a-f]{16} [0-9a-f]{16} [0-9a-f]{16}$' 8
	expect_line "$console" '^kernel: ERROR:   NIP 0x[0-9a-f]+: .*, HPTE 0x[0-9a-f]+ [0-9a-f]{16} [0-9a-f]{16}, (valid|hidden)$'
	expect_line "$console" '^kernel: ERROR:   fault 0x[0-9a-f]+: .*, HPTE 0x[0-9a-f]+ [0-9a-f]{16} [0-9a-f]{16}, hidden$'
	printf 'destroy one\nprovoke one error\nstart one\nprovoke one error\nlist\nconsole two\n' >&3
	wait_for 'kernel: one: failed' 2
	expect_count "$console" '^kernel: ERROR: one: stopped: Unknown\(0\) at 0x[0-9a-f]+$' 1
	# Three calls in a line; of 64 the last one stands alone.
	expect_count "$console" '^kernel: ERROR:   Last hypervisor calls, ' 2
	expect_line "$console" '^kernel: ERROR:     H_[A-Z_]+ 0x[0-9a-f]+ -?[0-9]+; H_[A-Z_]+ 0x[0-9a-f]+ -?[0-9]+; H_[A-Z_]+ 0x[0-9a-f]+ -?[0-9]+$'
	expect_line "$console" '^error: one is shut off$'
	expect_line "$console" '^ - +one +failed$'
	printf 'x' >&3
	end_session 0
	expect_count "$console" '^builtin: [0-9]+ passed, 0 failed$' 1
}

# Two Debian guests, which find their interrupts in either way, are asked to shut down and do so by
# themselves; one of them starts over before, unasked.
partitions_shutdown_case() {
	local kernel properties
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	properties="memory = <0 0x20000000>; kernel = <&k>; initrd = <&i>; bootargs = \"console=hvc0\";"
	write_partitions "$FILES/shutdown.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD\"); };" \
		"one:$properties" "two:$properties interrupt-mode = \"xive\";"
	open_session "partitions-shutdown-$1" "$1" --smp 2 --partitions "$FILES/shutdown.dts"
	wait_for 'penstock-guest: userspace up'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'reboot one\nconsole one\n' >&3
	wait_for 'penstock-guest: userspace up' 2
	# The shell is there only then, and init with it.
	# shellcheck disable=SC2016 # for the guests' shells
	printf 'echo o$((40+2))ne\n' >&3
	wait_for 'o42ne'
	printf '\035console two\n' >&3
	wait_for 'penstock-guest: userspace up' 3
	# shellcheck disable=SC2016
	printf 'echo t$((40+2))wo\n' >&3
	wait_for 't42wo'
	printf '\035irqs two\nsuspend one\nshutdown one\nresume one\nshutdown one\nshutdown two\nconsole two\n' >&3
	end_session 0
	expect_line "$console" '^kernel: one: restarts$'
	expect_line "$console" '^error: one is paused \(by the operator\)$'
	expect_count "$console" '^kernel: (one|two): asked to shut down$' 2
	# What a guest works on itself, it has mapped.
	expect_line "$console" '^    management 0x601[0-9a-f]+ -> 0x[0-9a-f]{16}, (entry|[0-9]+ entries:)( 0x[0-9a-f]+)+( \.\.\.)?$'
	expect_line "$console" '^    thread registers 0x60302031a0000 -> 0x[0-9a-f]{16}, (entry|[0-9]+ entries:)( 0x[0-9a-f]+)+( \.\.\.)?$'
	expect_count "$console" 'Power off requested' 2
	expect_count "$console" 'forcing the issue' 0
	expect_count "$console" '^kernel: (one|two): shut off$' 2
}

# A guest that works on the interrupt controller itself is asked to shut down before it has turned on what
# tells it so. It hears of it when it has.
partitions_shutdown_early_case() {
	local kernel
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	write_partitions "$FILES/early.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD\"); };" \
		"one:memory = <0 0x20000000>; kernel = <&k>; initrd = <&i>; bootargs = \"console=hvc0\"; interrupt-mode = \"xive\";"
	open_session "partitions-shutdown-early-$1" "$1" --partitions "$FILES/early.dts"
	# Firmware has read what comes earlier.
	wait_for '^kernel: one: starts '
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'shutdown one\nirqs\nconsole one\n' >&3
	end_session 0
	# The source was off then, and aimed at nobody.
	expect_line "$console" '^  0x1001 +0x[0-9a-f]+ +edge +- +- +0x1001 +01 off '
	expect_count "$console" '^kernel: one: asked to shut down$' 1
	expect_line "$console" 'Power off requested|reboot: Power down'
	expect_line "$console" '^kernel: one: shut off$'
}

# Two Debian guests of two virtual processors each, under stress on two threads for half an hour, or
# SOAK_SECONDS: no run fails, and the hypervisor has as much memory at the end as after the first round.
partitions_soak_case() {
	local kernel properties seconds=${SOAK_SECONDS:-1800} OPT_TIMEOUT
	OPT_TIMEOUT=$((seconds + 900))
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	properties="memory = <0 0x20000000>; kernel = <&k>; initrd = <&i>; bootargs = \"console=hvc0 soak=$seconds\";"
	VCPUS=2 write_partitions "$FILES/soak.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD_TEST\"); };" \
		"one:$properties" "two:$properties interrupt-mode = \"xive\";"
	open_session "partitions-soak-$1" "$1" --smp 2 --partitions "$FILES/soak.dts"
	wait_for 'penstock-guest: round 1'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'memmap\nconsole two\n' >&3
	wait_for '^penstock-guest: soaked for '
	printf '\035memmap\nconsole one\n' >&3
	wait_for '^penstock-guest: soaked for ' 2
	printf 'x\n\035console two\nx\n' >&3
	end_session 0
	expect_count "$console" '^penstock-guest: soaked for [0-9]+ rounds, 0 runs failed$' 2
	expect_count "$console" '^Free: ' 2
	[[ $(tr -d '\r' <"$console" | grep -a '^Free: ' | sort -u | wc -l) == 1 ]] || fail 'the free memory has changed'
	expect_count "$console" '(stall|lockup|BUG:|Oops)' 0
}

# A Debian guest that waits at its prompt, beside one that is always busy: what is typed reaches it.
partitions_busy_case() {
	local kernel
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	kernel=$(guest_kernel debian13-64k)
	write_partitions "$FILES/busy.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD\"); };
		b: builtin { data = /incbin/(\"$BUILTIN_ELF\"); };" \
		"debian:memory = <0 0x20000000>; kernel = <&k>; initrd = <&i>; bootargs = \"console=hvc0\";" \
		"busy:memory = <0 0x10000000>; kernel = <&b>; memory-backing = \"lazy\"; bootargs = \"wait\";"
	open_session "partitions-busy-$1" "$1" --partitions "$FILES/busy.dts"
	wait_for 'penstock-guest: userspace up'
	# shellcheck disable=SC2016 # for the guest's shell
	printf 'echo pen$((40+2))stock\n' >&3
	wait_for 'pen42stock'
	printf 'poweroff\n' >&3
	# The busy one has the console now; its checks pass too.
	wait_for 'kernel: debian: gave its memory back'
	printf 'x' >&3
	end_session 0
	expect_count "$console" '^builtin: [0-9]+ passed, 0 failed$' 1
}

# Every thread comes, hears each ring, and has room on its stack, in several layouts. Which thread boots
# is a race of firmware's.
threads_selftest_case() {
	local log layout layouts=(2 '4,sockets=1,cores=2,threads=2' '4,sockets=2,cores=1,threads=2')
	log=$(console_of "threads-selftest-$1")
	for layout in "${layouts[@]}"; do
		PENSTOCK_APPEND=penstock.selftest=1 \
			boot_to_end "$1" --builtin --memory 4G --smp "${layout%%,*}" -- -smp "$layout"
	done
	expect_count "$log" '^kernel: selftest: [0-9]+ passed, 0 failed$' 3
	expect_line "$log" '^kernel: 2 of 2 threads run, the boot thread is number [01]$'
	expect_count "$log" '^kernel: 4 of 4 threads run, the boot thread is number [0-3]$' 2
	expect_count "$log" '^kernel: thread [0-3]: 1000 rings, ' 7
	expect_count "$log" '^kernel: ok a_running_guest_is_virtualized$' 3
}

# Guests on threads of their own, one pinned, and a third one where the hypervisor puts it: on the thread
# that nobody is pinned to. Each passes all its checks.
threads_builtin_case() {
	local log
	log=$(console_of "threads-builtin-$1")
	builtin_partitions "$FILES/three.dts" one: two: three:
	sed -i 's/\<two { /two { pinned = <1>; /' "$FILES/three.dts"
	boot_to_end "$1" --smp 2 --partitions "$FILES/three.dts"
	expect_count "$log" '^builtin: [0-9]+ passed, 0 failed$' 3
	expect_count "$log" '^kernel: (one|two|three): restarts$' 3
	expect_line "$log" '^kernel: one: on thread 0$'
	expect_line "$log" '^kernel: two: on thread 1, pinned$'
	expect_line "$log" '^kernel: three: on thread 0$'
}

# The monitor's verbs on a partition that another thread runs. One that is pinned to a thread that does not
# exist is refused, before QEMU starts and by the hypervisor.
threads_monitor_case() {
	local i figures status=0
	builtin_partitions "$FILES/pinned.dts" one:wait two:wait
	sed -i 's/\<one { /one { pinned = <0>; /; s/\<two { /two { pinned = <1>; /' "$FILES/pinned.dts"
	"$ROOT/run-qemu.sh" "${MACHINE_OPTIONS[@]}" --smp 1 --machine "$1" --partitions "$FILES/pinned.dts" || status=$?
	((status == 2)) || fail "status $status instead of 2 for a thread that does not exist"
	status=0
	"$ROOT/run-qemu.sh" "${MACHINE_OPTIONS[@]}" --smp 2 --machine "$1" --timeout 300 \
		--partitions "$FILES/pinned.dts" -- -smp 1 || status=$?
	((status == 2)) || fail "the hypervisor says $status instead of 2 for a thread that does not exist"

	open_session "threads-monitor-$1" "$1" --smp 2 --partitions "$FILES/pinned.dts"
	wait_for 'builtin: waits for a key'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'trace\ntrace on\n' >&3
	wait_for '^0 events'
	for i in 1 2 3 4 5; do
		printf 'suspend two\nhpt two\nresume two\ndominfo two\nstats\nstats two\ndestroy two\n' >&3
		wait_for 'kernel: two: gave its memory back' "$i"
		printf 'start two\n' >&3
		wait_for 'kernel: two: on thread 1, pinned' $((i + 1))
	done
	expect_count "$console" '^kernel: two: paused \(by the operator\)$' 5
	expect_count "$console" '^Hypervisor calls: ' 10
	expect_count "$console" '^Entries: ' 5
	# All of it has happened, on both threads, and each exit took its time.
	expect_count "$console" '^ (one|two) +[1-9][0-9]* +[1-9][0-9]* +[0-9]+ +[0-9]+\.[0-9]{3}$' 10
	expect_count "$console" '^ [01] +0x[0-9a-f]+ +[1-9][0-9]* +[1-9][0-9]* +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+\.[0-9]{3}$' 10
	expect_count "$console" '^two: [0-9]+\.[0-9]{3} s in the guest$' 5
	# What is recorded is printed in steps, in the order of time, until it is switched off: first of one
	# partition, while others are recorded as before, then of all.
	printf 'trace two off\nsuspend one\nsuspend two\nresume two\nresume one\ntrace\ntrace off\nsuspend one\nresume one\ntrace one\n' >&3
	wait_for '^[1-9][0-9]* events' 2
	expect_count "$console" '^[0-9]+\.[0-9]{9} +[01] one +pause$' 2
	figures=$(tr -d '\r' <"$console" | sed -n '/ one  *pause$/,/ one  *resume$/p;/ one  *resume$/q')
	! grep -q ' two ' <<<"$figures" || fail "recorded after 'trace two off': $figures"
	printf 'trace two\ntrace 1\ntrace 0\ntrace 7\ntrace nobody\n' >&3
	wait_for 'error: no partition nobody'
	expect_line "$console" '^error: no thread 7$'
	expect_count "$console" '^[1-9][0-9]* events$' 5
	for i in start pause resume end 'board CPU 0' 'alight CPU 0' 'enter 0x[0-9a-f]+ LPCR 0x[0-9a-f]+' \
		'exit (virtualization|hypervisor-decrementer) at 0x[0-9a-f]+'; do
		expect_line "$console" "^[0-9]+\\.[0-9]{9} +[01] two +$i\$"
	done
	# Which thread boots is a race of firmware's; one does not kick itself.
	grep -qa 'the boot thread is number 1' "$console" ||
		expect_line "$console" '^[0-9]+\.[0-9]{9} +0 - +kick thread 1$'
	figures=$(tr -d '\r' <"$console" | sed -n '/trace 1$/,/ events$/p' | grep -aE '^[0-9]+\.[0-9]{9} ')
	sort -nc <<<"$figures" || fail 'the events are not in the order of time'
	! grep -qv ' 1 ' <<<"$(cut -d' ' -f2-6 <<<"$figures")" || fail 'thread 1 has events of another one'
	# By a ring, or on the boot thread by the service tick.
	expect_line "$console" '^  (virtualization|hypervisor-decrementer) +[1-9][0-9]* +[0-9]+\.[0-9]{3} +[0-9]+ (us|ms|s) +[0-9]+ (us|ms|s)$'
	figures=$(tr -d '\r' <"$console" | sed -n 's/^kernel: two: gave its memory back: //p' | sort -u)
	[[ $(wc -l <<<"$figures") == 1 ]] || fail "not the same memory each time: $figures"
	# A pause is not the time of the exit that it falls into.
	printf 'suspend two\n' >&3
	wait_for 'kernel: two: paused' 7
	sleep 6
	printf 'resume two\nstats two\nlist\n' >&3
	wait_for '^two: [0-9.]* s in the guest' 6
	wait_for '^ 2 *two *running'
	figures=$(tr -d '\r' <"$console" | grep -aE '^  (virtualization|hypervisor-decrementer) ' | tail -n 2)
	! grep -qE ' ([6-9]|[0-9]{2,}) s$' <<<"$figures" || fail "a pause is in the exits' times: $figures"
	printf '\035x' >&3
	wait_for 'kernel: one: gave its memory back'
	printf 'x' >&3
	end_session 0
	expect_count "$console" '^builtin: [0-9]+ passed, 0 failed$' 2
}

# ^] reaches the monitor while a pinned guest does nothing but spin with MSR[EE] clear, on the boot thread
# as on another; what is done to that guest is done.
threads_spin_case() {
	builtin_partitions "$FILES/spin.dts" spinning:spin
	sed -i "s/\<spinning { /spinning { pinned = <$(($2 - 1))>; /" "$FILES/spin.dts"
	open_session "threads-spin-smp$2" "$1" --smp "$2" --partitions "$FILES/spin.dts"
	wait_for 'builtin: spins'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'suspend spinning\nlist\nresume spinning\n' >&3
	wait_for 'kernel: spinning: running'
	expect_line "$console" '^ 1 +spinning +paused \(by the operator\)$'
	printf 'dominfo spinning\ndestroy spinning\n' >&3
	end_session 130
	(($2 == 1)) || expect_line "$console" '^kernel: spinning: on thread 1, pinned$'
}

# Two guests that do nothing but spin, on one thread, have its time by their weights, by the
# hypervisor's own account, within a twentieth.
partitions_weights_case() {
	local tries one three total=0
	builtin_partitions "$FILES/weights.dts" 'one:spin:weight = <50>;' 'three:spin:weight = <150>;'
	open_session "partitions-weights-$1" "$1" --smp 1 --icount --partitions "$FILES/weights.dts"
	wait_for 'builtin: spins'
	printf '\035' >&3
	wait_for 'penstock> '
	# Two hundred turns at least. Each look has the second one run alone for a few.
	for ((tries = 1; total < 2000; tries++)); do
		sleep $((8 * tries))
		printf 'suspend one\nsuspend three\ndominfo one\ndominfo three\nresume three\nresume one\n' >&3
		wait_for '^Hypervisor calls: ' $((2 * tries))
		read -r one three < <(tr -d '\r' <"$console" |
			sed -n 's/^CPU time: *\([0-9]*\)\.\([0-9]*\) s$/\1\2/p' | tail -n 2 | paste -sd' ')
		total=$((10#$one + 10#$three))
	done
	printf 'destroy one\ndestroy three\n' >&3
	end_session 130
	printf 'one had %d ms of %d\n' "$((10#$one))" "$total"
	((10#$one * 4 * 100 >= total * 95 && 10#$one * 4 * 100 <= total * 105)) ||
		fail "the weight of 50 of 200 had $((10#$one)) ms of $total"
}

# Three guests of two processors each on two threads, so that they move all the time, some of them with the
# interrupt controller in their own hands: each passes all its checks.
threads_moving_case() {
	local log
	log=$(console_of "threads-moving-$1")
	VCPUS=2 builtin_partitions "$FILES/three.dts" 'one::interrupt-mode = "xive";' two: 'three::interrupt-mode = "xive";'
	boot_to_end "$1" --smp 2 --partitions "$FILES/three.dts"
	expect_count "$log" '^builtin: [0-9]+ passed, 0 failed$' 3
	expect_count "$log" '^kernel: (one|two|three): restarts$' 3
	expect_count "$log" 'escalation' 0
}

# times_of PROPERTY COUNT: of the last COUNT "dominfo", that time in milliseconds.
times_of() {
	tr -d '\r' <"$console" | sed -n "s/^$1: *\\([0-9]*\\)\\.\\([0-9]*\\) s\$/\\1\\2/p" | tail -n "$2" | sed 's/^0*\(.\)/\1/'
}

# watch COUNT NAME...: what these partitions have of 20 s or so: a line "MS UPTIME" of each. COUNT "dominfo"
# came before.
watch() {
	local round count=$1 name before=() after=()
	shift
	for round in 1 2; do
		((round == 1)) || sleep 20
		for name in "$@"; do
			printf 'dominfo %s\n' "$name" >&3
			((++count))
			wait_for '^Hypervisor calls: ' "$count"
		done
		before=("${after[@]}")
		mapfile -t after < <(times_of 'CPU time' $#; times_of Uptime $#)
	done
	for ((round = 0; round < $#; round++)); do
		printf '%d %d\n' $((after[round] - before[round])) $((after[round + $#] - before[round + $#]))
	done
}

# Three guests that do nothing but spin have two thirds of a thread each, by the hypervisor's own account,
# within a tenth. When one of them ends the others have a thread each: one that waited has moved.
threads_balance_case() {
	local had uptime
	builtin_partitions "$FILES/three.dts" one:spin two:spin three:spin
	open_session "threads-balance-$1" "$1" --smp 2 --partitions "$FILES/three.dts"
	wait_for 'builtin: spins'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'trace on\n' >&3
	sleep 2
	watch 0 one two three | tee "$FILES/shared"
	while read -r had uptime; do
		((had * 3 * 10 > uptime * 2 * 9 && had * 3 * 10 < uptime * 2 * 11)) ||
			fail "one of three had $had ms of two threads in $uptime ms"
	done <"$FILES/shared"
	printf 'trace off\ntrace\nstats one\ndestroy two\n' >&3
	wait_for 'kernel: two: gave its memory back'
	sleep 1
	watch 7 one three | tee "$FILES/alone"
	while read -r had uptime; do
		((had * 10 > uptime * 9)) || fail "one of two had $had ms of two threads in $uptime ms"
	done <"$FILES/alone"
	printf 'destroy one\ndestroy three\n' >&3
	end_session 130
	[[ $(wc -l <"$FILES/shared") == 3 && $(wc -l <"$FILES/alone") == 2 ]] || fail 'not all have a CPU time'
	expect_line "$console" '^[0-9]+\.[0-9]{9} +[01] (one|two|three) +move CPU 0 from thread [01]$'
	expect_line "$console" '^CPU 0: +thread [01], [0-9]+\.[0-9]{3} s, moved [1-9][0-9]* times$'
}

# Two Debian guests on a thread each, to user space and off.
threads_debian_case() {
	local log kernel properties
	log=$(console_of "threads-debian-$1")
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	properties="memory = <0 0x20000000>; kernel = <&k>; initrd = <&i>; bootargs = \"console=hvc0 quick\";"
	write_partitions "$FILES/debian.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD\"); };" \
		"one:pinned = <0>; $properties" "two:pinned = <1>; $properties"
	boot_to_end "$1" --smp 2 --partitions "$FILES/debian.dts"
	expect_count "$log" 'userspace up, Linux ' 2
	expect_line "$log" '^kernel: two: on thread 1, pinned$'
	expect_line "$log" '^kernel: two: shut off$'
}

# shared_partitions FILE.dts POOL NAME:BOOTARGS...: each runs the built-in guest, from a pool.
shared_partitions() {
	local file=$1 POOL=$2 partition partitions=()
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	shift 2
	for partition in "$@"; do
		partitions+=("${partition%%:*}:memory = <0 0x8000000>; kernel = <&b>; memory-policy = \"shared\";
			memory-guaranteed = <0 0x200000>; bootargs = \"${partition#*:}\";")
	done
	write_partitions "$file" "b: builtin { data = /incbin/(\"$BUILTIN_ELF\"); };" "${partitions[@]}"
}

# One partition passes all checks on memory from a pool, and two with twice its size finish what they
# touch, for that fits.
partitions_shared_case() {
	local log
	log=$(console_of "partitions-shared-$1")
	shared_partitions "$FILES/shared.dts" $((128 << 20)) one:touch=40 two:touch=40 three:largest=65536
	boot_to_end "$1" --partitions "$FILES/shared.dts"
	expect_count "$log" '^builtin: touched 40 MiB, nothing lost$' 2
	expect_count "$log" '^kernel: (one|two|three): shut off$' 3
	expect_count "$log" 'paused' 0
	expect_builtin "$log"
}

# Two whose pages do not fit: both are held, and nothing is lost, for when one is destroyed the other
# goes on to its end.
partitions_no_memory_case() {
	shared_partitions "$FILES/shared.dts" $((40 << 20)) one:touch=32 two:touch=32
	open_session "partitions-no-memory-$1" "$1" --partitions "$FILES/shared.dts"
	wait_for 'kernel: one: paused (no memory)'
	wait_for 'kernel: two: paused (no memory)'
	printf '\035' >&3
	wait_for 'penstock> '
	printf 'list\nmemmap\nresume two\n' >&3
	# It tries again, and is held again.
	wait_for 'kernel: two: paused (no memory)' 2
	printf 'dominfo one\ndestroy two\n' >&3
	end_session 0
	expect_line "$console" '^kernel: one: running$'
	expect_line "$console" '^kernel: one: shut off$'
	expect_line "$console" '^ 1 +one +paused \(no memory\)$'
	expect_line "$console" '^ 2 +two +paused \(no memory\)$'
	expect_line "$console" '^Pool: +40960 KiB, 0 KiB free of which 0 KiB are promised$'
	expect_line "$console" '^Pool memory: +[0-9]+ KiB of 2048 KiB guaranteed, 131072 KiB at most$'
	expect_line "$console" '^Shared memory: +[0-9]+ KiB of images, which saves [0-9]+ KiB$'
	expect_count "$console" '^builtin: touched 32 MiB, nothing lost$' 1
}

# Two Debian guests of twice the pool's size from one image, side by side to user space and off.
partitions_shared_debian_case() {
	local log kernel properties POOL=$((512 << 20))
	log=$(console_of "partitions-shared-debian-$1")
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	properties="memory = <0 0x20000000>; kernel = <&k>; initrd = <&i>; bootargs = \"console=hvc0 quick\";
		memory-policy = \"shared\"; memory-guaranteed = <0 0x4000000>;"
	write_partitions "$FILES/debian.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD\"); };" \
		"one:$properties" "two:$properties"
	boot_to_end "$1" --partitions "$FILES/debian.dts"
	expect_count "$log" 'userspace up, Linux ' 2
	expect_line "$log" '^kernel: one: shut off$'
	expect_line "$log" '^kernel: two: shut off$'
	expect_count "$log" 'paused' 0
}

# Two Debian guests from one image, side by side to user space and off.
partitions_debian_case() {
	local log kernel properties
	log=$(console_of "partitions-debian-$1")
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	properties="memory = <0 0x20000000>; kernel = <&k>; initrd = <&i>; bootargs = \"console=hvc0 quick\";"
	write_partitions "$FILES/debian.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD\"); };" \
		"one:$properties" "two:$properties"
	boot_to_end "$1" --partitions "$FILES/debian.dts"
	expect_count "$log" 'userspace up, Linux ' 2
	expect_line "$log" '^kernel: one: shut off$'
	expect_line "$log" '^kernel: two: shut off$'
}
