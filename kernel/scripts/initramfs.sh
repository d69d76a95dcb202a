# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
#
# Writes an initramfs in cpio's "newc" format. Doing it here and not with cpio means that device
# nodes need no root, that nothing has to be installed, and that the same files give the same bytes.
# The kernel unpacks several archives that are put one after the other, so a test program can be
# added to a finished initramfs by appending an archive.

CPIO_INODE=0

# cpio_zeros COUNT
cpio_zeros() { head -c "$1" /dev/zero; }

# cpio_entry MODE(octal) NAME SIZE DEVICE-MAJOR DEVICE-MINOR: header and name, padded.
cpio_entry() {
	local mode=$((8#$1)) name=$2 size=$3 major=$4 minor=$5
	CPIO_INODE=$((CPIO_INODE + 1))
	# Fields: inode, mode, uid, gid, links, mtime, size, device major/minor, special major/minor,
	# length of the name with its NUL, checksum.
	printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x' \
		"$CPIO_INODE" "$mode" 0 0 1 0 "$size" 0 0 "$major" "$minor" $((${#name} + 1)) 0
	printf '%s\0' "$name"
	cpio_zeros $(((4 - (110 + ${#name} + 1) % 4) % 4))
}

cpio_directory() { cpio_entry 040755 "$1" 0 0 0; }
cpio_device() { cpio_entry 020600 "$1" 0 "$2" "$3"; }

# cpio_file NAME-IN-ARCHIVE FILE
cpio_file() {
	local size
	size=$(stat -L -c %s "$2")
	cpio_entry 100755 "$1" "$size" 0 0
	cat "$2"
	cpio_zeros $(((4 - size % 4) % 4))
}

cpio_symlink() {
	cpio_entry 120777 "$1" ${#2} 0 0
	printf '%s' "$2"
	cpio_zeros $(((4 - ${#2} % 4) % 4))
}

cpio_end() { cpio_entry 0 'TRAILER!!!' 0 0 0; }

# The busybox userland of the test guests: initramfs_busybox BUSYBOX INIT
initramfs_busybox() {
	local directory
	CPIO_INODE=0
	for directory in bin dev etc proc root run sys tmp; do
		cpio_directory "$directory"
	done
	# The kernel opens the console before /init has mounted anything.
	cpio_device dev/console 5 1
	cpio_device dev/null 1 3
	cpio_file bin/busybox "$1"
	cpio_symlink bin/sh busybox
	cpio_file init "$2"
	cpio_end
}

# initramfs_programs FILE...: an archive with just these, in /bin.
initramfs_programs() {
	local file
	CPIO_INODE=0
	for file in "$@"; do
		cpio_file "bin/$(basename "$file")" "$file"
	done
	cpio_end
}
