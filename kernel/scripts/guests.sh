# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2153 # ROOT is set by run-qemu.sh
#
# The Debian guests: unmodified kernels and a static busybox from Debian's archive, for ppc64el,
# downloaded and never installed. What is there is used as it is, with no look at the network.
#
#   target/guests/debian13-64k/vmlinux   Linux 6.12, 64K pages (the default guest)
#   target/guests/debian13-4k/vmlinux    Linux 6.12, 4K pages
#   target/guests/debian12/vmlinux       Linux 6.1, 64K pages
#   target/guests/initrd.cpio.gz         busybox
#   target/guests/initrd-test.cpio.gz    busybox, mmstress and costs

GUEST_SOURCES=$ROOT/kernel/guests/linux
INITRD=$GUESTS_DIR/initrd.cpio.gz
INITRD_TEST=$GUESTS_DIR/initrd-test.cpio.gz

guest_kernel() { printf '%s\n' "$GUESTS_DIR/$1/vmlinux"; }

# A private ppc64el apt root for one Debian release, with its lists read once per run.
ppc64el_root() {
	local suite=$1 root=ppc64el-$1
	[[ " ${PPC64EL_ROOTS_READ:-} " != *" $suite "* ]] || return 0
	apt_lists_present || return 1
	apt_root "$root" ppc64el "" "$suite" || return 1
	step "reading Debian $suite's package lists for ppc64el" "$TARGET_DIR/logs/apt-$root.log" \
		apt_in "$root" apt-get update || return 1
	# apt-get update only warns when a mirror cannot be reached.
	[[ -n $(apt_in "$root" apt-cache pkgnames linux-image-powerpc64le 2>/dev/null) ]] || return 1
	PPC64EL_ROOTS_READ="${PPC64EL_ROOTS_READ:-} $suite"
}

# fetch_guest_kernel NAME SUITE METAPACKAGE
# Point releases rename the kernel packages, so the name comes from what the metapackage depends on.
# A mirror in the middle of an update may list that package and not have it yet: then the newest other
# one of the same flavour serves.
fetch_guest_kernel() {
	local name=$1 suite=$2 meta=$3 package candidate flavour dir image
	dir=$GUESTS_DIR/$name
	[[ -s $dir/vmlinux ]] && return 0
	need_setup "Debian's kernel for the guest $name"
	ppc64el_root "$suite" || return 1
	package=$(apt_in "ppc64el-$suite" apt-cache depends "$meta" |
		sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | sed -n 1p)
	[[ -n $package ]] || return 1
	flavour=${meta#linux-image-}
	for candidate in "$package" $(apt_in "ppc64el-$suite" apt-cache pkgnames linux-image- |
		grep -E "^linux-image-[0-9].*-$flavour\$" | grep -vxF "$package" | sort -rV); do
		rm -rf "$dir.new"
		if step "downloading the guest kernel $candidate" "$TARGET_DIR/logs/guest-$name.log" \
			apt_unpack "ppc64el-$suite" "$candidate" "$dir.new"; then
			package=$candidate
			break
		fi
		say "$candidate is not to be had now: the next one of the package lists is tried"
	done
	# Debian's "vmlinuz" for ppc64el is a plain ELF vmlinux; the modules are of no use here.
	image=$(find "$dir.new/boot" -name 'vmlinu*' 2>/dev/null | sed -n 1p)
	[[ -n $image ]] || return 1
	mkdir -p "$dir"
	strip_kernel "$image" "$dir.new/vmlinux"
	printf '%s\n' "$package" >"$dir/package"
	mv "$dir.new/vmlinux" "$dir/vmlinux"
	rm -rf "$dir.new"
}

fetch_busybox() {
	[[ -s $GUESTS_DIR/busybox ]] && return 0
	need_setup "busybox for the guest"
	ppc64el_root trixie || return 1
	rm -rf "$GUESTS_DIR/busybox.new"
	step "downloading busybox-static for ppc64el" "$TARGET_DIR/logs/guest-busybox.log" \
		apt_unpack ppc64el-trixie busybox-static "$GUESTS_DIR/busybox.new" || return 1
	cp "$(find "$GUESTS_DIR/busybox.new" -type f -path '*/bin/busybox' | sed -n 1p)" "$GUESTS_DIR/busybox.tmp" || return 1
	mv "$GUESTS_DIR/busybox.tmp" "$GUESTS_DIR/busybox"
	rm -rf "$GUESTS_DIR/busybox.new"
}

build_initrd() {
	[[ $INITRD -nt $GUEST_SOURCES/init.sh && $INITRD -nt $ROOT/kernel/scripts/initramfs.sh &&
		$INITRD -nt $GUESTS_DIR/busybox ]] && return 0
	need_setup "the initramfs of the Debian guest"
	say "writing the guest's initramfs"
	initramfs_busybox "$GUESTS_DIR/busybox" "$GUEST_SOURCES/init.sh" | gzip -n >"$INITRD.tmp" || return 1
	mv "$INITRD.tmp" "$INITRD"
}

# Everything of one Debian guest: setup_debian_guest [NAME]. Fails, with no message of its own
# beyond the steps', where it cannot be had.
setup_debian_guest() {
	mkdir -p "$GUESTS_DIR"
	case ${1:-debian13-64k} in
	debian13-64k) fetch_guest_kernel debian13-64k trixie linux-image-powerpc64le-64k ;;
	debian13-4k) fetch_guest_kernel debian13-4k trixie linux-image-powerpc64le ;;
	debian12) fetch_guest_kernel debian12 bookworm linux-image-powerpc64le ;;
	esac && fetch_busybox && build_initrd
}

# build_test_program NAME SOURCE...
build_test_program() {
	step "building the test guest's program $1" "$TARGET_DIR/logs/$1.log" \
		powerpc64le-linux-gnu-gcc -std=gnu11 -O2 -Wall -Wextra -Werror -mcpu=power9 -static -pthread \
		-o "$GUESTS_DIR/$1" "${@:2}"
}

# The test guest's initramfs has our own programs besides; they need a cross compiler.
setup_test_initrd() {
	if [[ ! -f $INITRD_TEST ]] || [[ -n $(find "$GUEST_SOURCES" "$INITRD" -newer "$INITRD_TEST") ]]; then
		if ! have powerpc64le-linux-gnu-gcc; then
			need_setup "powerpc64le-linux-gnu-gcc (for the test guest's programs)"
			apt_install "a cross compiler for ppc64le" gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross
		fi
		build_test_program mmstress "$GUEST_SOURCES"/{mmstress,vectors}.c || return 1
		build_test_program costs "$GUEST_SOURCES/costs.c" || return 1
		initramfs_programs "$GUESTS_DIR"/{mmstress,costs} | gzip -n | cat "$INITRD" - >"$INITRD_TEST.tmp" ||
			return 1
		mv "$INITRD_TEST.tmp" "$INITRD_TEST"
	fi
}
