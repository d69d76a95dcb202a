# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2034 # what is set here is read by the other parts
#
# The command line. parse_options sets COMMAND and the OPT_ variables, and refuses what does not go
# together before anything is started or set up.

usage() {
	cat <<'END'
Penstock: a bare-metal hypervisor for OpenPOWER, under QEMU

  ./run-qemu.sh [OPTIONS] [-- QEMU-ARGS...]         boot it, by default with a Debian guest to a shell
  ./run-qemu.sh test [--all] [OPTIONS] [-- ...]     run the tests (--all: also every kernel and the long ones;
                                                    --case NAME: only cases of this name, * for any;
                                                    more than once: of each)
  ./run-qemu.sh bench [OPTIONS] [-- ...]            print what operations cost, in instructions

What is missing (QEMU, dtc, Rust's library sources, Debian's guest kernel) is set up first; for test also
shellcheck, and qemu-ppc64 with a C compiler and Rust's library for it, without which the cases for them are skipped.
In the guest, "poweroff" ends the run; on a terminal the monitor waits ten seconds for a key first.
There, ^] leaves the guest's console for the monitor at any time.

The machine (for boot, test and bench)
  --machine powernv9|powernv10   the board (default powernv9; test: both)
  --smp N                        its CPUs (default 1)
  --memory SIZE                  its memory (default 2G)
  --icount                       one instruction is one nanosecond: repeatable times (QEMU -icount shift=0)
  --timeout SECONDS              stop after so long, with status 124 (test: each boot)
  -- QEMU-ARGS...                given to QEMU as they are

The guests (for boot): one partition described by options, a file of partitions, or the built-in guest
  --kernel FILE                  ELF vmlinux or raw image (default: Debian's Linux 6.12, 64K pages)
  --initrd FILE                  its initrd (default with --kernel: none)
  --append STRING                its command line (default console=hvc0)
  --load-address ADDR            where a raw or position-independent kernel is loaded
  --guest-memory SIZE            its memory (default 512M), a multiple of 16M
  --guest-vcpus N                its CPUs (default 1)
  --framebuffer WxHxD            something to draw on: pixels of a row, rows, bits of a pixel (default: none)
  --interrupts xics|xive         how it works with interrupts: by calls, or on the controller (default xics)
  --partitions FILE.dts|.dtb     a partition tree
  --builtin                      no partition tree: the guest that is part of the hypervisor

How it is run
  --gdb                          wait for a debugger on port 1234
  --no-setup                     set nothing up; name what is missing and end with status 2
  --dry-run                      print the QEMU command and change nothing
  --help                         this text

SIZE is a number of bytes, or with K, M or G (1024). ADDR is a SIZE or a 0x number.
PENSTOCK_APPEND in the environment adds words for the hypervisor, as in penstock.log=debug;
PENSTOCK_QEMU names another QEMU than the first qemu-system-ppc64 on PATH;
PENSTOCK_QEMU_NEWEST names one for the newest-* cases of test --all (default: Debian's newest, fetched);
PENSTOCK_JOBS sets how many cases of test run at a time (default: one for each processor);
PENSTOCK_CASES sets how many random cases the tests try; PENSTOCK_MODEL_STEPS and
PENSTOCK_MODEL_SCHEDULES how long the models of the page table run, PENSTOCK_MODEL_SEED from where.
SOAK_SECONDS says how long two guests are kept under stress by test --all (default: 1800), RESTARTS how often
a Debian guest is destroyed under stress (default: 50).

Exit status: 0 the last guest powered off, 1 a bug in the hypervisor, 2 wrong usage, refused input or
set-up impossible, 3 the last guest was stopped by an error, 124 --timeout, 130 interrupted.
END
}

usage_error() { die "$* (see --help)"; }

option_defaults() {
	COMMAND=boot
	OPT_ALL=0 OPT_CASES=() OPT_MACHINE='' OPT_SMP=1 OPT_MEMORY=2G OPT_ICOUNT=0 OPT_TIMEOUT=''
	OPT_KERNEL='' OPT_INITRD='' OPT_APPEND='console=hvc0' OPT_LOAD_ADDRESS='' OPT_GUEST_MEMORY=512M OPT_GUEST_VCPUS=1
	OPT_FRAMEBUFFER='' OPT_INTERRUPTS=''
	OPT_PARTITIONS='' OPT_BUILTIN=0 OPT_GDB=0 OPT_NO_SETUP=0 OPT_DRY_RUN=0
	QEMU_EXTRA=()
	# The first option that described a one-off partition; for the messages.
	ONE_OFF=''
}

parse_options() {
	local option value
	option_defaults
	while (($# > 0)); do
		option=$1
		shift
		case $option in
		test | bench)
			[[ $COMMAND == boot ]] || usage_error "one of test and bench, once"
			COMMAND=$option
			continue
			;;
		--) QEMU_EXTRA=("$@") && break ;;
		--help | -h)
			usage
			exit 0
			;;
		--all) OPT_ALL=1 && continue ;;
		--builtin) OPT_BUILTIN=1 && continue ;;
		--icount) OPT_ICOUNT=1 && continue ;;
		--gdb) OPT_GDB=1 && continue ;;
		--no-setup) OPT_NO_SETUP=1 && continue ;;
		--dry-run) OPT_DRY_RUN=1 && continue ;;
		--*=*)
			value=${option#*=}
			option=${option%%=*}
			;;
		--*)
			known_with_value "$option" || usage_error "unknown option $option"
			(($# > 0)) || usage_error "$option needs a value"
			value=$1
			shift
			;;
		*) usage_error "unknown argument '$option'" ;;
		esac
		set_option "$option" "$value"
	done
	check_options
}

