# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # RUST_SRC and RUST_LINKER are read by build.sh
#
# Set-up: QEMU, dtc and the Rust library sources. (Guest kernels are in guests.sh.)
# Each function first looks whether its thing is there and then is silent and quick. What it has to
# fetch it names in one line. With --no-setup it names what is missing and ends with status 2.

# QEMU before 9.1 lets another CPU use a translation after the tlbie and ptesync that end it, and
# 7.2 has no HEIR and reads zero from real addresses where nothing is.
QEMU_FLOOR=9.1
QEMU_PREFERRED=10.0
QEMU_FLOOR_REASON="older ones finish a tlbie before other CPUs have dropped the translation"

# Filled in by setup_rust; read by build.sh. An empty RUST_SRC means: cargo finds it by itself.
RUST_SRC=''
RUST_LINKER=''

# Stops a --no-setup run at the first missing thing.
need_setup() {
	if [[ $OPT_NO_SETUP == 1 ]]; then
		die "missing: $1 (run without --no-setup to have it set up)"
	fi
}

version_at_least() {
	[[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | sed -n 1p) == "$2" ]]
}

# The version that the QEMU binary reports, as 10.0.2.
qemu_version() {
	"$1" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9][0-9.]*\).*/\1/p' | sed -n 1p
}

debian_release() {
	# shellcheck source=/dev/null
	(. /etc/os-release && [[ $ID == debian ]] && printf '%s\n' "${VERSION_ID:-unstable}") 2>/dev/null
}

# Debian 12's own QEMU is too old; its backports have a good one. The system's package database is
# used, since a machine may already hold other QEMU packages from backports.
install_qemu_from_backports() {
	apt_lists_present || return 1
	apt_root host "$(dpkg --print-architecture)" /var/lib/dpkg/status \
		bookworm bookworm-updates bookworm-security bookworm-backports || return 1
	step "reading Debian's backports lists" "$TARGET_DIR/logs/apt-backports.log" \
		apt_in host apt-get update || return 1
	# The private lists name what there is; caches and records of an installation are the system's.
	step "installing QEMU and its firmware from bookworm-backports" "$TARGET_DIR/logs/qemu-install.log" \
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -c "$APT_DIR/host/apt.conf" \
		-o Dir::Cache=/var/cache/apt -o Dir::Log=/var/log/apt -o Dir::State::extended_states=/var/lib/apt/extended_states \
		install -y --no-install-recommends -t bookworm-backports qemu-system-ppc qemu-system-data
}

install_qemu() {
	if [[ $(debian_release) == 12 ]]; then
		as_root true || die "QEMU is missing: as root, install qemu-system-ppc from bookworm-backports"
		install_qemu_from_backports || die "QEMU could not be installed from bookworm-backports: see $TARGET_DIR/logs"
	else
		apt_install QEMU qemu-system-ppc
	fi
	hash -r
}

# Sets QEMU to the binary to run. PENSTOCK_QEMU names another one than the first on PATH.
setup_qemu() {
	local version path
	QEMU=${PENSTOCK_QEMU:-qemu-system-ppc64}
	path=$(command -v "$QEMU" 2>/dev/null || true)
	if [[ -z $path ]]; then
		[[ -z ${PENSTOCK_QEMU:-} ]] || die "PENSTOCK_QEMU: no such program: $QEMU"
		need_setup "QEMU (qemu-system-ppc64 $QEMU_FLOOR or newer)"
		install_qemu
	elif [[ $path == /usr/bin/qemu-system-ppc64 ]] &&
		! version_at_least "$(qemu_version "$path")" "$QEMU_FLOOR" &&
		[[ $OPT_NO_SETUP == 0 && $(debian_release) == 12 ]]; then
		# The distribution's own old package; one that the user put on PATH is never replaced.
		install_qemu
	fi
	check_qemu_version
}

check_qemu_version() {
	local version path
	path=$(command -v "$QEMU" 2>/dev/null || true)
	[[ -n $path ]] || die "QEMU is still not on PATH after set-up"
	version=$(qemu_version "$path")
	[[ -n $version ]] || die "$path does not say its version as QEMU does"
	version_at_least "$version" "$QEMU_FLOOR" ||
		die "$path is QEMU $version, but $QEMU_FLOOR is the oldest that works: $QEMU_FLOOR_REASON"
	version_at_least "$version" "$QEMU_PREFERRED" ||
		say "warning: QEMU $version is older than $QEMU_PREFERRED, with which Penstock is tested"
}

# setup_tool COMMAND PACKAGE: a command that the system's own packages bring.
setup_tool() {
	have "$1" && return 0
	need_setup "$1 (package $2)"
	apt_install "$1" "$2"
	hash -r
	have "$1" || die "$1 is still missing after installing $2"
}

