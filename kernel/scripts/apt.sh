# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2016 # $(...) in these formats is for apt
#
# Debian packages of another release or architecture than the system's, without touching the
# system's package lists: each use has a private apt root under target/apt/. The mirrors are those
# that the system is configured with, so a machine with a local mirror or a proxy stays on it.

APT_DIR=$TARGET_DIR/apt
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The address of the system's own Debian mirror; fails on a system that has none.
debian_mirror() {
	local label=$1 uri
	have apt-get || return 1
	uri=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 2>/dev/null |
		awk -v label="$label" '$1 == label { print $2; exit }')
	[[ -n $uri ]] && printf '%s\n' "$uri"
}

# Runs a command as root: directly, or through sudo when nobody has to type a password for it or a
# person is there to do so.
as_root() {
	if ((EUID == 0)); then
		"$@"
	elif have sudo && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
		sudo "$@"
	else
		return 126
	fi
}

# The system's lists are empty on a fresh container, and then even the mirror's name is unknown.
apt_lists_present() {
	have apt-get || return 1
	[[ -n $(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null) ]] && return 0
	step "reading the system's package lists" "$TARGET_DIR/logs/apt-update.log" as_root apt-get -q update
}

# Writes a private apt root: apt_root NAME ARCHITECTURE STATUS-FILE SUITE...
# An empty STATUS-FILE argument means a system with nothing installed (downloads only).
# A suite that ends in -security comes from the security mirror when the system has one.
apt_root() {
	local dir=$APT_DIR/$1 arch=$2 status=$3 suite uri
	shift 3
	[[ -r $DEBIAN_KEYRING ]] || return 1
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/log" "$dir/empty"
	: >"$dir/sources.list"
	for suite in "$@"; do
		uri=$(debian_mirror Debian) || return 1
		if [[ $suite == *-security ]]; then
			uri=$(debian_mirror Debian-Security) || continue
		fi
		printf 'deb [arch=%s signed-by=%s] %s %s main\n' "$arch" "$DEBIAN_KEYRING" "$uri" "$suite" >>"$dir/sources.list"
	done
	if [[ -z $status ]]; then
		status=$dir/status
		: >"$status"
	fi
	cat >"$dir/apt.conf" <<-CONF
		#clear APT::Architectures;
		#clear APT::Default-Release;
		APT::Architecture "$arch";
		APT::Architectures { "$arch"; };
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Retries "3";
		DPkg::Lock::Timeout "300";
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "$dir/empty";
		Dir::Etc::preferences "$dir/empty/none";
		Dir::Etc::preferencesparts "$dir/empty";
		Dir::State::lists "$dir/lists";
		Dir::State::status "$status";
		Dir::State::extended_states "$dir/extended_states";
		Dir::Cache "$dir/cache";
		Dir::Log "$dir/log";
	CONF
}

# apt-get and apt-cache inside a private root: apt_in NAME apt-get ARGS...
apt_in() {
	local dir=$APT_DIR/$1 tool=$2
	shift 2
	"$tool" -q -c "$dir/apt.conf" "$@"
}

# Downloads one package (NAME or NAME=VERSION) of a private root and unpacks it into a folder.
apt_unpack() {
	local root=$1 package=$2 into=$3 work
	work=$APT_DIR/$root/download
	rm -rf "$work"
	mkdir -p "$work" "$into"
	(cd "$work" && apt_in "$root" apt-get download "$package") || return 1
	dpkg-deb -x "$work"/*.deb "$into" || return 1
	rm -rf "$work"
}

# Installs packages from the system's own sources; says what to do where it may not.
apt_install() {
	local why=$1
	shift
	have apt-get || die "$why is missing and this system has no apt: install it by hand ($*)"
	apt_lists_present || die "$why is missing and apt cannot read its package lists: run 'apt-get update' as root"
	as_root true || die "$why is missing: install it as root with 'apt-get install $*'"
	step "installing $why ($*)" "$TARGET_DIR/logs/apt-install.log" \
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
		install -y --no-install-recommends "$@" ||
		die "$why could not be installed: see $TARGET_DIR/logs/apt-install.log"
}
