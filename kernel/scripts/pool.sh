# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
#
# The cases of a test run, as many at a time as there are processors: each has a log and a folder of
# its own, and what came of it is told in the order in which the cases were named, whichever ended
# first. Most cases keep one processor busy, so a run takes about half the time on two.

# Of each case by its number: what run_case was told, where it stands (waiting, running, ended,
# unwanted), and in the end its status and how long it took.
CASE_NAMES=() CASE_COMMANDS=() CASE_NEEDS=() CASE_AFTER=() CASE_CORES=() CASE_TELLERS=()
CASE_STATES=() CASE_STARTS=() CASE_STATUSES=() CASE_SECONDS=()
# The process of each case that runs, by its number.
RUNNING=()
# How many cases were told, and processors without a case.
TOLD=0 CORES_FREE=0
PASSED=0 FAILED=0 SKIPPED=0

# A machine of a case has up to 4 GiB of memory, of which it touches less than this.
CASE_MEMORY=$((2 * 1024 * 1024))

# Lines of a failed case's log that the run shows at its end, each of at most so many characters.
LAST_LINES=30 LAST_WIDTH=200

# Inside a case. Both end it. What a machine that it talks to had said until then is in its log.
fail() {
	if [[ -n ${console:-} && -f $console && -z ${CONSOLE_SHOWN:-} ]]; then
		cat "$console"
		# What follows begins a line of its own.
		[[ -z $(tail -c 1 "$console") ]] || printf '\n'
	fi
	printf 'why: %s\n' "$*"
	exit 1
}
skip() {
	printf 'why: %s\n' "$*"
	exit 77
}

