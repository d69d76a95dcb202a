// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * mmstress: makes a guest kernel use its page tables in every way that an ordinary program can, and
 * checks what memory holds. Under a hypervisor that owns the hash page table each of these turns
 * into H_ENTER, H_REMOVE, H_PROTECT, H_BULK_REMOVE and faults; a lost update, a stale translation or
 * a page given out twice shows as a wrong pattern here.
 *
 * usage: mmstress [MEGABYTES]     (default: a quarter of the memory that is free)
 * ends with "mmstress: N checks, F failures" and status 0 when F is 0.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mmstress.h"

atomic_ulong checks, failures;
size_t page;
/* How much memory a test may use; each takes a fixed share of it. */
static size_t size;

void check(bool good, const char *format, ...)
{
	checks++;
	if (good)
		return;
	/* The first failures tell the story; thousands of the same do not. */
	if (failures++ < 20) {
		va_list arguments;
		va_start(arguments, format);
		printf("mmstress: FAIL: ");
		vprintf(format, arguments);
		printf("\n");
		va_end(arguments);
	}
}

uint64_t pattern(uint64_t seed, size_t index)
{
	uint64_t x = (seed << 40) ^ (index * 0x9e3779b97f4a7c15ull);
	return x ^ (x >> 29);
}

/* Words per page that are written and verified: first and last, and some between. */
#define WORDS 16

static volatile uint64_t *word_at(void *map, size_t page_index, int i)
{
	size_t offset = i == WORDS - 1 ? page - 8 : (size_t)i * (page / WORDS);
	return (volatile uint64_t *)((char *)map + page_index * page + offset);
}

static void fill(void *map, size_t pages, uint64_t seed)
{
	for (size_t p = 0; p < pages; p++)
		for (int i = 0; i < WORDS; i++)
			*word_at(map, p, i) = pattern(seed, p * WORDS + i);
}

static void verify(void *map, size_t pages, uint64_t seed, const char *what)
{
	for (size_t p = 0; p < pages; p++) {
		int wrong = 0;
		for (int i = 0; i < WORDS; i++)
			wrong += *word_at(map, p, i) != pattern(seed, p * WORDS + i);
		check(!wrong, "%s: page %zu of %zu: %d of %d words wrong", what, p, pages, wrong, WORDS);
	}
}

static void verify_zero(void *map, size_t pages, const char *what)
{
	for (size_t p = 0; p < pages; p++) {
		const uint64_t *words = (const uint64_t *)((char *)map + p * page);
		uint64_t any = 0;
		for (size_t i = 0; i < page / 8; i++)
			any |= words[i];
		check(!any, "%s: page %zu of %zu is not zero", what, p, pages);
	}
}

void *map_memory(size_t pages, int flags, int file)
{
	void *map = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, flags, file, 0);
	if (map == MAP_FAILED) {
		printf("mmstress: mmap of %zu pages: %s\n", pages, strerror(errno));
		exit(1);
	}
	return map;
}

