# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # what is set here is read by the other parts
#
# What every other script file uses: where things lie, and how the scripts talk.
# ROOT is set by run-qemu.sh before this file is read.

TARGET_DIR=$ROOT/target
GUESTS_DIR=$TARGET_DIR/guests
RUST_TARGET=powerpc64le-unknown-none
HYPERVISOR_ELF=$TARGET_DIR/$RUST_TARGET/release/penstock

# Exit statuses, as the README lists them.
EXIT_BUG=1
EXIT_USAGE=2
EXIT_TIMEOUT=124
EXIT_INTERRUPTED=130

# One line for each thing that the scripts do. It goes to standard error, so that standard output
# is the console of the machine (or the result of a test run) and nothing else.
say() { printf 'run-qemu: %s\n' "$*" >&2; }

# Wrong usage, refused input, set-up that cannot be completed: one line, status 2.
die() {
	say "$*"
	exit "$EXIT_USAGE"
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command with its output kept in a log; shows the end of the log only when it fails.
# The step is announced first: a user who waits wants to know for what.
step() {
	local title=$1 log=$2
	shift 2
	say "$title"
	mkdir -p "$(dirname "$log")"
	if ! "$@" >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		return 1
	fi
}

# A SIZE (digits, then nothing, K, M or G) in bytes. Prints nothing and fails when it is not one.
size_to_bytes() {
	local number unit=1
	[[ $1 =~ ^([0-9]{1,12})([KMGkmg]?)$ ]] || return 1
	number=$((10#${BASH_REMATCH[1]}))
	case ${BASH_REMATCH[2]} in
	K | k) unit=1024 ;;
	M | m) unit=$((1024 * 1024)) ;;
	G | g) unit=$((1024 * 1024 * 1024)) ;;
	esac
	# Anything above 2^52 bytes is no size of a real machine and would wrap the arithmetic below.
	((number <= (1 << 52) / unit)) || return 1
	printf '%s\n' $((number * unit))
}

# A path that stays right when the working directory changes.
absolute_path() {
	case $1 in
	/*) printf '%s\n' "$1" ;;
	*) printf '%s/%s\n' "$PWD" "$1" ;;
	esac
}
