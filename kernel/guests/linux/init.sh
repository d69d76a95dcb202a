#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# /init of the Debian test guests (busybox). Words on the kernel's command line choose what it does:
#   mmstress   runs the memory-stress program and powers off
#   quick      powers off as soon as userspace is up
#   otherwise  an interactive shell on the console

export PATH=/bin HOME=/root TERM=linux
# busybox has the list of its own applets; links make "ls" and the like work in any program.
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
hostname penstock-guest

word() {
	case " $(cat /proc/cmdline) " in
	*" $1 "*) return 0 ;;
	*) return 1 ;;
	esac
}

page_size=$(sed -n 's/^KernelPageSize: *//p' /proc/self/smaps | head -n 1)
echo "penstock-guest: userspace up, Linux $(uname -r), $(nproc) CPU(s), pages of $page_size"

if word quick; then
	poweroff -f
fi
if word mmstress; then
	mmstress
	echo "penstock-guest: mmstress ended with status $?"
	poweroff -f
fi

# busybox init answers poweroff, reboot and halt, and starts the shell again when it ends. cttyhack
# gives the shell the real terminal behind /dev/console, so that job control and ^C work.
echo '::respawn:/bin/cttyhack /bin/sh -i' >/etc/inittab
cd /root || cd /
exec init
