# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2153 # PAYLOAD is set by partition.sh
#
# Starting QEMU, and the exit status. QEMU's own status says nothing: a payload that crashes resets
# the machine, which with -no-reboot ends it with 0. So the hypervisor gets a random word that no
# guest knows, and says "penstock: exit N WORD" before it powers off.

RUN_DIR=$TARGET_DIR/run
QEMU_PID=
INTERRUPTED=0
SAVED_TERMINAL=

# A folder of its own for each of several runs at a time; it is free again when the script ends.
claim_run_dir() {
	local base=$TARGET_DIR/run n
	for n in '' -{2..99}; do
		RUN_DIR=$base$n
		mkdir -p "$RUN_DIR"
		exec {RUN_LOCK}>"$RUN_DIR/lock"
		flock -n "$RUN_LOCK" && return 0
		exec {RUN_LOCK}>&-
	done
	die "99 runs at the same time are enough"
}

# Sets QEMU_COMMAND for the machine, the hypervisor and the payload (which may be none).
compose_command() {
	local payload=$1 accelerator=tcg,thread=single memory=${OPT_MEMORY^^} log append
	# QEMU takes a bare number for megabytes.
	[[ $memory == *[KMG] ]] || memory+=B
	EXIT_WORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	# Threads of the host for CPUs of the machine; counted instructions need a single one.
	if ((OPT_SMP > 1)) && [[ $OPT_ICOUNT == 0 ]]; then
		accelerator=tcg,thread=multi
	fi
	append="penstock.exit=$EXIT_WORD"
	[[ ! -t 0 ]] || append+=" penstock.interactive=1"
	[[ -z ${PENSTOCK_APPEND:-} ]] || append+=" $PENSTOCK_APPEND"
	# In an option list of QEMU a comma is written twice.
	log=$RUN_DIR/console.log
	QEMU_COMMAND=("$QEMU" -M "${OPT_MACHINE:-powernv9}" -smp "$OPT_SMP" -m "$memory"
		-accel "$accelerator" -no-reboot -display none -vga none -nic none -monitor none
		-chardev "stdio,id=con,signal=off,logfile=${log//,/,,}" -serial chardev:con
		-kernel "$HYPERVISOR_ELF")
	[[ -z $payload ]] || QEMU_COMMAND+=(-initrd "$payload")
	QEMU_COMMAND+=(-append "$append")
	[[ $OPT_ICOUNT == 0 ]] || QEMU_COMMAND+=(-icount shift=0)
	[[ $OPT_GDB == 0 ]] || QEMU_COMMAND+=(-gdb tcp::1234 -S)
	QEMU_COMMAND+=("${QEMU_EXTRA[@]}")
}

