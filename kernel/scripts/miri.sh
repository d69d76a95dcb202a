#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# miri.sh [CRATE...]: the host tests of arch, boot, mm, xive and kernel under Miri, which finds
# undefined behaviour that a test run does not show: once for x86-64, once for powerpc64, which is
# big-endian, so that a forgotten byte order is found too. Where Miri cannot be had it says so and
# ends with 0.
#
# Miri comes with nightly toolchains only, as a component (rustup component add --toolchain nightly miri
# rust-src); PENSTOCK_MIRI_TOOLCHAIN names another one than "nightly".
# It is some hundred times slower than the machine: each property test tries PENSTOCK_CASES cases,
# by default 1, tests that read a whole tree thousands of times are left out, and a crate is stopped
# after PENSTOCK_MIRI_SECONDS, by default 900, which is told.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"

CRATES=(arch boot mm xive kernel)
TARGETS=(x86_64-unknown-linux-gnu powerpc64-unknown-linux-gnu)
TOOLCHAIN=${PENSTOCK_MIRI_TOOLCHAIN:-nightly}
SECONDS_EACH=${PENSTOCK_MIRI_SECONDS:-900}

# Parts of the names of tests that read firmware's or a partition's tree at every length, or with
# thousands of changes.
LEFT_OUT=(every_truncation mutated fdt::tests:: memmap::tests::firmware)

say() { printf 'miri: %s\n' "$*"; }

(($# == 0)) || CRATES=("$@")
for crate in "${CRATES[@]}"; do
	[[ -f $crate/Cargo.toml ]] || {
		say "usage: kernel/scripts/miri.sh [CRATE...]" >&2
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
skips=()
for name in "${LEFT_OUT[@]}"; do skips+=(--skip "$name"); done
say "left out: tests with ${LEFT_OUT[*]} in their names"
mkdir -p "$CARGO_TARGET_DIR"

status=0
for target in "${TARGETS[@]}"; do
	log=$CARGO_TARGET_DIR/setup-$target.log
	if ! cargo "+$TOOLCHAIN" miri setup --target "$target" >"$log" 2>&1 </dev/null; then
		say "skip $target: its standard library cannot be built (${log#"$ROOT"/})"
		continue
	fi
	for crate in "${CRATES[@]}"; do
		log=$CARGO_TARGET_DIR/$crate-$target.log
		result=0
		timeout "$SECONDS_EACH" cargo "+$TOOLCHAIN" miri test --manifest-path "$crate/Cargo.toml" \
			--lib --target "$target" -- "${skips[@]}" >"$log" 2>&1 </dev/null || result=$?
		# A crate that was stopped has no line of totals; its tests have a line each.
		passed=$(grep -c '^test .* \.\.\. ok$' "$log") || true
		case $result in
		0) say "ok $crate $target: $passed tests" ;;
		124) say "skip rest of $crate $target: $passed tests passed in $SECONDS_EACH s, others remain" ;;
		*)
			status=1
			say "FAIL $crate $target: $(grep -m 1 -oE 'error: .*|panicked at.*|test .*\.\.\. FAILED' "$log" || echo "status $result") (${log#"$ROOT"/})"
			;;
		esac
	done
done
exit "$status"
