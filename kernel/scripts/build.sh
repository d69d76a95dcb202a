# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # what is built is read by the other parts
#
# Building. The bare-metal target is chosen here and not by a default in .cargo/config.toml, so that
# plain cargo test, clippy and doc work on the host.

# Cargo shows its progress to a person; a log gets warnings and errors only.
CARGO_QUIET=()
[[ -t 2 ]] || CARGO_QUIET=(--quiet)

BUILTIN_ELF=$TARGET_DIR/$RUST_TARGET/release/builtin
BENCH_ELF=$TARGET_DIR/$RUST_TARGET/release/bench

# Cargo for the bare-metal target: cargo_bare_metal VERB ARGS...
# RUSTC_BOOTSTRAP=1 lets the pinned stable compiler build its own core library (-Zbuild-std), which
# no stable flag does yet.
cargo_bare_metal() {
	local verb=$1
	shift
	local -a environment=(RUSTC_BOOTSTRAP=1) config=()
	if [[ -n $RUST_SRC ]]; then
		# Cargo's own tests use this variable; it is the only way to name sources outside the sysroot.
		environment+=("__CARGO_TESTS_ONLY_SRC_ROOT=$RUST_SRC")
	fi
	if [[ -n $RUST_LINKER ]]; then
		config+=(--config "target.$RUST_TARGET.linker=\"$RUST_LINKER\"")
	fi
	(cd "$ROOT" && env "${environment[@]}" cargo "$verb" "${CARGO_QUIET[@]}" --release "$@" \
		--target "$RUST_TARGET.json" \
		-Zbuild-std=core,alloc,compiler_builtins \
		-Zbuild-std-features=compiler-builtins-mem \
		-Zjson-target-spec "${config[@]}")
}

# The built-in guest first: the kernel's build script embeds it.
build_hypervisor() {
	cargo_bare_metal build -p penstock-guest-builtin --bin builtin || return 1
	PENSTOCK_BUILTIN_GUEST=$BUILTIN_ELF cargo_bare_metal build -p penstock-kernel --bin penstock
}

build_bench_guest() {
	cargo_bare_metal build -p penstock-guest-bench --bin bench
}

# The program that reads partition trees on the host, with the hypervisor's own parser.
build_checker() {
	(cd "$ROOT" && cargo build "${CARGO_QUIET[@]}" --release -p penstock-kernel --bin penstock-check)
}

# What the test run uses of the host's programs besides, built as cargo test builds it, and from the same
# libraries: hptstream, and the example that makes screenshots.
build_tools() {
	(cd "$ROOT" && cargo build "${CARGO_QUIET[@]}" --profile test -p penstock-mm -p penstock-kernel \
		--bin hptstream --example screenshots)
}
HPTSTREAM=$TARGET_DIR/debug/hptstream
SCREENSHOTS=$TARGET_DIR/debug/examples/screenshots

# A test run builds first and then tests what it has built: PENSTOCK_PREBUILT is set for its cases.
build_once() { [[ -n ${PENSTOCK_PREBUILT:-} ]] || "$@"; }

# strip_kernel FROM TO: without symbols an ELF kernel is a third of its size in the payload.
# Rust's own objcopy knows every architecture and is always there with rustup.
strip_kernel() {
	local from=$1 to=$2 tool
	for tool in "$(host_rust_objcopy)" powerpc64le-linux-gnu-objcopy llvm-objcopy; do
		if have "$tool" && "$tool" --strip-all "$from" "$to" 2>/dev/null; then
			return 0
		fi
	done
	cp "$from" "$to"
}

host_rust_objcopy() {
	printf '%s/lib/rustlib/%s/bin/rust-objcopy\n' \
		"$(cd "$ROOT" && rustc --print sysroot)" "$(rustc -vV | sed -n 's/^host: //p')"
}

have_checker_source() { [[ -d $ROOT/kernel/src/bin/penstock-check ]]; }
have_checker() { have_checker_source && [[ -x $TARGET_DIR/release/penstock-check ]]; }

# The versions of the plugin interface that ours can be built for.
PLUGIN_INTERFACES=(4 7)

# build_plugin FILE: the plugin that counts instructions, for the QEMU that runs; WITHOUT_PLUGIN says why there
# is none. A QEMU takes some versions of the interface and does not say which, so it is asked.
build_plugin() {
	local interface qemu=${PENSTOCK_QEMU:-$QEMU}
	WITHOUT_PLUGIN=
	if ! have cc; then
		WITHOUT_PLUGIN="the counting plugin needs a C compiler (cc)"
		return
	fi
	for interface in "${PLUGIN_INTERFACES[@]}"; do
		cc -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -DPLUGIN_INTERFACE="$interface" \
			-o "$1" "$ROOT/kernel/tests/plugin/count.c" || die "the counting plugin does not build"
		if WITHOUT_PLUGIN=$(try_plugin "$qemu" "$1"); then
			WITHOUT_PLUGIN=
			return
		fi
	done
	WITHOUT_PLUGIN="QEMU does not take the counting plugin: ${WITHOUT_PLUGIN##*: }"
}

# try_plugin QEMU FILE: fails where QEMU does not take the plugin, and prints what it says. There is no
# machine to boot.
try_plugin() {
	{
		printf 'quit\n' | timeout 60 "$1" -M none -nodefaults -display none -monitor stdio \
			-plugin "${2//,/,,},out=/dev/null" >/dev/null
	} 2>&1
}
