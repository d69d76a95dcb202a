# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # NEWEST_QEMU and NO_NEWEST_QEMU are read by kernel/tests/newest.sh
#
# The newest QEMU for some cases of test --all: Debian's, with every library that it loads and its
# firmware, unpacked under target/ and started by the dynamic linker that came with it. Nothing is
# installed: the system's own QEMU and libraries stay as they are.
#
#   target/qemu-newest/root/               the packages' files
#   target/qemu-newest/qemu-system-ppc64   a script that starts it

NEWEST_QEMU_DIR=$TARGET_DIR/qemu-newest
# The suites to look in. What comes first runs on the libraries of a stable release.
NEWEST_QEMU_SUITES=(trixie-backports testing)

# Sets NEWEST_QEMU to a QEMU that is newer than the one of all other cases, or NO_NEWEST_QEMU to why
# there is none. PENSTOCK_QEMU_NEWEST names one, of whatever version.
setup_newest_qemu() {
	local newest own
	NEWEST_QEMU='' NO_NEWEST_QEMU=''
	if [[ -n ${PENSTOCK_QEMU_NEWEST:-} ]]; then
		NEWEST_QEMU=$(command -v "$PENSTOCK_QEMU_NEWEST" || true)
		[[ -n $NEWEST_QEMU ]] || die "PENSTOCK_QEMU_NEWEST: no such program: $PENSTOCK_QEMU_NEWEST"
		NEWEST_QEMU=$(absolute_path "$NEWEST_QEMU")
		newest=$(qemu_version "$NEWEST_QEMU")
		[[ -n $newest ]] || die "PENSTOCK_QEMU_NEWEST: $NEWEST_QEMU does not say its version as QEMU does"
	elif fetch_newest_qemu; then
		newest=$(qemu_version "$NEWEST_QEMU_DIR/qemu-system-ppc64")
		own=$(qemu_version "$(command -v "$QEMU")")
		if [[ -z $newest ]]; then
			NO_NEWEST_QEMU="the QEMU in ${NEWEST_QEMU_DIR#"$ROOT"/} does not run here"
		elif version_at_least "$own" "$newest"; then
			NO_NEWEST_QEMU="all cases run with QEMU $own, and $newest is the newest that can be had here"
		else
			NEWEST_QEMU=$NEWEST_QEMU_DIR/qemu-system-ppc64
		fi
	elif [[ $OPT_NO_SETUP == 1 ]]; then
		NO_NEWEST_QEMU="PENSTOCK_QEMU_NEWEST names no QEMU, and none is fetched with --no-setup"
	else
		NO_NEWEST_QEMU="PENSTOCK_QEMU_NEWEST names no QEMU, and none can be had from Debian here"
	fi
	[[ -z $NEWEST_QEMU ]] || say "the newest-* cases run with QEMU $newest"
}

# What is there is used as it is, with no look at the network.
fetch_newest_qemu() {
	local suite
	[[ -x $NEWEST_QEMU_DIR/qemu-system-ppc64 ]] && return 0
	[[ $OPT_NO_SETUP == 0 ]] || return 1
	apt_lists_present || return 1
	for suite in "${NEWEST_QEMU_SUITES[@]}"; do
		unpack_newest_qemu "$suite" && return 0
	done
	return 1
}

# For apt nothing is installed in the private root, so all that QEMU needs comes along, down to the C
# library.
unpack_newest_qemu() {
	local suite=$1 name=qemu-$1 new=$NEWEST_QEMU_DIR.new package suites=("$1")
	# Backports are built on, and complete, the release that they belong to.
	[[ $suite != *-backports ]] || suites=("${suite%-backports}" "$suite")
	apt_root "$name" "$(dpkg --print-architecture)" "" "${suites[@]}" || return 1
	step "looking for a newer QEMU in Debian $suite" "$TARGET_DIR/logs/apt-$name.log" \
		apt_in "$name" apt-get update || return 1
	apt_in "$name" apt-get clean || return 1
	step "downloading QEMU of Debian $suite" "$TARGET_DIR/logs/$name.log" \
		apt_in "$name" apt-get install -y --no-install-recommends --download-only -t "$suite" \
		qemu-system-ppc qemu-system-data || return 1
	rm -rf "$new"
	mkdir -p "$new/root"
	for package in "$APT_DIR/$name"/cache/archives/*.deb; do
		dpkg-deb -x "$package" "$new/root" || return 1
	done
	write_newest_starter "$new" || return 1
	rm -rf "$NEWEST_QEMU_DIR"
	mv "$new" "$NEWEST_QEMU_DIR"
	apt_in "$name" apt-get clean
}

# write_newest_starter FOLDER: it finds what it starts from where it lies itself, and is replaced by it,
# so a signal reaches QEMU.
write_newest_starter() {
	local folder=$1 linker=()
	linker=("$folder"/root/usr/lib/*/ld*.so.[0-9])
	[[ ${#linker[@]} == 1 && -e ${linker[0]} && -e $folder/root/usr/share/qemu/skiboot.lid ]] || return 1
	{
		printf '#!/bin/sh\n# QEMU of another release, with its own libraries and firmware.\n'
		# shellcheck disable=SC2016 # for the script
		printf 'root=$(dirname "$0")/root\nlinker=$root%q\n' "${linker[0]#"$folder/root"}"
		# shellcheck disable=SC2016
		printf 'exec "$linker" --library-path "$(dirname "$linker")" \\\n'
		# shellcheck disable=SC2016
		printf '\t"$root/usr/bin/qemu-system-ppc64" -L "$root/usr/share/qemu" "$@"\n'
	} >"$folder/qemu-system-ppc64"
	chmod +x "$folder/qemu-system-ppc64"
}
