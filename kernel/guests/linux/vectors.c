// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The part of mmstress that holds values in every vector and floating-point register. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "mmstress.h"

/*
 * Vector and floating-point registers. Everything happens inside one asm block, so that no compiled
 * code can touch a register: VSR 0-63 (the FP registers are the upper halves of 0-31, VMX are 32-63)
 * get values made from a seed; a loop then takes page faults (a store to each page of a fresh map),
 * makes system calls and spins long enough for timer interrupts; then all are stored for comparison.
 */
struct vector_job {
	uint64_t loaded[64][2], stored[64][2];
	char *map;
	uint64_t stride, count, spin;
};

#define V8(op, a, b, c, d, e, f, g, h) op(a) op(b) op(c) op(d) op(e) op(f) op(g) op(h)
#define V64(op)                                                                                                  \
	V8(op, 0, 1, 2, 3, 4, 5, 6, 7) V8(op, 8, 9, 10, 11, 12, 13, 14, 15) V8(op, 16, 17, 18, 19, 20, 21, 22, 23) \
	V8(op, 24, 25, 26, 27, 28, 29, 30, 31) V8(op, 32, 33, 34, 35, 36, 37, 38, 39) V8(op, 40, 41, 42, 43, 44, 45, 46, 47) \
	V8(op, 48, 49, 50, 51, 52, 53, 54, 55) V8(op, 56, 57, 58, 59, 60, 61, 62, 63)
#define LOAD(n) "li 4," #n "*16\n lxvd2x " #n ",14,4\n"
#define STORE(n) "li 4," #n "*16+1024\n stxvd2x " #n ",14,4\n"
#define CLOBBER(n) , "vs" #n

static void hold_vectors(struct vector_job *job)
{
	register struct vector_job *r14 __asm__("r14") = job;
	__asm__ volatile(
		V64(LOAD)
		"ld 15,2048(14)\n ld 16,2056(14)\n ld 17,2064(14)\n ld 18,2072(14)\n"
		"1: std 17,0(15)\n"      /* a page fault on a fresh page */
		" add 15,15,16\n"
		" li 0,20\n sc\n"        /* getpid */
		" li 0,158\n sc\n"       /* sched_yield: another thread may run here */
		" mtctr 18\n"
		"2: bdnz 2b\n"           /* long enough for timer interrupts */
		" addi 17,17,-1\n cmpdi 17,0\n bne 1b\n"
		V64(STORE)
		: "+r"(r14)
		:
		: "r0", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r15", "r16", "r17", "r18", "ctr", "xer",
		  "cr0", "cr1", "cr5", "cr6", "cr7", "memory" V64(CLOBBER));
}

static void *vector_main(void *argument)
{
	uint64_t seed = (uintptr_t)argument;
	for (int round = 0; round < 3; round++) {
		struct vector_job job = {.stride = page, .count = 200, .spin = 300000};
		for (int i = 0; i < 64; i++)
			for (int half = 0; half < 2; half++)
				job.loaded[i][half] = pattern(seed, round * 128 + i * 2 + half);
		job.map = map_memory(job.count, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		hold_vectors(&job);
		for (int i = 0; i < 64; i++)
			check(memcmp(job.loaded[i], job.stored[i], 16) == 0, "VSR %d: loaded %016llx%016llx, is %016llx%016llx", i,
			      (unsigned long long)job.loaded[i][0], (unsigned long long)job.loaded[i][1],
			      (unsigned long long)job.stored[i][0], (unsigned long long)job.stored[i][1]);
		munmap(job.map, job.count * page);
	}
	return NULL;
}

static void on_alarm(int signal) { (void)signal; }

void test_vectors(void)
{
	/* Signals save and restore all of these registers too, by way of the guest kernel. */
	struct itimerval timer = {{0, 7000}, {0, 7000}}, off = {{0, 0}, {0, 0}};
	pthread_t threads[2];
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (size_t i = 0; i < 2; i++)
		check(pthread_create(&threads[i], NULL, vector_main, (void *)(100 + i)) == 0, "pthread_create");
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	setitimer(ITIMER_REAL, &off, NULL);
}
