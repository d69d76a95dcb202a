# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
#
# Cases that need no machine: formatting, lints, the crates' own tests, and the build.

# How many random cases each property test tries here; plain cargo test takes a number for seconds.
CASES_IN_CI=2000

# The builds, which most other cases need.
build_cases() {
	run_case build-hypervisor build_hypervisor_case
	run_case build-tools build_tools
	AFTER=build-tools run_case build-tests cargo_at_root test --workspace --no-run
	AFTER=build-hypervisor run_case build-checker build_checker_case
}

# The long ones first: then two processors are done at about the same time. Those that build in one folder
# would only wait for each other's locks, so they come one after the other.
host_cases() {
	NEEDS=build-tests TELLER=tell_cargo_test run_case cargo-test cargo_test_case
	NEEDS=build-tests run_case model-hpt model_case
	NEEDS=build-tests run_case model-processors processors_case
	run_case cargo-test-big-endian big_endian_case
	run_case loom loom_case
	run_case fmt cargo_at_root fmt --all --check
	AFTER=build-tests run_case clippy cargo_at_root clippy --workspace --all-targets --quiet -- -D warnings
	AFTER=clippy run_case doc doc_case
	AFTER=build-checker run_case clippy-bare-metal clippy_bare_metal_case
	NEEDS=build-hypervisor run_case no-vector-code no_vector_code_case
	run_case shellcheck shellcheck_case
	run_case pipes pipes_case
	run_case pool pool_case
	NEEDS=build-tools run_case screenshot screenshot_case
	run_case hptdump hptdump_case
	run_case control-header control_header_case
}

# Nothing older may be tested in its place.
build_hypervisor_case() {
	rm -f "$HYPERVISOR_ELF" "$BUILTIN_ELF"
	build_hypervisor
}

cargo_at_root() { (cd "$ROOT" && cargo "$@"); }

doc_case() { RUSTDOCFLAGS='-D warnings' cargo_at_root doc --workspace --no-deps --quiet; }

