#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# fuzz.sh SECONDS [TARGET...]: runs each fuzz target (boot/fuzz, kernel/fuzz, mm/fuzz) for SECONDS,
# or only the targets named. Needs cargo-fuzz and a C++ compiler; without them it says so, names what it
# skipped, and ends with 0. Finds end with 1; the input is kept where the message says.
#
# The stable compiler serves: coverage instrumentation is the compiler's own, sanitizers are not
# used, as the code under test has nearly no unsafe code on the host. What a run learns is kept
# under target/fuzz and used by the next one.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"

# Folder of the crate, target, and what it starts from beside the committed seeds.
TARGETS=(
	"boot flat_tree boot/tests/data"
	"kernel partition_tree kernel/src/config/testdata"
	"kernel kernel_image"
	"kernel guest_program"
	"kernel rtas_call"
	"kernel console_input"
	"mm stream_parse"
	"mm stream_passes"
	"kernel control_call"
)

say() { printf 'fuzz: %s\n' "$*"; }

usage() {
	say "usage: kernel/scripts/fuzz.sh SECONDS [TARGET...]" >&2
	exit 2
}

[[ ${1:-} =~ ^[1-9][0-9]{0,5}$ ]] || usage
seconds=$1
shift
wanted=" $* "

chosen=()
for line in "${TARGETS[@]}"; do
	read -r _ target _ <<<"$line"
	[[ $# == 0 || $wanted == *" $target "* ]] || continue
	chosen+=("$line")
done
# A name that is not one of ours is a mistake, not a wish for nothing.
(($# == 0 || ${#chosen[@]} == $#)) || usage

missing=
cargo fuzz --version >/dev/null 2>&1 || missing="cargo-fuzz is not installed (cargo install cargo-fuzz)"
command -v c++ >/dev/null || missing=${missing:-"there is no C++ compiler"}
if [[ -n $missing ]]; then
	for line in "${chosen[@]}"; do
		read -r _ target _ <<<"$line"
		say "skip $target: $missing"
	done
	exit 0
fi

# The coverage flags are unstable ones; this is how a stable compiler takes them.
export RUSTC_BOOTSTRAP=1
status=0
for line in "${chosen[@]}"; do
	read -r crate target start <<<"$line"
	corpus=target/fuzz/corpus/$target
	log=target/fuzz/$target.log
	artifacts=target/fuzz/artifacts/$target
	mkdir -p "$corpus" "$artifacts"
	sources=("$ROOT/$corpus")
	for folder in "$crate/fuzz/seeds/$target" "$start"; do
		[[ -z $folder || ! -d $folder ]] || sources+=("$ROOT/$folder")
	done
	if cargo fuzz run --fuzz-dir "$crate/fuzz" --target-dir "$ROOT/target/fuzz/$crate" -s none \
		"$target" "${sources[@]}" -- -max_total_time="$seconds" -max_len=8192 -timeout=10 \
		-artifact_prefix="$ROOT/$artifacts/" >"$log" 2>&1 </dev/null; then
		say "ok $target: $(sed -n 's/^Done \([0-9]*\) runs in \([0-9]*\) .*/\1 runs in \2 s/p' "$log")"
	else
		status=1
		say "FAIL $target: $(grep -m 1 -E "panicked at|ERROR: libFuzzer|^error" "$log" || echo "see the log") ($log)"
		grep -A 2 "panicked at" "$log" | sed -n 1,3p || true
	fi
done
exit "$status"
