#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# The test run's own test: cases that end in every way, several at a time, and a run that is stopped.
# pool.sh FOLDER: what it writes is there.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
FOLDER=$1

wrong() {
	printf 'why: %s\n' "$*"
	exit 1
}

ends() { sleep "$1"; }
leaves_a_process() {
	sleep 300 &
	printf '%d\n' $! >"$FILES/process"
	console=$FILES/console
	# As a console ends that waits for something to be typed.
	printf 'its\33 console' >"$console"
	fail "it fails: $*"
}
is_killed() { kill -KILL "$BASHPID"; }
# With all that would tell of its end.
is_lost() { kill -KILL 0; }
is_skipped() { skip "it's not here"; }
stops_at_an_error() {
	false
	printf 'goes on\n'
}
hangs() {
	printf '%d\n' "$BASHPID" >"$FILES/process"
	trap '' TERM
	while :; do sleep 1; done
}

# A run of its own: pool WORD [PATTERN...]
pool() {
	# shellcheck source=kernel/scripts/common.sh
	source "$ROOT/kernel/scripts/common.sh"
	TEST_LOGS=$FOLDER/logs
	rm -rf "$TEST_LOGS"
	mkdir -p "$TEST_LOGS"
	# shellcheck source=kernel/scripts/pool.sh
	source "$ROOT/kernel/scripts/pool.sh"
	run_case slow ends 1
	NEEDS=slow run_case needs-slow ends 0
	AFTER='needs-slow killed' run_case after ends 0
	CORES=2 run_case alone ends 0
	run_case fails leaves_a_process 'a  b' "it's"
	run_case killed is_killed
	run_case skipped is_skipped
	[[ $1 != lost ]] || run_case lost is_lost
	run_case error stops_at_an_error
	[[ $1 != hangs ]] || run_case hangs hangs
	choose_cases "${@:2}"
	PENSTOCK_JOBS=2 run_pool
	show_failures
	printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
}

# The order is that of the names, whichever ends first.
expect_order() {
	local told
	told=$(pool ends | sed -E "s/ ?\(?[0-9]+ s[,)].*//; s|^${FOLDER#"$ROOT"/}/||; / Killed /d")
	diff - <(printf '%s\n' "$told") <<-'END' || wrong "what was told differs"
		ok slow
		ok needs-slow
		ok after
		ok alone
		FAIL fails: it fails: a  b it's
		FAIL killed: status 137
		skip skipped: it's not here
		FAIL error: status 1
		logs/fails.log ends with
		  | its console
		  | why: it fails: a  b it's
		logs/killed.log ends with
		logs/error.log ends with
		4 passed, 3 failed, 1 skipped
	END
	gone "$FOLDER/logs/files/fails/process"
}

# What a case needs runs with it, and nothing else.
expect_needs() {
	local told
	told=$(pool ends needs-slow | wc -l)
	((told == 3)) || wrong "$told lines for one case and the one it needs"
	told=$(pool ends after | wc -l)
	((told == 2)) || wrong "$told lines for one case that is only after others"
	told=$(pool ends after 'k*' | wc -l)
	((told == 5)) || wrong "$told lines for two cases, one of which fails"
}

# One of which nothing is heard ends the run no less.
expect_lost() {
	local told
	told=$(pool lost lost)
	[[ $told == 'FAIL lost: status 137'*'lost.log ends with'*'0 passed, 1 failed, 0 skipped' ]] || wrong "a lost case: $told"
}

# The number of one that has ended may come in two parts.
expect_parts() {
	local told
	told=$(
		# shellcheck source=kernel/scripts/pool.sh
		source "$ROOT/kernel/scripts/pool.sh"
		end_group() { :; }
		exec {ENDS}< <(sleep 1 && printf 1 && sleep 3 && printf '2 0\n' && sleep 9)
		RUNNING[2]=$BASHPID RUNNING[12]=$BASHPID
		CASE_STARTS[12]=0 CASE_CORES[12]=1
		await_case
		printf '%s' "${CASE_STATES[12]:-} ${!RUNNING[*]}"
	)
	[[ $told == 'ended 2' ]] || wrong "of a number in two parts: $told"
}

# A run that is stopped tells what has ended, and leaves nothing behind.
expect_stop() {
	local run status=0
	pool hangs >"$FOLDER/told" &
	run=$!
	until [[ -s $FOLDER/logs/files/hangs/process ]]; do sleep 0.1; done
	kill -TERM "$run"
	wait "$run" || status=$?
	((status == 130)) || wrong "status $status of a run that was stopped"
	grep -q '^skip skipped' "$FOLDER/told" || wrong "a case that had ended was not told"
	gone "$FOLDER/logs/files/hangs/process"
}

# gone FILE: the process whose number is in the file has ended, or is about to.
gone() {
	local tries
	for ((tries = 0; tries < 50; tries++)); do
		kill -0 "$(cat "$1")" 2>/dev/null || return 0
		sleep 0.1
	done
	wrong "process $(cat "$1") is left, by ${1%/process}"
}

expect_order
expect_needs
expect_lost
expect_parts
expect_stop