print_command() {
	local word line=
	for word in "${QEMU_COMMAND[@]}"; do
		[[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || word=${word@Q}
		line+="$word "
	done
	printf '%s\n' "${line% }"
}

# What QEMU did to the terminal is undone on every way out, and QEMU does not outlive the script.
on_exit() {
	if [[ -n $QEMU_PID ]] && kill -0 "$QEMU_PID" 2>/dev/null; then
		kill -TERM "$QEMU_PID" 2>/dev/null || true
	fi
	[[ -z $SAVED_TERMINAL ]] || stty "$SAVED_TERMINAL" 2>/dev/null || true
}

on_interrupt() {
	INTERRUPTED=1
	[[ -n $QEMU_PID ]] || exit "$EXIT_INTERRUPTED"
	kill -TERM "$QEMU_PID" 2>/dev/null || true
}

# How often QEMU is started, should it end while the firmware runs.
STARTS=3

# Runs QEMU_COMMAND to its end and returns the status of the run.
launch() {
	local status started limit=()
	if ! { true <&0; } 2>/dev/null; then
		exec </dev/null
	fi
	if [[ -t 0 ]]; then
		SAVED_TERMINAL=$(stty -g)
	fi
	if [[ -n $OPT_TIMEOUT ]]; then
		limit=(timeout --foreground --kill-after=5 "$OPT_TIMEOUT")
	fi
	trap on_exit EXIT
	trap on_interrupt INT TERM HUP
	[[ $OPT_GDB == 0 ]] || say "waiting for a debugger on port 1234: target remote :1234"
	for ((started = 1; ; started++)); do
		status=0
		start_qemu || status=$?
		if [[ $INTERRUPTED == 1 ]]; then
			return "$EXIT_INTERRUPTED"
		elif [[ -n $OPT_TIMEOUT ]] && ((status == 124 || status == 137)); then
			say "stopped after $OPT_TIMEOUT s (--timeout)"
			return "$EXIT_TIMEOUT"
		elif [[ $OPT_GDB == 1 ]] || ! ended_in_firmware || ((started == STARTS)); then
			break
		fi
		say "QEMU ended with status $status while the firmware ran; starting it again"
	done
	hypervisor_status "$status"
}

# Runs QEMU once, and returns its status.
start_qemu() {
	local status
	rm -f "$RUN_DIR/console.log"
	# In the background, so that a signal to the script is acted on at once; with the script's own
	# standard input, which a shell would otherwise take from a command in the background.
	"${limit[@]}" "${QEMU_COMMAND[@]}" <&0 {RUN_LOCK}>&- &
	QEMU_PID=$!
	# A trapped signal ends "wait" before QEMU has ended.
	while :; do
		status=0
		wait "$QEMU_PID" || status=$?
		kill -0 "$QEMU_PID" 2>/dev/null || break
	done
	QEMU_PID=
	[[ -f $RUN_DIR/console.log ]] || : >"$RUN_DIR/console.log"
	return "$status"
}

# Whether skiboot has written to the console, and the hypervisor has not. QEMU 10.0 aborts or resets the
# machine there once in some hundred boots on a busy host, when the firmware sets up the interrupt
# controller and PCI; it is not known to do so later.
ended_in_firmware() {
	grep -aq '^\[ *[0-9.]*,[0-9]\]' "$RUN_DIR/console.log" &&
		! grep -aqE '(kernel|penstock): ' "$RUN_DIR/console.log"
}

# hypervisor_status STATUS: what QEMU's end with that means. It is the number in the hypervisor's last
# line. Guest output before it may lack its line end, and the serial line ends lines with a carriage return.
hypervisor_status() {
	local number
	number=$(tr -d '\r' <"$RUN_DIR/console.log" |
		sed -n "s/.*penstock: exit \([0-9]\{1,3\}\) $EXIT_WORD\$/\1/p" | tail -n 1)
	if [[ -z $number ]] || ((number > 255)); then
		say "QEMU ended with status $1, without the hypervisor's exit line: the hypervisor crashed, or QEMU did not start"
		return "$EXIT_BUG"
	fi
	return "$number"
}

# The main job.
run_boot() {
	if [[ $OPT_DRY_RUN == 1 ]]; then
		QEMU=${PENSTOCK_QEMU:-qemu-system-ppc64}
		compose_command "$(payload_name)"
		print_command
		return 0
	fi
	setup_for_boot
	claim_run_dir
	# Input is refused before the long build.
	prepare_payload
	build_once build_hypervisor || die "the hypervisor does not build"
	compose_command "$PAYLOAD"
	launch
}

# Only what this run needs.
setup_for_boot() {
	setup_qemu
	setup_rust
	[[ $OPT_BUILTIN == 0 ]] || return 0
	[[ $OPT_PARTITIONS == *.dtb ]] || setup_tool dtc device-tree-compiler
	if [[ -z $OPT_KERNEL && -z $OPT_PARTITIONS ]] && ! setup_debian_guest debian13-64k; then
		[[ -z $ONE_OFF ]] || die "Debian's guest kernel cannot be had here (no Debian mirror): $ONE_OFF needs --kernel too"
		say "Debian's guest kernel cannot be had here (no Debian mirror can be reached): running the built-in guest"
		OPT_BUILTIN=1
	fi
}
