#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# miri.sh [CRATE[::PART]...]: the host tests of arch, boot, mm, xive and kernel under Miri, which finds
# undefined behaviour that a test run does not show: once for x86-64, once for powerpc64, which is
# big-endian, so that a forgotten byte order is found too; of a crate only those with PART in their names.
# Where Miri cannot be had it says so and ends with 0.
#
# Miri comes with nightly toolchains only, as a component (rustup component add --toolchain nightly miri
# rust-src); PENSTOCK_MIRI_TOOLCHAIN names another one than "nightly", PENSTOCK_MIRI_TARGETS fewer targets.
# Which references may be used beside each other (Stacked Borrows) has nothing to do with the byte order, and
# to follow them takes two thirds of the time: that is done for the first target only.
# Miri is some hundred times slower than the machine: each property test tries PENSTOCK_CASES cases,
# by default 1. Tests that Miri ignores say why where they are (`cfg_attr(miri, ignore = ...)`) and here.
# As many tests run at a time as there are processors, or PENSTOCK_MIRI_JOBS. One that takes more than
# PENSTOCK_MIRI_SECONDS, by default 600, is stopped and named, and makes the end 1, as a failed one does;
# the others go on.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"

CRATES=(arch boot mm xive kernel)
TOOLCHAIN=${PENSTOCK_MIRI_TOOLCHAIN:-nightly}
SECONDS_EACH=${PENSTOCK_MIRI_SECONDS:-600}
JOBS=${PENSTOCK_MIRI_JOBS:-$(nproc)}
read -ra TARGETS <<<"${PENSTOCK_MIRI_TARGETS:-x86_64-unknown-linux-gnu powerpc64-unknown-linux-gnu}"

say() { printf 'miri: %s\n' "$*"; }

(($# == 0)) || CRATES=("$@")
for crate in "${CRATES[@]}"; do
	[[ -f ${crate%%::*}/Cargo.toml ]] || {
		say "usage: kernel/scripts/miri.sh [CRATE[::PART]...]" >&2
		exit 2
	}
done

if ! cargo "+$TOOLCHAIN" miri --version >/dev/null 2>&1; then
	say "skip all: toolchain $TOOLCHAIN has no Miri (rustup toolchain install nightly -c miri -c rust-src)"
	exit 0
fi

export PENSTOCK_CASES=${PENSTOCK_CASES:-1}
export CARGO_TARGET_DIR=$ROOT/target/miri
# Tables and fake memory are addressed by number, as on the machine; property tests read the
# environment and the clock; guest memory is accessed by bytes and by words, of which Miri's model of
# weak memory makes an internal error.
export MIRIFLAGS="-Zmiri-permissive-provenance -Zmiri-disable-isolation
	-Zmiri-disable-weak-memory-emulation ${MIRIFLAGS:-}"
export MIRIFLAGS=${MIRIFLAGS//[$'\n\t']/ } RUSTC_ICE=0
mkdir -p "$CARGO_TARGET_DIR"

# miri_test CRATE TARGET ARGUMENT...: the tests of a crate, with these arguments.
miri_test() {
	local crate=$1 target=$2
	shift 2
	cargo "+$TOOLCHAIN" miri test --manifest-path "$crate/Cargo.toml" --lib --target "$target" -- "$@"
}

# run_tests CRATE TARGET LOG NAME...: runs these tests, in this order, and adds a line for each to LOG.results:
# what became of it, and its name. All are run by one Miri, for it needs seconds to begin. After one that
# ends it, because it is stopped or because its behaviour is undefined, the rest is run by another one.
run_tests() {
	local crate=$1 target=$2 log=$3 line result pid out began
	shift 3
	while (($# > 0)); do
		# A group of its own, which ends with it.
		exec {out}< <(exec timeout 0 cargo "+$TOOLCHAIN" miri test --manifest-path "$crate/Cargo.toml" \
			--lib --target "$target" -- --test-threads=1 --exact "$@" 2>&1)
		pid=$!
		trap 'kill "$pid"; exit 1' TERM
		result=0 began=$SECONDS
		# The name comes when the test begins, the end of the line when it ends.
		while IFS= read -r -t "$SECONDS_EACH" line <&"$out" || {
			result=$?
			false
		}; do
			printf '%s\n' "$line" >>"$log"
			[[ $line =~ ^test\ .*\ \.\.\.\ (ok|FAILED|ignored)(,\ (.*))?$ ]] || continue
			printf '%s %d %s%s\n' "${BASH_REMATCH[1]}" $((SECONDS - began)) "$1" \
				"${BASH_REMATCH[3]:+: ${BASH_REMATCH[3]}}" >>"$log.results"
			began=$SECONDS
			shift
		done
		kill "$pid" 2>/dev/null || true
		wait "$pid" || true
		exec {out}<&-
		# What is left was not begun, but for the first.
		if (($# > 0)); then
			if ((result > 128)); then
				printf 'stopped %d %s\n' "$SECONDS_EACH" "$1" >>"$log.results"
			else
				printf 'FAILED %d %s\n' $((SECONDS - began)) "$1" >>"$log.results"
			fi
			shift
		fi
	done
}

trap 'kill $(jobs -p); exit 1' INT TERM
status=0
for target in "${TARGETS[@]}"; do
	[[ $target == "${TARGETS[0]}" ]] || MIRIFLAGS+=" -Zmiri-disable-stacked-borrows"
	log=$CARGO_TARGET_DIR/setup-$target.log
	if ! cargo "+$TOOLCHAIN" miri setup --target "$target" >"$log" 2>&1 </dev/null; then
		say "skip $target: its standard library cannot be built (${log#"$ROOT"/})"
		continue
	fi
	for chosen in "${CRATES[@]}"; do
		crate=${chosen%%::*} part=${chosen#"$crate"}
		log=$CARGO_TARGET_DIR/${chosen//::/-}-$target
		rm -f "$log".*
		if ! miri_test "$crate" "$target" --list ${part:+"${part#::}"} >"$log.list" 2>"$log.log" </dev/null; then
			say "FAIL $crate $target: its tests cannot be listed (${log#"$ROOT"/}.log)"
			status=1
			continue
		fi
		mapfile -t names < <(sed -n 's/: test$//p' "$log.list")
		for ((job = 0; job < JOBS; job++)); do
			mine=()
			for ((at = job; at < ${#names[@]}; at += JOBS)); do mine+=("${names[at]}"); done
			run_tests "$crate" "$target" "$log.$job" ${mine[@]+"${mine[@]}"} &
		done
		wait
		cat /dev/null "$log".*.results >"$log.results"
		count() { grep -c "^$1 " "$log.results" || true; }
		word=ok
		if grep -qE '^(FAILED|stopped) ' "$log.results"; then
			word=FAIL status=1
		fi
		say "$word $chosen $target: $(count ok) tests passed, $(count FAILED) failed," \
			"$(count stopped) stopped after $SECONDS_EACH s, $(count ignored) ignored (${log#"$ROOT"/}.*)"
		sed -nE "s/^(FAILED|stopped|ignored) [0-9]+ /miri:   \1 /p" "$log.results"
	done
done
exit "$status"