BIG_ENDIAN=powerpc64-unknown-linux-gnu
BIG_ENDIAN_ROOT=/usr/powerpc64-linux-gnu

# What the host tests need to run on a big-endian machine: QEMU for programs of that machine, a linker and
# a C library for it, and Rust's standard library.
setup_big_endian() {
	local libraries
	setup_tool qemu-ppc64 qemu-user
	if ! have powerpc64-linux-gnu-gcc || [[ ! -f $BIG_ENDIAN_ROOT/lib/libc.so.6 ]]; then
		need_setup "a C compiler for $BIG_ENDIAN"
		apt_install "a C compiler for $BIG_ENDIAN" gcc-powerpc64-linux-gnu libc6-dev-ppc64-cross
		hash -r
	fi
	libraries=$(cd "$ROOT" && rustc --print target-libdir --target "$BIG_ENDIAN")
	[[ -d $libraries ]] && return 0
	need_setup "Rust's standard library for $BIG_ENDIAN"
	if ! have rustup || ! (cd "$ROOT" && rustup target add "$BIG_ENDIAN") >/dev/null 2>&1 || [[ ! -d $libraries ]]; then
		die "rustup cannot add $BIG_ENDIAN, on which host tests run too"
	fi
	say "added Rust's standard library for $BIG_ENDIAN with rustup"
}

# The core library is built from source for our target, so its sources must be those of the
# compiler, exactly. Ordinary rustup has taken them already (rust-toolchain.toml); a toolchain that
# cannot take components gets Debian's package of the same version, unpacked, not installed.
setup_rust() {
	local sysroot version
	if ! have cargo || ! have rustc; then
		die "Rust is missing: install it with rustup (rust-toolchain.toml names the version)"
	fi
	sysroot=$(cd "$ROOT" && rustc --print sysroot) || die "rustc does not run: see the message above"
	[[ -f $sysroot/lib/rustlib/src/rust/library/Cargo.lock ]] && return 0
	version=$(cd "$ROOT" && rustc --version | awk '{ print $2 }')
	RUST_SRC=$TARGET_DIR/rust-src/usr/src/rustc-$version/library
	[[ -f $RUST_SRC/Cargo.lock ]] && return 0
	use_debian_rust_if_set_up && return 0

	need_setup "rust-src (the sources of Rust's core library, version $version)"
	if have rustup && (cd "$ROOT" && rustup component add rust-src) >/dev/null 2>&1 &&
		[[ -f $sysroot/lib/rustlib/src/rust/library/Cargo.lock ]]; then
		say "added rust-src to the toolchain with rustup"
		RUST_SRC=
		return 0
	fi
	unpack_rust_src "$version" && return 0
	install_debian_rust && return 0
	die "rust-src $version is missing, and neither rustup nor Debian's archive gave it"
}

unpack_rust_src() {
	local version=$1 suite found
	apt_lists_present || return 1
	for suite in trixie-backports testing unstable; do
		apt_root "rust-$suite" "$(dpkg --print-architecture)" "" "$suite" || return 1
		step "looking for rust-src $version in Debian $suite" "$TARGET_DIR/logs/apt-rust-$suite.log" \
			apt_in "rust-$suite" apt-get update || continue
		found=$(apt_in "rust-$suite" apt-cache madison rust-src |
			awk -v want="$version" '{ split($3, v, /[+~-]/); if (v[1] == want) { print $3; exit } }')
		[[ -n $found ]] || continue
		step "unpacking Debian's rust-src $found" "$TARGET_DIR/logs/rust-src.log" \
			apt_unpack "rust-$suite" "rust-src=$found" "$TARGET_DIR/rust-src" || continue
		[[ -f $RUST_SRC/Cargo.lock ]] && return 0
	done
	return 1
}

# Last resort on Debian 12: the distribution's complete toolchain of another version (rustc-web).
# It has no rust-lld, so the one of the rustup toolchain links; RUSTUP_TOOLCHAIN=/usr makes cargo,
# clippy and rustfmt of one toolchain work together.
install_debian_rust() {
	[[ $(debian_release) == 12 ]] || return 1
	as_root true || return 1
	step "installing Debian's own Rust toolchain (rustc-web)" "$TARGET_DIR/logs/rustc-web.log" \
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
		install -y --no-install-recommends rustc-web rust-web-src cargo-web rust-web-clippy rustfmt-web || return 1
	use_debian_rust_if_set_up
}

use_debian_rust_if_set_up() {
	local lld
	[[ -x /usr/bin/rustc ]] && dpkg -s rust-web-src >/dev/null 2>&1 || return 1
	lld=$(cd "$ROOT" && rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
	[[ -x $lld ]] || return 1
	RUST_SRC=
	RUST_LINKER=$lld
	export RUSTUP_TOOLCHAIN=/usr
}
