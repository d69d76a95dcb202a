// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * A QEMU plugin that counts whose instructions a machine executes: the firmware's, the hypervisor's
 * or the guest's, by the real address that each instruction lies at. (An effective address does not
 * tell: guests use the same ones.) Built without QEMU's header, which no distribution packages: what
 * of the plugin interface is used is declared here. PLUGIN_INTERFACE is its version: 4 for QEMU 9.1 and
 * the 10 series; from 7 on, QEMU 11, callbacks have an argument of the plugin's in place of its number.
 *
 * -plugin count.so,out=FILE writes lines "WHO COUNT":
 *   firmware    before the hypervisor's first instruction
 *   start       the hypervisor before the guest's first instruction
 *   hypervisor  the hypervisor from then on
 *   guest       everything in guest memory
 *   opal        firmware called by the hypervisor, from its first instruction on
 *
 * Of the benchmark guest it tells what its operations cost in invalidations, a line for each row of its
 * table: "row LOOPS TLBIE TLBIEL", all that was executed inside of its timed loops. It knows them by
 * their instructions: the time base is read to r20 before a loop and to r21 after it, r14 counts down in
 * each round, and a row ends with an executed no-operation (xori 0,0,0), which compilers do not make.
 *
 * At each of these it also notes what every CPU has executed of the hypervisor until then, and tells it in a
 * line "mark CPU0 CPU1 ...", so that what happens on one CPU between two marks of a guest on another is
 * known.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The plugin interface, from its documentation. */
typedef uint64_t plugin_id;
struct plugin_tb;
struct plugin_insn;
struct scoreboard;
struct counter {
	struct scoreboard *score;
	size_t offset;
};
enum inline_op { INLINE_ADD = 0 };
enum cb_flags { NO_REGISTERS = 0 };

extern struct scoreboard *qemu_plugin_scoreboard_new(size_t element_size);
extern uint64_t qemu_plugin_u64_sum(struct counter counter);
extern uint64_t qemu_plugin_u64_get(struct counter counter, unsigned vcpu);
extern int qemu_plugin_num_vcpus(void);
#if PLUGIN_INTERFACE < 7
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(plugin_id, struct plugin_tb *));
extern void qemu_plugin_register_atexit_cb(plugin_id id, void (*callback)(plugin_id, void *), void *data);
#else
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(struct plugin_tb *, void *), void *data);
extern void qemu_plugin_register_atexit_cb(plugin_id id, void (*callback)(void *), void *data);
#endif
extern size_t qemu_plugin_tb_n_insns(const struct plugin_tb *tb);
extern struct plugin_insn *qemu_plugin_tb_get_insn(const struct plugin_tb *tb, size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct plugin_insn *insn);
extern void *qemu_plugin_insn_haddr(const struct plugin_insn *insn);
extern void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct plugin_insn *insn, enum inline_op op,
								 struct counter counter, uint64_t value);
extern size_t qemu_plugin_insn_data(const struct plugin_insn *insn, void *to, size_t length);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct plugin_insn *insn, void (*callback)(unsigned, void *),
						   enum cb_flags flags, void *data);

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_INTERFACE;

enum { FIRMWARE, HYPERVISOR, GUEST, OWNERS };
static struct counter counts[OWNERS];
static uint64_t firmware_before, hypervisor_before;
static bool hypervisor_started, guest_started;
static const char *out = "/dev/stderr";

/* Where the machine's memory lies in QEMU: learned from an instruction whose real address is sure. */
static const char *memory;

/* The image has less than 16 MiB; the memory of guests comes in blocks of 16 MiB, from the next one on. */
static bool in_hypervisor_image(uint64_t real) { return real >= 0x20000000 && real < 0x21000000; }
static bool in_firmware(uint64_t real) { return real >= 0x30000000 && real < 0x33400000; }

