#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# /init of the Debian test guests (busybox). Words on the kernel's command line choose what it does:
#   mmstress   runs the memory-stress program and powers off
#   hpt_order=A,B,...  resizes the hash page table to each of these while that program runs, and again
#              between two of its runs
#   smp        runs that program on all processors at once, counts interrupts between them, takes all
#              but the first offline and online again, and runs it once more
#   soak=SECONDS  runs that program on all processors for so long, tells what came of it, and waits for
#              a line before it powers off
#   costs      runs the program that measures operations, and powers off
#   quick      powers off as soon as userspace is up
#   otherwise  an interactive shell on the console

export PATH=/bin HOME=/root TERM=linux
# busybox has the list of its own applets; links make "ls" and the like work in any program.
/bin/busybox --install -s /bin

# What the kernel starts when the hypervisor asks for a shutdown.
mkdir -p /sbin
ln -s /bin/poweroff /sbin/poweroff

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
# resize_to ORDER: 0, or why not; the kernel says the same in its own words.
resize_to() {
	if echo "$1" >/sys/kernel/debug/powerpc/hpt_order; then
		echo "hpt_order: $(cat /sys/kernel/debug/powerpc/hpt_order) of $1"
	else
		echo "hpt_order: $1 refused"
	fi
}

orders=$(sed -n 's/.*hpt_order=\([0-9,]*\).*/\1/p' /proc/cmdline | tr , ' ')
if [ -n "$orders" ]; then
	mount -t debugfs debugfs /sys/kernel/debug
	mmstress &
	stress=$!
	while kill -0 $stress 2>/dev/null; do
		for order in $orders; do
			resize_to "$order"
			usleep 300000
		done
	done
	wait $stress
	echo "penstock-guest: mmstress ended with status $?"
	for order in $orders; do
		resize_to "$order"
	done
	mmstress
	echo "penstock-guest: mmstress ended with status $?"
	poweroff -f
fi
# ipis PROCESSOR: how many interrupts from other processors it has had.
ipis() {
	awk -v column="$(($1 + 2))" '/IPI/ { sum += $column } END { print sum + 0 }' /proc/interrupts
}

# stress_all: one run of mmstress for each processor, all at once.
stress_all() {
	runs=
	for processor in $(seq "$(nproc)"); do
		mmstress &
		runs="$runs $!"
	done
	for run in $runs; do
		wait "$run"
		echo "penstock-guest: mmstress ended with status $?"
	done
}

seconds=$(sed -n 's/.*soak=\([0-9]*\).*/\1/p' /proc/cmdline)
if [ -n "$seconds" ]; then
	rounds=0 failed=0 start=$(date +%s)
	while [ $(($(date +%s) - start)) -lt "$seconds" ]; do
		stress_all >/tmp/round
		failed=$((failed + $(grep -c 'status [^0]' /tmp/round)))
		grep 'status [^0]\|FAIL\|failed' /tmp/round
		rounds=$((rounds + 1))
		echo "penstock-guest: round $rounds"
	done
	dmesg | grep -iE 'stall|lockup|BUG:|Oops'
	echo "penstock-guest: soaked for $rounds rounds, $failed runs failed"
	read -r _
	poweroff -f
fi
if word smp; then
	last=$(($(nproc) - 1))
	for processor in $(seq 0 $last); do
		ipis "$processor" >"/tmp/ipis.$processor"
	done
	stress_all
	for processor in $(seq 0 $last); do
		before=$(cat "/tmp/ipis.$processor")
		echo "penstock-guest: CPU $processor had $(($(ipis "$processor") - before)) IPIs"
	done
	for round in 1 2 3; do
		for processor in $(seq $last); do
			echo 0 >"/sys/devices/system/cpu/cpu$processor/online"
		done
		echo "penstock-guest: round $round, $(nproc) CPU online"
		for processor in $(seq $last); do
			echo 1 >"/sys/devices/system/cpu/cpu$processor/online"
		done
		echo "penstock-guest: round $round, $(nproc) CPUs online again"
	done
	stress_all
	poweroff -f
fi
if word costs; then
	costs
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
