# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2154,SC2034 # console is set by open_session; QEMU_OPTIONS is for boot.sh
#
# Cases on the machine about interrupts: the exits that they take, of whom they concern and of others. What
# they need is in partitions.sh, which lists them.

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
	local calm storm seconds=20 marks times
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
	# Ten a second are the hypervisor's own, and on a busy host one part lasts longer than the other.
	mapfile -t times < <(tr -d '\r' <"$console" | sed -n 's/^still: \([0-9]*\)\.\([0-9]*\) s in the guest$/\1\2/p')
	times=($((10#${times[1]} - 10#${times[0]})) $((10#${times[2]} - 10#${times[1]})))
	printf 'exits of the still one: %d in %d ms while it is calm, %d in %d ms in the storm\n' "$calm" "${times[0]}" \
		"$storm" "${times[1]}"
	((calm > 0)) || fail "no exits in the counts: they are not read right"
	((storm <= calm * times[1] / times[0] + calm / 50 + 4)) || fail "$storm exits in the storm, $calm without"
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