/* Little-endian, as hypervisor and benchmark are. */
static uint32_t instruction(const struct plugin_insn *insn)
{
	uint8_t bytes[4];
	if (qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(bytes))
		return 0;
	return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* What the rows of the benchmark's table count. */
enum { LOOPS, TLBIE, TLBIEL, EVENTS };
enum { MAX_ROWS = 64 };
static struct counter events[EVENTS];
static uint64_t before[EVENTS], rows[MAX_ROWS][EVENTS];
static int row;

/* What each CPU had executed of the hypervisor at a mark. */
enum { MAX_MARKS = 64, MAX_CPUS = 16 };
static uint64_t marks[MAX_MARKS][MAX_CPUS];
static int mark;

static int cpus(void)
{
	int number = qemu_plugin_num_vcpus();
	return number < MAX_CPUS ? number : MAX_CPUS;
}

static void loop_begins(unsigned vcpu, void *data)
{
	(void)vcpu;
	(void)data;
	for (int event = 0; event < EVENTS; event++)
		before[event] = qemu_plugin_u64_sum(events[event]);
}

static void loop_ends(unsigned vcpu, void *data)
{
	(void)vcpu;
	(void)data;
	for (int event = 0; row < MAX_ROWS && event < EVENTS; event++)
		rows[row][event] += qemu_plugin_u64_sum(events[event]) - before[event];
}

static void on_mark(unsigned vcpu, void *data)
{
	(void)vcpu;
	(void)data;
	if (row < MAX_ROWS)
		row++;
	if (mark == MAX_MARKS)
		return;
	for (int cpu = 0; cpu < cpus(); cpu++)
		marks[mark][cpu] = qemu_plugin_u64_get(counts[HYPERVISOR], cpu);
	mark++;
}

static void watch(int who, struct plugin_insn *insn)
{
	uint32_t word = instruction(insn);
	int event = EVENTS;
	if (who == HYPERVISOR && word >> 26 == 31 && (word >> 1 & 0x3ff) == 306)
		event = TLBIE;
	else if (who == HYPERVISOR && word >> 26 == 31 && (word >> 1 & 0x3ff) == 274)
		event = TLBIEL;
	else if (who == GUEST && word == 0x35ceffff) /* addic. r14,r14,-1 */
		event = LOOPS;
	if (event != EVENTS)
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD, events[event], 1);
	if (who == GUEST && word == 0x7e8c42a6) /* mftb r20 */
		qemu_plugin_register_vcpu_insn_exec_cb(insn, loop_begins, NO_REGISTERS, NULL);
	if (who == GUEST && word == 0x7eac42a6) /* mftb r21 */
		qemu_plugin_register_vcpu_insn_exec_cb(insn, loop_ends, NO_REGISTERS, NULL);
	if (who == GUEST && word == 0x68000000) /* xnop */
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, NO_REGISTERS, NULL);
}

static int owner(const struct plugin_insn *insn)
{
	const char *host = qemu_plugin_insn_haddr(insn);
	uint64_t address = qemu_plugin_insn_vaddr(insn);
	/* The first instruction of firmware at its home runs untranslated, before any guest exists. */
	if (!memory && in_firmware(address))
		memory = host - address;
	if (!memory || !host)
		return FIRMWARE;
	uint64_t real = host - memory;
	if (in_firmware(real))
		return FIRMWARE;
	/* The interrupt vectors in the first 64 KiB are firmware's until the hypervisor has started. */
	if (in_hypervisor_image(real) || real < 0x10000)
		return hypervisor_started || in_hypervisor_image(real) ? HYPERVISOR : FIRMWARE;
	return hypervisor_started ? GUEST : FIRMWARE;
}

/* A block is translated just before it runs for the first time: the moment to note a beginning. */
static void count_block(struct plugin_tb *tb)
{
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		int who = owner(insn);
		if (who == HYPERVISOR && !hypervisor_started) {
			hypervisor_started = true;
			firmware_before = qemu_plugin_u64_sum(counts[FIRMWARE]);
		} else if (who == GUEST && !guest_started) {
			guest_started = true;
			hypervisor_before = qemu_plugin_u64_sum(counts[HYPERVISOR]);
		}
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD, counts[who], 1);
		watch(who, insn);
	}
}

static void write_counts(void)
{
	FILE *file = fopen(out, "w");
	if (!file)
		return;
	fprintf(file, "firmware %llu\n", (unsigned long long)firmware_before);
	fprintf(file, "start %llu\n", (unsigned long long)hypervisor_before);
	fprintf(file, "hypervisor %llu\n", (unsigned long long)(qemu_plugin_u64_sum(counts[HYPERVISOR]) - hypervisor_before));
	fprintf(file, "guest %llu\n", (unsigned long long)qemu_plugin_u64_sum(counts[GUEST]));
	fprintf(file, "opal %llu\n", (unsigned long long)(qemu_plugin_u64_sum(counts[FIRMWARE]) - firmware_before));
	for (int number = 0; number < row; number++)
		fprintf(file, "row %llu %llu %llu\n", (unsigned long long)rows[number][LOOPS],
			(unsigned long long)rows[number][TLBIE], (unsigned long long)rows[number][TLBIEL]);
	for (int number = 0; number < mark; number++) {
		fprintf(file, "mark");
		for (int cpu = 0; cpu < cpus(); cpu++)
			fprintf(file, " %llu", (unsigned long long)marks[number][cpu]);
		fprintf(file, "\n");
	}
	fclose(file);
}

#if PLUGIN_INTERFACE < 7
static void on_translation(plugin_id id, struct plugin_tb *tb)
{
	(void)id;
	count_block(tb);
}

static void on_exit_of_qemu(plugin_id id, void *data)
{
	(void)id;
	(void)data;
	write_counts();
}
#else
static void on_translation(struct plugin_tb *tb, void *data)
{
	(void)data;
	count_block(tb);
}

static void on_exit_of_qemu(void *data)
{
	(void)data;
	write_counts();
}
#endif

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "out=", 4) == 0)
			out = strdup(argv[i] + 4);
	}
	for (int who = 0; who < OWNERS; who++)
		counts[who] = (struct counter){qemu_plugin_scoreboard_new(sizeof(uint64_t)), 0};
	for (int event = 0; event < EVENTS; event++)
		events[event] = (struct counter){qemu_plugin_scoreboard_new(sizeof(uint64_t)), 0};
#if PLUGIN_INTERFACE < 7
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
#else
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation, NULL);
#endif
	qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
	return 0;
}