# run_case NAME COMMAND...: one case, to be run by run_pool. These are read where it is called:
#   NEEDS   names of earlier cases that must have ended before, and run with it
#   AFTER   the same, but only where they run at all
#   CORES   how many processors it keeps busy, by default 1
#   TELLER  the function that tells what came of it, by default tell_case
run_case() {
	local case=${#CASE_NAMES[@]}
	CASE_NAMES[case]=$1
	shift
	printf -v "CASE_COMMANDS[case]" '%q ' "$@"
	CASE_NEEDS[case]=${NEEDS:-}
	CASE_AFTER[case]=${AFTER:-}
	CASE_CORES[case]=${CORES:-1}
	CASE_TELLERS[case]=${TELLER:-tell_case}
	CASE_STATES[case]=waiting
}

# expect_cases [PATTERN...]: each is of a case. A name that is mistyped would pass otherwise.
expect_cases() {
	local pattern patterns name
	for pattern in "$@"; do
		patterns=("$pattern")
		for name in "${CASE_NAMES[@]}"; do
			if is_chosen "$name"; then continue 2; fi
		done
		usage_error "--case $pattern: no case of this run has such a name; --all adds some"
	done
}

# choose_cases [PATTERN...]: the cases with such names, or all, and unless WITHOUT_NEEDS is set those that they
# need.
choose_cases() {
	local patterns=("${@:-*}") case
	local -A needed=()
	# What a case needs was named before it.
	for ((case = ${#CASE_NAMES[@]} - 1; case >= 0; case--)); do
		if is_chosen "${CASE_NAMES[case]}" || [[ -n ${needed[${CASE_NAMES[case]}]:-} ]]; then
			[[ -n ${WITHOUT_NEEDS:-} ]] || need_cases "${CASE_NEEDS[case]}"
		else
			CASE_STATES[case]=unwanted
		fi
	done
}

# Whether one of the caller's patterns has this name.
is_chosen() {
	local pattern
	for pattern in "${patterns[@]}"; do
		# shellcheck disable=SC2053 # a pattern
		[[ $1 != $pattern ]] || return 0
	done
	return 1
}

need_cases() {
	local name
	for name in $1; do
		needed[$name]=1
	done
}

print_cases() {
	local case
	for case in "${!CASE_NAMES[@]}"; do
		[[ ${CASE_STATES[case]} == unwanted ]] || printf '%s\n' "${CASE_NAMES[case]}"
	done
}

# How many cases run at a time: PENSTOCK_JOBS, or one for each processor, as far as memory reaches.
pool_size() {
	local size memory
	size=${PENSTOCK_JOBS:-$(nproc)}
	memory=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
	if [[ -z ${PENSTOCK_JOBS:-} ]] && ((size > memory / CASE_MEMORY)); then
		size=$((memory / CASE_MEMORY))
	fi
	printf '%d\n' $((size < 1 ? 1 : size))
}

# Runs all cases that were chosen.
run_pool() {
	local size
	size=$(pool_size)
	CORES_FREE=$size
	# Each case says here when it ends. "wait" does not do: it may miss one of two that end at once.
	mkfifo "$TEST_LOGS/ends"
	exec {ENDS}<>"$TEST_LOGS/ends"
	rm "$TEST_LOGS/ends"
	trap stop_cases EXIT
	# No more than this: a trap inside "read" is left in the middle when the time of "read" is over.
	trap 'printf "stop\n" >&"$ENDS"' INT TERM HUP
	start_cases "$size"
	tell_cases
	while ((${#RUNNING[@]} > 0)); do
		show_running
		await_case
		start_cases "$size"
		tell_cases
	done
	trap - EXIT INT TERM HUP
}

# Starts what may start, in order. One that needs more processors than are free waits for them, and lets
# later ones pass.
start_cases() {
	local case
	local -A unfinished=()
	for case in "${!CASE_NAMES[@]}"; do
		((CORES_FREE > 0)) || break
		if [[ ${CASE_STATES[case]} == waiting ]] && nothing_unfinished "${CASE_NEEDS[case]} ${CASE_AFTER[case]}"; then
			((CASE_CORES[case] <= $1)) || CASE_CORES[case]=$1
			((CASE_CORES[case] > CORES_FREE)) || start_case "$case"
		fi
		[[ ${CASE_STATES[case]} != @(waiting|running) ]] || unfinished[${CASE_NAMES[case]}]=1
	done
}

nothing_unfinished() {
	local name
	for name in $1; do
		[[ -z ${unfinished[$name]:-} ]] || return 1
	done
}

start_case() {
	local case=$1
	CASE_STATES[case]=running
	CASE_STARTS[case]=${EPOCHREALTIME/[.,]/}
	CORES_FREE=$((CORES_FREE - CASE_CORES[case]))
	# In a process group of its own, so that nothing that it started outlives it.
	set -m
	(
		set +e
		(run_in_case "${CASE_NAMES[case]}" "${CASE_COMMANDS[case]}") {ENDS}>&-
		printf '%d %d\n' "$case" "$?" >&"$ENDS"
	) >"$(log_of "${CASE_NAMES[case]}")" 2>&1 </dev/null &
	set +m
	RUNNING[case]=$!
}

log_of() { printf '%s\n' "$TEST_LOGS/$1.log"; }

# FILES is a case's own folder.
run_in_case() {
	set -euo pipefail
	FILES=$TEST_LOGS/files/$1
	mkdir -p "$FILES"
	eval "$2"
}

# Waits for the end of one case.
await_case() {
	local case status line='' part
	# On a busy host the time may be up in the middle of a line.
	until IFS= read -r -t 2 -u "$ENDS" part && read -r case status <<<"$line$part"; do
		line+=$part
		if [[ -z $line ]] && find_lost_case; then break; fi
	done
	if [[ $case == stop ]]; then
		stop_cases
		exit "$EXIT_INTERRUPTED"
	fi
	end_group "${RUNNING[case]}"
	unset "RUNNING[case]"
	CASE_STATES[case]=ended
	CASE_STATUSES[case]=$status
	CASE_SECONDS[case]=$(((${EPOCHREALTIME/[.,]/} - CASE_STARTS[case] + 500000) / 1000000))
	CORES_FREE=$((CORES_FREE + CASE_CORES[case]))
}

# A case whose shell was killed, as where memory runs out, says nothing.
find_lost_case() {
	for case in "${!RUNNING[@]}"; do
		if ! kill -0 "${RUNNING[case]}" 2>/dev/null && ! read -r -t 0 -u "$ENDS"; then
			status=137
			return 0
		fi
	done
	return 1
}

# What a case left behind, such as a machine that a failed one had booted.
end_group() { kill -TERM -- "-$1" 2>/dev/null || true; }

# On every way out but the usual one: no case outlives the run, and what has ended is told.
stop_cases() {
	local process tries
	trap '' INT TERM HUP
	trap - EXIT
	for process in "${RUNNING[@]}"; do
		end_group "$process"
	done
	for process in "${RUNNING[@]}"; do
		for ((tries = 0; tries < 20; tries++)); do
			kill -0 -- "-$process" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL -- "-$process" 2>/dev/null || true
	done
	for ((; TOLD < ${#CASE_NAMES[@]}; TOLD++)); do
		[[ ${CASE_STATES[TOLD]} != ended ]] || "${CASE_TELLERS[TOLD]}" "$TOLD"
	done
}

# Tells of the cases that have ended, up to the first that has not.
tell_cases() {
	hide_running
	while ((TOLD < ${#CASE_NAMES[@]})); do
		case ${CASE_STATES[TOLD]} in
		ended) "${CASE_TELLERS[TOLD]}" "$TOLD" ;;
		unwanted) ;;
		*) break ;;
		esac
		TOLD=$((TOLD + 1))
	done
}

tell_case() {
	local name=${CASE_NAMES[$1]} seconds=${CASE_SECONDS[$1]} status=${CASE_STATUSES[$1]} log why
	log=$(log_of "$name")
	why=$(sed -n 's/^why: //p' "$log" | tail -n 1)
	case $status in
	0)
		PASSED=$((PASSED + 1))
		printf 'ok %s (%d s)\n' "$name" "$seconds"
		;;
	77)
		SKIPPED=$((SKIPPED + 1))
		printf 'skip %s: %s\n' "$name" "$why"
		;;
	*)
		FAILED=$((FAILED + 1))
		printf 'FAIL %s: %s (%d s, %s)\n' "$name" "${why:-status $status}" "$seconds" "${log#"$ROOT"/}"
		;;
	esac
}

# The last lines of each failed case's log: a run elsewhere may leave nothing but what it prints.
show_failures() {
	local case log
	for case in "${!CASE_NAMES[@]}"; do
		[[ ${CASE_STATES[case]} == ended && ${CASE_STATUSES[case]} != @(0|77) ]] || continue
		log=$(log_of "${CASE_NAMES[case]}")
		printf '%s ends with\n' "${log#"$ROOT"/}"
		tail -n "$LAST_LINES" "$log" | tr -cd '[:print:]\n\t' | cut -c "-$LAST_WIDTH" | sed 's/^/  | /'
	done
}

# On a terminal, the cases that run are the line below what was told.
show_running() {
	local case line=
	[[ -t 2 ]] || return 0
	for case in "${!RUNNING[@]}"; do
		line+=" ${CASE_NAMES[case]}"
	done
	printf '...%.75s\r' "$line" >&2
}

hide_running() { [[ ! -t 2 ]] || printf '\033[K' >&2; }
