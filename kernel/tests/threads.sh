# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2154 # console is set by open_session
#
# Cases on the machine about its threads, and who has them for how long. What they need is in partitions.sh,
# which lists them.

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
	figures=$(tr -d '\r' <"$console" | sed -n '/ one  *pause$/,/ one  *resume$/p' | sed '/ one  *resume$/,$d')
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
