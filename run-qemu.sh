#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# The entry to Penstock: sets up what is missing, builds, and boots the hypervisor under QEMU with a
# Linux guest, runs the tests, or prints the table of costs. ./run-qemu.sh --help shows every shape.
# The parts are in kernel/scripts/.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in common options apt setup initramfs guests build partition launch; do
	# shellcheck source=/dev/null
	source "$ROOT/kernel/scripts/$part.sh"
done

parse_options "$@"
case $COMMAND in
boot) run_boot ;;
test)
	# shellcheck source=kernel/scripts/test.sh
	source "$ROOT/kernel/scripts/test.sh"
	run_tests
	;;
bench)
	# shellcheck source=kernel/scripts/bench.sh
	source "$ROOT/kernel/scripts/bench.sh"
	run_bench
	;;
esac
