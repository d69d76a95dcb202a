// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * costs: what a program pays for memory and processes, the guest's kernel and the hypervisor together.
 *
 * Under QEMU's -icount shift=0 an instruction takes a nanosecond, whoever executes it, and the time base
 * has 512 ticks in a thousand. Of many rounds the median is printed: "costs: OPERATION INSTRUCTIONS".
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 101 };

static size_t page;
/* A page that has been touched, and an address where none is; around both, nothing that may be touched, so
 * that the kernel does not join their areas with others. They share a page of the kernel's page table. */
static volatile char *touched;
static void *hole;
static const char *self;

static void must(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static void protect_and_back(void)
{
	must(mprotect((void *)touched, page, PROT_READ) == 0, "mprotect");
	must(mprotect((void *)touched, page, PROT_READ | PROT_WRITE) == 0, "mprotect");
	*touched = 1;
}

static void map_and_unmap(void)
{
	volatile char *map = mmap(hole, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(map == hole, "mmap");
	*map = 1;
	must(munmap((void *)map, page) == 0, "munmap");
}

static void wait_for(pid_t child)
{
	int status;
	must(child > 0, "fork");
	must(waitpid(child, &status, 0) == child && status == 0, "wait");
}

static void fork_and_exit(void)
{
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	wait_for(child);
}

static void fork_and_exec(void)
{
	pid_t child = fork();
	if (child == 0) {
		execl(self, self, "nothing", (char *)NULL);
		_exit(1);
	}
	wait_for(child);
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return (left > right) - (left < right);
}

static void measure(const char *name, void (*operation)(void))
{
	uint64_t ticks[ROUNDS];
	/* What happens once only has happened. */
	for (int round = 0; round < 8; round++)
		operation();
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t before = __builtin_ppc_get_timebase();
		operation();
		ticks[round] = __builtin_ppc_get_timebase() - before;
	}
	qsort(ticks, ROUNDS, sizeof(ticks[0]), compare);
	printf("costs: %s %llu\n", name, (unsigned long long)(ticks[ROUNDS / 2] * 1000 / 512));
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "nothing") == 0)
		return 0;
	self = argv[0][0] == '/' ? argv[0] : "/bin/costs";
	page = (size_t)sysconf(_SC_PAGESIZE);
	char *area = mmap(NULL, 64 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(area != MAP_FAILED, "mmap");
	touched = area + 16 * page;
	must(mprotect((void *)touched, page, PROT_READ | PROT_WRITE) == 0, "mprotect");
	*touched = 1;
	hole = area + 32 * page;
	must(munmap(hole, page) == 0, "munmap");
	measure("mprotect-and-back", protect_and_back);
	measure("mmap-touch-munmap", map_and_unmap);
	measure("fork-exit-wait", fork_and_exit);
	measure("fork-exec-wait", fork_and_exec);
	return 0;
}