static bool child_succeeded(pid_t child)
{
	int status = -1;
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Children count on their own; what they found wrong is their exit status. */
static pid_t start_child(void)
{
	fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		failures = 0;
	check(child >= 0, "fork: %s", strerror(errno));
	return child;
}

static void test_anonymous(void)
{
	size_t pages = size / page;
	for (int round = 0; round < 2; round++) {
		void *map = map_memory(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		verify_zero(map, pages / 4, "anonymous, fresh");
		fill(map, pages, 10 + round);
		verify(map, pages, 10 + round, "anonymous");
		/* Given back in the middle and touched again: zero there, untouched around it. */
		char *middle = (char *)map + pages / 4 * page;
		check(madvise(middle, pages / 4 * page, MADV_DONTNEED) == 0, "madvise: %s", strerror(errno));
		verify_zero(middle, pages / 4, "anonymous, after MADV_DONTNEED");
		verify(map, pages / 4, 10 + round, "anonymous, below the hole");
		munmap(map, pages * page);
	}
}

static void test_shared(void)
{
	size_t pages = size / 4 / page;
	void *map = map_memory(pages, MAP_SHARED | MAP_ANONYMOUS, -1);
	fill(map, pages, 20);
	pid_t child = start_child();
	if (child == 0) {
		verify(map, pages, 20, "shared, in the child");
		fill(map, pages, 21);
		_exit(failures != 0);
	}
	check(child_succeeded(child), "shared: the child failed");
	verify(map, pages, 21, "shared, written by the child");
	munmap(map, pages * page);
}

static void test_copy_on_write(void)
{
	size_t pages = size / 8 / page;
	void *map = map_memory(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	fill(map, pages, 30);
	pid_t children[3];
	for (int c = 0; c < 3; c++) {
		children[c] = start_child();
		if (children[c] == 0) {
			verify(map, pages, 30, "copy on write, before");
			fill(map, pages, 31 + c);
			verify(map, pages, 31 + c, "copy on write, child's own");
			_exit(failures != 0);
		}
	}
	/* The parent writes one half while the children do the same to theirs. */
	fill(map, pages / 2, 35);
	for (int c = 0; c < 3; c++)
		check(child_succeeded(children[c]), "copy on write: child %d failed", c);
	verify(map, pages / 2, 35, "copy on write, parent's own");
	for (size_t p = pages / 2; p < pages; p++)
		check(*word_at(map, p, 0) == pattern(30, p * WORDS), "copy on write: page %zu changed under the parent", p);
	munmap(map, pages * page);
}

static void test_fork_exec(void)
{
	for (int i = 0; i < 40; i++) {
		pid_t child = start_child();
		if (child == 0) {
			execl("/proc/self/exe", "mmstress", "--child", (char *)NULL);
			_exit(1);
		}
		check(child_succeeded(child), "fork and exec: round %d failed", i);
	}
}

static sigjmp_buf after_fault;
static void *volatile fault_address;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	fault_address = info->si_addr;
	siglongjmp(after_fault, 1);
}

/* True when a store (or a load) to the address faults, and exactly there. */
static bool faults(volatile uint64_t *address, bool store)
{
	fault_address = NULL;
	if (sigsetjmp(after_fault, 1) == 0) {
		if (store)
			*address = *address + 1;
		else
			(void)*address;
		return false;
	}
	return fault_address == (void *)address;
}

static void test_protection(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old;
	sigaction(SIGSEGV, &action, &old);
	size_t pages = 64;
	char *map = map_memory(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	fill(map, pages, 40);
	for (int round = 0; round < 20; round++) {
		for (size_t p = round % 3; p < pages; p += 3) {
			volatile uint64_t *word = word_at(map, p, 1);
			uint64_t before = *word;
			check(mprotect(map + p * page, page, PROT_READ) == 0, "mprotect: %s", strerror(errno));
			check(faults(word, true), "read-only page %zu: no fault, or at a wrong address", p);
			check(*word == before, "read-only page %zu: the store went through", p);
			check(mprotect(map + p * page, page, PROT_NONE) == 0, "mprotect: %s", strerror(errno));
			check(faults(word, false), "page %zu without access: no fault, or at a wrong address", p);
			check(mprotect(map + p * page, page, PROT_READ | PROT_WRITE) == 0, "mprotect: %s", strerror(errno));
			check(!faults(word, true), "page %zu made writable again: fault", p);
			check(*word == before + 1, "page %zu made writable again: the store was lost", p);
			*word = before;
		}
	}
	verify(map, pages, 40, "after mprotect");
	munmap(map, pages * page);
	check(faults((volatile uint64_t *)map, false), "unmapped page: no fault, or at a wrong address");
	sigaction(SIGSEGV, &old, NULL);
}

static void test_mremap(void)
{
	size_t pages = size / 16 / page;
	void *map = map_memory(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	fill(map, pages, 50);
	for (int round = 0; round < 4; round++) {
		void *target = map_memory(2 * pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		/* Moving changes every address and copies nothing: only page tables differ. */
		map = mremap(map, pages * page, 2 * pages * page, MREMAP_MAYMOVE | MREMAP_FIXED, target);
		check(map == target, "mremap: %s", strerror(errno));
		if (map != target)
			return;
		verify(map, pages, 50, "moved");
		verify_zero((char *)map + pages * page, pages, "grown");
		map = mremap(map, 2 * pages * page, pages * page, 0);
		check(map == target, "mremap, shrinking: %s", strerror(errno));
	}
	munmap(map, pages * page);
}

static void test_file(void)
{
	size_t pages = size / 16 / page;
	char name[32];
	snprintf(name, sizeof name, "/tmp/mmstress.%d", (int)getpid());
	int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	check(file >= 0 && ftruncate(file, pages * page) == 0, "file: %s", strerror(errno));
	void *shared = map_memory(pages, MAP_SHARED, file);
	void *private = map_memory(pages, MAP_PRIVATE, file);
	fill(shared, pages, 60);
	verify(private, pages, 60, "private map of a file written through a shared one");
	fill(private, pages / 2, 61);
	verify(shared, pages, 60, "shared map after writes to the private one");
	verify(private, pages / 2, 61, "private map, own writes");
	for (size_t p = 0; p < pages; p++) {
		uint64_t word = 0;
		check(pread(file, &word, 8, p * page) == 8 && word == pattern(60, p * WORDS), "file: page %zu read wrong", p);
	}
	/* Truncated and grown: the maps must lose the old pages. */
	check(ftruncate(file, page) == 0 && ftruncate(file, pages * page) == 0, "truncate: %s", strerror(errno));
	verify_zero((char *)shared + page, pages - 1, "file map after truncation");
	munmap(shared, pages * page);
	munmap(private, pages * page);
	close(file);
	unlink(name);
}

static void test_huge_pages(void)
{
	/* Room for the alignment that a transparent huge page needs; 16 MiB is the hash MMU's. */
	size_t huge = 16ul << 20, bytes = size / 2 > 2 * huge ? size / 2 : 2 * huge;
	char *map = map_memory(bytes / page, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	madvise(map, bytes, MADV_HUGEPAGE);
	fill(map, bytes / page, 70);
	verify(map, bytes / page, 70, "huge pages");
	/* Splits each huge page in two ways: by protection and by giving a part back. */
	for (size_t at = 0; at + huge <= bytes; at += huge / 2) {
		check(mprotect(map + at, page, PROT_READ) == 0, "mprotect: %s", strerror(errno));
		check(madvise(map + at + page, page, MADV_DONTNEED) == 0, "madvise: %s", strerror(errno));
		check(*word_at(map + at, 0, 0) == pattern(70, at / page * WORDS), "huge page, split: wrong at %zu", at);
		verify_zero(map + at + page, 1, "huge page, given back");
		check(*word_at(map + at, 2, 0) == pattern(70, (at / page + 2) * WORDS), "huge page, split: wrong after %zu", at);
	}
	munmap(map, bytes);
}

#define THREADS 4
static pthread_barrier_t barrier;
static char *threads_map;
static size_t threads_pages;

/* Threads fill their own slices, then each verifies its neighbour's and unmaps a page of its own. */
static void *thread_main(void *argument)
{
	size_t me = (size_t)argument, slice = threads_pages / THREADS, next = (me + 1) % THREADS;
	for (int round = 0; round < 4; round++) {
		fill(threads_map + me * slice * page, slice, 80 + me + 10 * round);
		pthread_barrier_wait(&barrier);
		verify(threads_map + next * slice * page, slice, 80 + next + 10 * round, "threads");
		pthread_barrier_wait(&barrier);
		madvise(threads_map + me * slice * page, slice / 2 * page, MADV_DONTNEED);
		char *own = map_memory(8, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		fill(own, 8, 90 + me);
		sched_yield();
		verify(own, 8, 90 + me, "threads, own map");
		munmap(own, 8 * page);
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t threads[THREADS];
	threads_pages = size / 8 / page / THREADS * THREADS;
	threads_map = map_memory(threads_pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (size_t i = 0; i < THREADS; i++)
		check(pthread_create(&threads[i], NULL, thread_main, (void *)i) == 0, "pthread_create");
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	munmap(threads_map, threads_pages * page);
}

static void run(const char *name, void (*test)(void))
{
	struct timespec start, end;
	unsigned long before = checks, failed = failures;
	clock_gettime(CLOCK_MONOTONIC, &start);
	test();
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("mmstress: %-14s %7lu checks, %lu failures, %ld ms\n", name, checks - before, failures - failed,
	       (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	page = sysconf(_SC_PAGESIZE);
	size = (size_t)sysconf(_SC_AVPHYS_PAGES) * page / 4;
	if (argc > 1 && strcmp(argv[1], "--child") == 0) {
		size = 64 * page;
		test_mremap();
		return failures != 0;
	}
	if (argc > 1)
		size = strtoul(argv[1], NULL, 0) << 20;
	size = size / (64 * page) * (64 * page);
	if (size < 16ul << 20) {
		printf("mmstress: needs at least 16 megabytes\n");
		return 2;
	}
	printf("mmstress: %zu MiB, pages of %zu KiB\n", size >> 20, page >> 10);

	run("anonymous", test_anonymous);
	run("shared", test_shared);
	run("copy on write", test_copy_on_write);
	run("fork and exec", test_fork_exec);
	run("protection", test_protection);
	run("mremap", test_mremap);
	run("file", test_file);
	run("huge pages", test_huge_pages);
	run("threads", test_threads);
	run("vectors", test_vectors);

	printf("mmstress: %lu checks, %lu failures\n", (unsigned long)checks, (unsigned long)failures);
	return failures != 0;
}
