// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the parts of mmstress share: counted checks, patterns, and memory from the kernel. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern atomic_ulong checks, failures;
extern size_t page;

/* Counts a check; the first failures are printed with the words given. */
__attribute__((format(printf, 2, 3))) void check(bool good, const char *format, ...);

/* A value that differs for every word of every map: a page that shows up elsewhere is noticed. */
uint64_t pattern(uint64_t seed, size_t index);

/* mmap for reading and writing, which ends the program when it fails. */
void *map_memory(size_t pages, int flags, int file);

void test_vectors(void);