known_with_value() {
	case $1 in
	--machine | --smp | --memory | --timeout | --kernel | --initrd | --append | --load-address | \
		--guest-memory | --guest-vcpus | --framebuffer | --interrupts | --partitions | --case) return 0 ;;
	*) return 1 ;;
	esac
}

set_option() {
	local option=$1 value=$2
	case $option in
	--machine)
		[[ $value == powernv9 || $value == powernv10 ]] ||
			usage_error "--machine $value: it is powernv9 or powernv10"
		OPT_MACHINE=$value
		;;
	--smp) OPT_SMP=$(a_count "$option" "$value") ;;
	--memory) OPT_MEMORY=$(a_size "$option" "$value") ;;
	--timeout) OPT_TIMEOUT=$(a_count "$option" "$value") ;;
	--kernel) OPT_KERNEL=$value ;;
	--initrd) OPT_INITRD=$value ;;
	--append) OPT_APPEND=$value ;;
	--load-address) OPT_LOAD_ADDRESS=$(an_address "$option" "$value") ;;
	--guest-memory) OPT_GUEST_MEMORY=$(a_size "$option" "$value") ;;
	--framebuffer)
		[[ $value =~ ^[0-9]{1,5}x[0-9]{1,5}x[0-9]{1,2}$ ]] ||
			usage_error "--framebuffer $value: it is like 640x480x32"
		OPT_FRAMEBUFFER=$value
		;;
	--interrupts)
		[[ $value == xics || $value == xive ]] || usage_error "--interrupts $value: it is xics or xive"
		OPT_INTERRUPTS=$value
		;;
	--guest-vcpus) OPT_GUEST_VCPUS=$(a_count "$option" "$value") ;;
	--partitions) OPT_PARTITIONS=$value ;;
	--case) OPT_CASES+=("$value") ;;
	*) usage_error "unknown option $option" ;;
	esac
	case $option in
	--kernel | --initrd | --append | --load-address | --guest-memory | --guest-vcpus | --framebuffer | \
		--interrupts)
		ONE_OFF=${ONE_OFF:-$option}
		;;
	esac
	case $option in
	--kernel | --initrd | --partitions) [[ -n $value ]] || usage_error "$option needs a file" ;;
	--case) [[ -n $value ]] || usage_error "$option needs a name" ;;
	esac
}

a_count() {
	if [[ ! $2 =~ ^[0-9]{1,6}$ ]] || ((10#$2 == 0)); then
		usage_error "$1 $2: it is a number from 1"
	fi
	printf '%s\n' $((10#$2))
}

a_size() {
	local bytes
	if ! bytes=$(size_to_bytes "$2") || ((bytes == 0)); then
		usage_error "$1 $2: it is a number of bytes, or one with K, M or G"
	fi
	printf '%s\n' "$2"
}

# As a number in hexadecimal.
an_address() {
	local bytes
	if [[ $2 =~ ^0[xX][0-9a-fA-F]{1,15}$ ]]; then
		bytes=$(($2))
	else
		bytes=$(size_to_bytes "$2") || usage_error "$1 $2: it is a number, 0x for hexadecimal, or one with K, M or G"
	fi
	printf '0x%x\n' "$bytes"
}

check_options() {
	local file
	if [[ -n $OPT_PARTITIONS && $OPT_BUILTIN == 1 ]]; then
		usage_error "--partitions and --builtin exclude each other"
	elif [[ -n $OPT_PARTITIONS && -n $ONE_OFF ]]; then
		usage_error "--partitions and $ONE_OFF exclude each other: the file describes the guests"
	elif [[ $OPT_BUILTIN == 1 && -n $ONE_OFF ]]; then
		usage_error "--builtin and $ONE_OFF exclude each other: the built-in guest takes no options"
	elif [[ -n $OPT_LOAD_ADDRESS && -z $OPT_KERNEL ]]; then
		usage_error "--load-address needs --kernel: Debian's kernel has its own address"
	elif [[ $COMMAND != test && $OPT_ALL == 1 ]]; then
		usage_error "--all belongs to test"
	elif [[ $COMMAND != test && ${#OPT_CASES[@]} -gt 0 ]]; then
		usage_error "--case belongs to test"
	fi
	if [[ $COMMAND != boot ]]; then
		for file in "$ONE_OFF" ${OPT_PARTITIONS:+--partitions}; do
			[[ -z $file ]] || usage_error "$file has no meaning with $COMMAND, which brings its own guests"
		done
		[[ $OPT_BUILTIN == 0 ]] || usage_error "--builtin has no meaning with $COMMAND, which brings its own guests"
		[[ $OPT_GDB == 0 ]] || usage_error "--gdb has no meaning with $COMMAND"
	fi
	for file in "$OPT_KERNEL" "$OPT_INITRD" "$OPT_PARTITIONS"; do
		[[ -z $file ]] || check_readable "$file"
	done
	case $OPT_PARTITIONS in
	'' | *.dts | *.dtb) ;;
	*) usage_error "--partitions $OPT_PARTITIONS: the name ends in .dts or .dtb" ;;
	esac
}

check_readable() {
	[[ -e $1 ]] || die "$1: no such file"
	[[ -f $1 ]] || die "$1 is not a regular file"
	[[ -r $1 ]] || die "$1 cannot be read"
}