shellcheck_case() {
	have shellcheck || skip "shellcheck is not installed"
	(cd "$ROOT" && shellcheck -x run-qemu.sh kernel/scripts/*.sh kernel/tests/*.sh kernel/guests/linux/*.sh .ci/run)
}

# A reader that ends at the first line it wants may end the writer before it by SIGPIPE, and with "pipefail"
# the script with it: now and then, on a busy host. Readers of a pipe read to its end ("sed -n 1p").
pipes_case() {
	local found
	found=$(cd "$ROOT" && grep -nE '\| *(head|grep (-[a-zA-Z]* )*-[a-zA-Z]*[qm]|sed .*[0-9/}$;] *q[^a-z])' \
		run-qemu.sh kernel/scripts/*.sh kernel/tests/*.sh .ci/run | grep -v 'grep -nE') || true
	[[ -z $found ]] || fail "reads a part of a pipe: $found"
}

# How this very run counts, orders and stops its cases.
pool_case() { "$ROOT/kernel/tests/pool.sh" "$FILES"; }

# The hypervisor's encoder of pictures and the script that reads them, against each other.
screenshot_case() {
	have python3 || skip "python3 is not installed"
	python3 "$ROOT/kernel/tests/screenshot.py" "$SCREENSHOTS"
}

# The hypervisor's own tests hold what it prints against the same text.
hptdump_case() {
	have python3 || skip "python3 is not installed"
	python3 "$ROOT/kernel/tests/hptdump.py"
}

# The control interface's records in C: the header asserts every size and offset, for compilers of
# 32 and 64 bits and of both byte orders, as far as they are here.
control_header_case() {
	local compiler tried=0
	local -a command
	for compiler in 'cc -m64' 'cc -m32' powerpc64le-linux-gnu-gcc powerpc64-linux-gnu-gcc powerpc-linux-gnu-gcc; do
		read -ra command <<<"$compiler"
		# Not every compiler has both widths.
		"${command[@]}" -ffreestanding -fsyntax-only -x c /dev/null 2>/dev/null || continue
		"${command[@]}" -std=c11 -Wall -Wextra -Werror -ffreestanding -fsyntax-only -x c \
			"$ROOT/kernel/src/control/penstock-control.h" || fail "$compiler lays the records out differently"
		tried=$((tried + 1))
	done
	((tried > 0)) || skip "there is no C compiler"
}

# The code that only the bare-metal target has. Lints are warnings there, so any is looked for.
clippy_bare_metal_case() {
	local bin out
	for bin in kernel:penstock guest-builtin:builtin guest-bench:bench; do
		out=$(cargo_bare_metal clippy -p "penstock-${bin%:*}" --bin "${bin#*:}" 2>&1) || {
			printf '%s\n' "$out"
			fail "clippy ends with an error in ${bin#*:}"
		}
		printf '%s\n' "$out"
		! grep -q '^warning' <<<"$out" || fail "clippy has something to say of ${bin#*:}"
	done
}

build_checker_case() {
	rm -f "$TARGET_DIR/release/penstock-check"
	have_checker_source || skip "there is no penstock-check yet"
	build_checker
}

# The tests make and drop a page table of megabytes for each random case: a heap that keeps what is freed
# spares the host half the time, which it spends on making pages.
KEEP_FREED=(MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592)

cargo_test_case() {
	local log status=0
	log=$(log_of cargo-test)
	cd "$ROOT" || exit
	env "${KEEP_FREED[@]}" "PENSTOCK_CASES=${PENSTOCK_CASES:-$CASES_IN_CI}" \
		cargo test --workspace --no-fail-fast || status=$?
	((status != 0)) || return 0
	# What failed tests have said, once more: what the run shows of this log is its end.
	sed -n '/^failures:$/,/^test result:/{/^test result:/!p}' "$log" | sed -n 1,100p >"$FILES/failures"
	cat "$FILES/failures"
	return "$status"
}

# The same tests on a big-endian machine: a byte order that is forgotten somewhere makes another number.
big_endian_case() {
	local libraries
	libraries=$(cd "$ROOT" && rustc --print target-libdir --target "$BIG_ENDIAN")
	have qemu-ppc64 || skip "qemu-ppc64 is not installed"
	have powerpc64-linux-gnu-gcc || skip "powerpc64-linux-gnu-gcc is not installed"
	[[ -f $BIG_ENDIAN_ROOT/lib/libc.so.6 ]] || skip "there is no C library for $BIG_ENDIAN"
	[[ -d $libraries ]] || skip "there is no standard library of Rust's for $BIG_ENDIAN"
	cd "$ROOT" && env "${KEEP_FREED[@]}" CARGO_TARGET_POWERPC64_UNKNOWN_LINUX_GNU_LINKER=powerpc64-linux-gnu-gcc \
		CARGO_TARGET_POWERPC64_UNKNOWN_LINUX_GNU_RUNNER="qemu-ppc64 -L $BIG_ENDIAN_ROOT" \
		cargo test --workspace --lib --target "$BIG_ENDIAN" --target-dir "$TARGET_DIR/big-endian"
}

# cargo test counts its own tests: its numbers are added to ours, and what it ignored is named.
tell_cargo_test() {
	local log seconds=${CASE_SECONDS[$1]} status=${CASE_STATUSES[$1]} name passed failed ignored
	log=$(log_of "${CASE_NAMES[$1]}")
	read -r passed failed ignored < <(
		awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$log"
	)
	PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed)) SKIPPED=$((SKIPPED + ignored))
	while read -r name; do
		printf 'FAIL cargo-test %s: see %s\n' "$name" "${log#"$ROOT"/}"
	done < <(sed -n 's/^test \(.*\) \.\.\. FAILED.*/\1/p' "$log")
	while read -r name; do
		printf 'skip cargo-test %s: ignored by its own attribute\n' "$name"
	done < <(sed -n 's/^test \(.*\) \.\.\. ignored.*/\1/p' "$log")
	if ((failed == 0 && status != 0)); then
		FAILED=$((FAILED + 1))
		printf 'FAIL cargo-test: cargo ended with status %d (%s)\n' "$status" "${log#"$ROOT"/}"
	elif ((failed == 0)); then
		printf 'ok cargo-test: %d tests (%d s)\n' "$passed" "$seconds"
	fi
}

# The protocols of the page table, and those between threads, in every interleaving of a few threads,
# within bounds.
loom_case() {
	RUSTFLAGS='--cfg loom' cargo_at_root test --profile loom --target-dir "$TARGET_DIR/loom" \
		-p penstock-mm -p penstock-kernel -p penstock-xive --test interleavings -- --nocapture
}

# The page table against its models, for long. The seed is in the log; PENSTOCK_MODEL_SEED sets it.
model_test() {
	cd "$ROOT" && env "${KEEP_FREED[@]}" cargo test --workspace --lib -- --nocapture "$1"
}

# A million operations on the smallest table, everything that must be true checked after each.
model_case() {
	PENSTOCK_MODEL_STEPS=${PENSTOCK_MODEL_STEPS:-1000000} model_test engine_and_model_agree
}

# Processors that set R and C late and see stores late, against the dirty log.
processors_case() {
	PENSTOCK_MODEL_SCHEDULES=${PENSTOCK_MODEL_SCHEDULES:-10000} model_test no_write_of_late_processors
}

# Guests' floating-point and vector registers stay in the machine across exits, so an instruction of
# the hypervisor that touches one would corrupt a guest. Only the code that switches them may, which is
# arch/src/vector_state.S.
VECTOR_CODE='(save|load)_vector_state'

no_vector_code_case() {
	local found
	have powerpc64le-linux-gnu-objdump || skip "powerpc64le-linux-gnu-objdump is not installed"
	[[ -f $HYPERVISOR_ELF ]] || fail "there is no hypervisor image"
	powerpc64le-linux-gnu-objdump -d -M power9 --no-show-raw-insn "$HYPERVISOR_ELF" >"$FILES/disassembly"
	grep -q 'hrfid' "$FILES/disassembly" || fail "the disassembly has no hrfid: it is not the hypervisor's"
	# Mnemonics of the f, v, xs, xv, xx families, their loads and stores, and moves to and from them.
	found=$(awk -v allowed="^<($VECTOR_CODE)>:" '
		/^[0-9a-f]+ <.*>:$/ { name = $2; skip = name ~ allowed; next }
		!skip && /^ *[0-9a-f]+:\t/ && $2 ~ /^(f[a-z]|v[a-z]|x[svx][a-z]|lf[sdi]|stf[sdi]|lv[a-z]|stv|lxv|lxs|stxv|stxs|mffs|mtfs|m[tf]vs|m[tf]vscr)/ {
			print name, $0
		}' "$FILES/disassembly")
	printf '%s\n' "$found" | sed -n 1,20p
	[[ -z $found ]] || fail "floating-point or vector instructions in $(printf '%s\n' "$found" | cut -d' ' -f1 | sort -u | sed -n 1,3p | tr '\n' ' ')"
}
