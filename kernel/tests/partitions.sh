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
	run_case "partitions-no-memory-debian-${TEST_MACHINES[0]}" partitions_no_memory_debian_case "${TEST_MACHINES[0]}"
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

# Two Debian guests of twice the pool's size from one image, side by side through a stress of their memory
# and off: what they touch fits, though it is more than what they were guaranteed.
partitions_shared_debian_case() {
	local kernel properties had POOL=$((512 << 20))
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	kernel=$(guest_kernel debian13-64k)
	# One round, which takes longer than this second.
	properties="memory = <0 0x20000000>; kernel = <&k>; initrd = <&i>; bootargs = \"console=hvc0 soak=1\";
		memory-policy = \"shared\"; memory-guaranteed = <0 0x4000000>;"
	write_partitions "$FILES/debian.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD_TEST\"); };" \
		"one:$properties" "two:$properties"
	open_session "partitions-shared-debian-$1" "$1" --partitions "$FILES/debian.dts"
	wait_for '^penstock-guest: soaked for '
	printf '\035console two\n' >&3
	wait_for '^penstock-guest: soaked for ' 2
	printf '\035dominfo one\ndominfo two\nmemmap\nconsole one\n' >&3
	wait_for '^Pool: '
	printf 'x\n\035console two\nx\n' >&3
	end_session 0
	expect_count "$console" '^penstock-guest: soaked for 1 rounds, 0 runs failed$' 2
	expect_count "$console" '^Pool memory: +[0-9]+ KiB of 65536 KiB guaranteed, 524288 KiB at most$' 2
	while read -r had; do
		((had > 2 * 65536)) || fail "a guest had $had KiB of the pool, not twice its guaranteed part"
	done < <(tr -d '\r' <"$console" | sed -n 's/^Pool memory: *\([0-9]*\) KiB of.*/\1/p')
	expect_count "$console" '^kernel: (one|two): shut off$' 2
	expect_count "$console" 'paused' 0
	expect_count "$console" '(stall|lockup|BUG:|Oops)' 0
}

# A Debian guest under a stress that touches more than is left for it is held in the middle. Another one goes
# through all of its own meanwhile, and off, for that fits what it was guaranteed. When a third partition ends
# there is memory for the first, which has lost nothing: the pages that it filled before are right.
partitions_no_memory_debian_case() {
	local kernel debian POOL=$((512 << 20))
	[[ -z $NO_GUEST ]] || skip "$NO_GUEST"
	[[ -f $BUILTIN_ELF ]] || skip "the built-in guest does not build"
	kernel=$(guest_kernel debian13-64k)
	debian='kernel = <&k>; initrd = <&i>; bootargs = "console=hvc0"; memory-policy = "shared";'
	write_partitions "$FILES/three.dts" \
		"k: kernel { data = /incbin/(\"$kernel\"); }; i: initrd { data = /incbin/(\"$INITRD_TEST\"); };
		b: builtin { data = /incbin/(\"$BUILTIN_ELF\"); };" \
		"third:memory = <0 0x10000000>; kernel = <&b>; bootargs = \"touch=96 wait\"; memory-policy = \"shared\";
			memory-guaranteed = <0 0x200000>;" \
		"greedy:memory = <0 0x2c000000>; $debian memory-guaranteed = <0 0x2000000>;" \
		"modest:memory = <0 0xc000000>; $debian memory-guaranteed = <0 0xc000000>;"
	open_session "partitions-no-memory-debian-$1" "$1" --partitions "$FILES/three.dts"
	wait_for 'builtin: waits for a key'
	printf '\035console greedy\n' >&3
	wait_for 'penstock-guest: userspace up'
	printf 'mmstress 160\n' >&3
	wait_for 'kernel: greedy: paused (no memory)'
	printf '\035memmap\ndominfo greedy\nconsole modest\n' >&3
	wait_for 'penstock-guest: userspace up' 2
	printf 'mmstress\n' >&3
	wait_for '^mmstress: [0-9]* checks, '
	expect_line "$console" '^mmstress: [0-9]+ checks, 0 failures$'
	printf '\035list\nconsole modest\n' >&3
	wait_for '^ 3 *modest *running'
	expect_line "$console" '^ 2 +greedy +paused \(no memory\)$'
	expect_count "$console" '^kernel: greedy: running$' 0
	printf 'poweroff\n' >&3
	wait_for 'kernel: modest: gave its memory back'
	printf '\035console third\nx' >&3
	wait_for 'kernel: third: gave its memory back'
	printf '\035console greedy\n' >&3
	wait_for '^mmstress: [0-9]* checks, ' 2
	printf '\035dominfo greedy\nconsole greedy\npoweroff\n' >&3
	end_session 0
	expect_line "$console" '^kernel: greedy: running$'
	expect_count "$console" '^mmstress: [0-9]+ checks, 0 failures$' 2
	expect_count "$console" '^builtin: touched 96 MiB, nothing lost$' 1
	expect_count "$console" '^kernel: (third|greedy|modest): shut off$' 3
	expect_count "$console" '^kernel: (third|modest): paused' 0
	expect_count "$console" '(BUG:|Oops)' 0
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
