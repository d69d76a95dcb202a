/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Penstock's control interface, for tools in C. kernel/src/control/interface.md says what it
 * means; a test makes this file from the same source. All integers are big-endian.
 */
#ifndef PENSTOCK_CONTROL_H
#define PENSTOCK_CONTROL_H

#include <stddef.h>
#include <stdint.h>

typedef uint16_t penstock_be16;
typedef uint32_t penstock_be32;
typedef uint64_t penstock_be64;

#define PENSTOCK_H_CONTROL 0xf004
#define PENSTOCK_MAJOR 0x1
#define PENSTOCK_MINOR 0x0
#define PENSTOCK_DONE 0xffffffffffffffffULL
#define PENSTOCK_MAX_BUFFER_BYTES 0x4000
#define PENSTOCK_ENTRIES_PER_CALL 0x1000
#define PENSTOCK_HEADER_COMPATIBLE 0x80
#define PENSTOCK_SLOT_MEMORY 0x1
#define PENSTOCK_SLOT_FRAMEBUFFER 0x2
#define PENSTOCK_SLOT_DEVICE 0x3
#define PENSTOCK_SLOT_READ_ONLY 0x1
#define PENSTOCK_SLOT_LOGGED 0x2
#define PENSTOCK_DIRTY_TAKE 0x1
#define PENSTOCK_OPEN_BOLTED_ONLY 0x1
#define PENSTOCK_OPEN_WRITE 0x2
#define PENSTOCK_OPEN_LITTLE_ENDIAN 0x4
#define PENSTOCK_STREAM_WRITER 0x100
#define PENSTOCK_STREAM_FIRST_PASS 0x1
#define PENSTOCK_STREAM_BOLTED_ONLY 0x2
#define PENSTOCK_STREAM_END 0x4
#define PENSTOCK_STREAM_BIG_ENDIAN 0x4245
#define PENSTOCK_STREAM_LITTLE_ENDIAN 0x4c45
#define PENSTOCK_PART_FP 0x1
#define PENSTOCK_PART_VMX 0x2
#define PENSTOCK_PART_VSX 0x4
#define PENSTOCK_VCPU_RUNNABLE 0x1
#define PENSTOCK_VCPU_CEDED 0x2
#define PENSTOCK_VCPU_STOPPED 0x3
#define PENSTOCK_VCPU_JOINED 0x4
#define PENSTOCK_INVALIDATE_GROUPS 0x1
#define PENSTOCK_INVALIDATE_STRICT 0x2
#define PENSTOCK_FN_FEATURE 0x1
#define PENSTOCK_FN_CAPABILITIES 0x2
#define PENSTOCK_FN_SLOTS 0x3
#define PENSTOCK_FN_DIRTY_LOG 0x4
#define PENSTOCK_FN_DIRTY_HARVEST 0x5
#define PENSTOCK_FN_DIRTY_FETCH 0x6
#define PENSTOCK_FN_STREAM_OPEN 0x7
#define PENSTOCK_FN_STREAM_READ 0x8
#define PENSTOCK_FN_STREAM_WRITE 0x9
#define PENSTOCK_FN_STREAM_CLOSE 0xa
#define PENSTOCK_FN_HPT_DROP 0xb
#define PENSTOCK_FN_VCPU_GET 0xc
#define PENSTOCK_FN_VCPU_SET 0xd
#define PENSTOCK_FN_SUSPEND 0xe
#define PENSTOCK_FN_COMMIT 0xf
#define PENSTOCK_FN_RESUME 0x10
#define PENSTOCK_FN_INVALIDATE 0x11
#define PENSTOCK_FEATURE_SLOTS 0x0
#define PENSTOCK_FEATURE_DIRTY_LOG 0x1
#define PENSTOCK_FEATURE_STREAM_READ 0x2
#define PENSTOCK_FEATURE_STREAM_WRITE 0x3
#define PENSTOCK_FEATURE_VCPU_STATE 0x4
#define PENSTOCK_FEATURE_FP 0x5
#define PENSTOCK_FEATURE_VMX 0x6
#define PENSTOCK_FEATURE_VSX 0x7
#define PENSTOCK_FEATURE_SUSPEND 0x8
#define PENSTOCK_FEATURE_INVALIDATE 0x9
#define PENSTOCK_FEATURE_FRAMEBUFFER 0xa
#define PENSTOCK_KIND_CAPABILITIES 0x1
#define PENSTOCK_KIND_SLOT 0x2
#define PENSTOCK_KIND_DIRTY_REQUEST 0x3
#define PENSTOCK_KIND_DIRTY_REPLY 0x4
#define PENSTOCK_KIND_STREAM_CHUNK 0x5
#define PENSTOCK_KIND_VCPU_STATE 0x6
#define PENSTOCK_KIND_VECTOR_STATE 0x7
#define PENSTOCK_KIND_INVALIDATE 0x8

struct penstock_header {
	uint8_t major;
	uint8_t minor;
	uint8_t kind;
	uint8_t flags;
	penstock_be32 size;
};
_Static_assert(sizeof(struct penstock_header) == 8, "size of header");
_Static_assert(offsetof(struct penstock_header, major) == 0, "header.major");
_Static_assert(offsetof(struct penstock_header, minor) == 1, "header.minor");
_Static_assert(offsetof(struct penstock_header, kind) == 2, "header.kind");
_Static_assert(offsetof(struct penstock_header, flags) == 3, "header.flags");
_Static_assert(offsetof(struct penstock_header, size) == 4, "header.size");

struct penstock_capabilities {
	struct penstock_header header;
	uint8_t features[32];
	penstock_be32 max_buffer_bytes;
	penstock_be32 entries_per_call;
	penstock_be32 slots;
	penstock_be32 vcpus;
	penstock_be32 stream_readers;
	penstock_be32 page_sizes;
	penstock_be32 dirty_page_sizes;
	penstock_be32 vector_parts;
	penstock_be64 hpt_entries;
	penstock_be32 flush_threshold;
	penstock_be32 partition;
	uint8_t reserved[40];
};
_Static_assert(sizeof(struct penstock_capabilities) == 128, "size of capabilities");
_Static_assert(offsetof(struct penstock_capabilities, header) == 0, "capabilities.header");
_Static_assert(offsetof(struct penstock_capabilities, features) == 8, "capabilities.features");
_Static_assert(offsetof(struct penstock_capabilities, max_buffer_bytes) == 40, "capabilities.max_buffer_bytes");
_Static_assert(offsetof(struct penstock_capabilities, entries_per_call) == 44, "capabilities.entries_per_call");
_Static_assert(offsetof(struct penstock_capabilities, slots) == 48, "capabilities.slots");
_Static_assert(offsetof(struct penstock_capabilities, vcpus) == 52, "capabilities.vcpus");
_Static_assert(offsetof(struct penstock_capabilities, stream_readers) == 56, "capabilities.stream_readers");
_Static_assert(offsetof(struct penstock_capabilities, page_sizes) == 60, "capabilities.page_sizes");
_Static_assert(offsetof(struct penstock_capabilities, dirty_page_sizes) == 64, "capabilities.dirty_page_sizes");
_Static_assert(offsetof(struct penstock_capabilities, vector_parts) == 68, "capabilities.vector_parts");
_Static_assert(offsetof(struct penstock_capabilities, hpt_entries) == 72, "capabilities.hpt_entries");
_Static_assert(offsetof(struct penstock_capabilities, flush_threshold) == 80, "capabilities.flush_threshold");
_Static_assert(offsetof(struct penstock_capabilities, partition) == 84, "capabilities.partition");
_Static_assert(offsetof(struct penstock_capabilities, reserved) == 88, "capabilities.reserved");

struct penstock_slot {
	struct penstock_header header;
	penstock_be32 slot;
	penstock_be16 kind;
	uint8_t page_shift;
	uint8_t dirty_shift;
	penstock_be64 guest_address;
	penstock_be64 bytes;
	penstock_be32 flags;
	penstock_be32 row_bytes;
	uint8_t reserved[8];
};
_Static_assert(sizeof(struct penstock_slot) == 48, "size of slot");
_Static_assert(offsetof(struct penstock_slot, header) == 0, "slot.header");
_Static_assert(offsetof(struct penstock_slot, slot) == 8, "slot.slot");
_Static_assert(offsetof(struct penstock_slot, kind) == 12, "slot.kind");
_Static_assert(offsetof(struct penstock_slot, page_shift) == 14, "slot.page_shift");
_Static_assert(offsetof(struct penstock_slot, dirty_shift) == 15, "slot.dirty_shift");
_Static_assert(offsetof(struct penstock_slot, guest_address) == 16, "slot.guest_address");
_Static_assert(offsetof(struct penstock_slot, bytes) == 24, "slot.bytes");
_Static_assert(offsetof(struct penstock_slot, flags) == 32, "slot.flags");
_Static_assert(offsetof(struct penstock_slot, row_bytes) == 36, "slot.row_bytes");
_Static_assert(offsetof(struct penstock_slot, reserved) == 40, "slot.reserved");

struct penstock_dirty_request {
	struct penstock_header header;
	penstock_be32 slot;
	uint8_t page_shift;
	uint8_t reserved0[3];
	penstock_be64 first_page;
	penstock_be64 pages;
	penstock_be32 flags;
	uint8_t reserved1[4];
};
_Static_assert(sizeof(struct penstock_dirty_request) == 40, "size of dirty_request");
_Static_assert(offsetof(struct penstock_dirty_request, header) == 0, "dirty_request.header");
_Static_assert(offsetof(struct penstock_dirty_request, slot) == 8, "dirty_request.slot");
_Static_assert(offsetof(struct penstock_dirty_request, page_shift) == 12, "dirty_request.page_shift");
_Static_assert(offsetof(struct penstock_dirty_request, reserved0) == 13, "dirty_request.reserved0");
_Static_assert(offsetof(struct penstock_dirty_request, first_page) == 16, "dirty_request.first_page");
_Static_assert(offsetof(struct penstock_dirty_request, pages) == 24, "dirty_request.pages");
_Static_assert(offsetof(struct penstock_dirty_request, flags) == 32, "dirty_request.flags");
_Static_assert(offsetof(struct penstock_dirty_request, reserved1) == 36, "dirty_request.reserved1");

struct penstock_dirty_reply {
	struct penstock_header header;
	penstock_be32 slot;
	uint8_t page_shift;
	uint8_t reserved0[3];
	penstock_be64 first_page;
	penstock_be64 pages;
	penstock_be64 dirty;
	penstock_be32 bitmap_bytes;
	uint8_t reserved1[4];
};
_Static_assert(sizeof(struct penstock_dirty_reply) == 48, "size of dirty_reply");
_Static_assert(offsetof(struct penstock_dirty_reply, header) == 0, "dirty_reply.header");
_Static_assert(offsetof(struct penstock_dirty_reply, slot) == 8, "dirty_reply.slot");
_Static_assert(offsetof(struct penstock_dirty_reply, page_shift) == 12, "dirty_reply.page_shift");
_Static_assert(offsetof(struct penstock_dirty_reply, reserved0) == 13, "dirty_reply.reserved0");
_Static_assert(offsetof(struct penstock_dirty_reply, first_page) == 16, "dirty_reply.first_page");
_Static_assert(offsetof(struct penstock_dirty_reply, pages) == 24, "dirty_reply.pages");
_Static_assert(offsetof(struct penstock_dirty_reply, dirty) == 32, "dirty_reply.dirty");
_Static_assert(offsetof(struct penstock_dirty_reply, bitmap_bytes) == 40, "dirty_reply.bitmap_bytes");
_Static_assert(offsetof(struct penstock_dirty_reply, reserved1) == 44, "dirty_reply.reserved1");

struct penstock_stream_chunk {
	struct penstock_header header;
	penstock_be32 stream;
	penstock_be32 flags;
	penstock_be64 offset;
	penstock_be32 length;
	penstock_be16 byte_order;
	uint8_t reserved0[2];
	uint8_t reserved1[8];
};
_Static_assert(sizeof(struct penstock_stream_chunk) == 40, "size of stream_chunk");
_Static_assert(offsetof(struct penstock_stream_chunk, header) == 0, "stream_chunk.header");
_Static_assert(offsetof(struct penstock_stream_chunk, stream) == 8, "stream_chunk.stream");
_Static_assert(offsetof(struct penstock_stream_chunk, flags) == 12, "stream_chunk.flags");
_Static_assert(offsetof(struct penstock_stream_chunk, offset) == 16, "stream_chunk.offset");
_Static_assert(offsetof(struct penstock_stream_chunk, length) == 24, "stream_chunk.length");
_Static_assert(offsetof(struct penstock_stream_chunk, byte_order) == 28, "stream_chunk.byte_order");
_Static_assert(offsetof(struct penstock_stream_chunk, reserved0) == 30, "stream_chunk.reserved0");
_Static_assert(offsetof(struct penstock_stream_chunk, reserved1) == 32, "stream_chunk.reserved1");

struct penstock_spr {
	penstock_be16 number;
	uint8_t reserved[6];
	penstock_be64 value;
};
_Static_assert(sizeof(struct penstock_spr) == 16, "size of spr");
_Static_assert(offsetof(struct penstock_spr, number) == 0, "spr.number");
_Static_assert(offsetof(struct penstock_spr, reserved) == 2, "spr.reserved");
_Static_assert(offsetof(struct penstock_spr, value) == 8, "spr.value");

struct penstock_vcpu_state {
	struct penstock_header header;
	penstock_be32 vcpu;
	penstock_be32 parts;
	penstock_be32 run_state;
	penstock_be32 spr_count;
	penstock_be64 pc;
	penstock_be64 msr;
	penstock_be64 lr;
	penstock_be64 ctr;
	penstock_be64 xer;
	penstock_be64 cr;
	penstock_be64 cfar;
	penstock_be64 lpcr;
	penstock_be64 timebase;
	penstock_be64 decrementer_expiry;
	penstock_be64 vpa;
	penstock_be64 vpa_bytes;
	penstock_be64 slb_shadow;
	penstock_be64 slb_shadow_bytes;
	penstock_be64 dispatch_log;
	penstock_be64 dispatch_log_bytes;
	penstock_be64 gpr[32];
	penstock_be64 slb[32][2];
	struct penstock_spr sprs[96];
};
_Static_assert(sizeof(struct penstock_vcpu_state) == 2456, "size of vcpu_state");
_Static_assert(offsetof(struct penstock_vcpu_state, header) == 0, "vcpu_state.header");
_Static_assert(offsetof(struct penstock_vcpu_state, vcpu) == 8, "vcpu_state.vcpu");
_Static_assert(offsetof(struct penstock_vcpu_state, parts) == 12, "vcpu_state.parts");
_Static_assert(offsetof(struct penstock_vcpu_state, run_state) == 16, "vcpu_state.run_state");
_Static_assert(offsetof(struct penstock_vcpu_state, spr_count) == 20, "vcpu_state.spr_count");
_Static_assert(offsetof(struct penstock_vcpu_state, pc) == 24, "vcpu_state.pc");
_Static_assert(offsetof(struct penstock_vcpu_state, msr) == 32, "vcpu_state.msr");
_Static_assert(offsetof(struct penstock_vcpu_state, lr) == 40, "vcpu_state.lr");
_Static_assert(offsetof(struct penstock_vcpu_state, ctr) == 48, "vcpu_state.ctr");
_Static_assert(offsetof(struct penstock_vcpu_state, xer) == 56, "vcpu_state.xer");
_Static_assert(offsetof(struct penstock_vcpu_state, cr) == 64, "vcpu_state.cr");
_Static_assert(offsetof(struct penstock_vcpu_state, cfar) == 72, "vcpu_state.cfar");
_Static_assert(offsetof(struct penstock_vcpu_state, lpcr) == 80, "vcpu_state.lpcr");
_Static_assert(offsetof(struct penstock_vcpu_state, timebase) == 88, "vcpu_state.timebase");
_Static_assert(offsetof(struct penstock_vcpu_state, decrementer_expiry) == 96, "vcpu_state.decrementer_expiry");
_Static_assert(offsetof(struct penstock_vcpu_state, vpa) == 104, "vcpu_state.vpa");
_Static_assert(offsetof(struct penstock_vcpu_state, vpa_bytes) == 112, "vcpu_state.vpa_bytes");
_Static_assert(offsetof(struct penstock_vcpu_state, slb_shadow) == 120, "vcpu_state.slb_shadow");
_Static_assert(offsetof(struct penstock_vcpu_state, slb_shadow_bytes) == 128, "vcpu_state.slb_shadow_bytes");
_Static_assert(offsetof(struct penstock_vcpu_state, dispatch_log) == 136, "vcpu_state.dispatch_log");
_Static_assert(offsetof(struct penstock_vcpu_state, dispatch_log_bytes) == 144, "vcpu_state.dispatch_log_bytes");
_Static_assert(offsetof(struct penstock_vcpu_state, gpr) == 152, "vcpu_state.gpr");
_Static_assert(offsetof(struct penstock_vcpu_state, slb) == 408, "vcpu_state.slb");
_Static_assert(offsetof(struct penstock_vcpu_state, sprs) == 920, "vcpu_state.sprs");

struct penstock_vector_state {
	struct penstock_header header;
	penstock_be64 fpscr;
	penstock_be64 vscr;
	uint8_t reserved[8];
	penstock_be64 vsr[64][2];
};
_Static_assert(sizeof(struct penstock_vector_state) == 1056, "size of vector_state");
_Static_assert(offsetof(struct penstock_vector_state, header) == 0, "vector_state.header");
_Static_assert(offsetof(struct penstock_vector_state, fpscr) == 8, "vector_state.fpscr");
_Static_assert(offsetof(struct penstock_vector_state, vscr) == 16, "vector_state.vscr");
_Static_assert(offsetof(struct penstock_vector_state, reserved) == 24, "vector_state.reserved");
_Static_assert(offsetof(struct penstock_vector_state, vsr) == 32, "vector_state.vsr");

struct penstock_invalidate {
	struct penstock_header header;
	penstock_be32 flags;
	penstock_be32 bitmap_bytes;
	penstock_be64 first;
	penstock_be64 bits;
	penstock_be64 hint;
	uint8_t reserved[8];
};
_Static_assert(sizeof(struct penstock_invalidate) == 48, "size of invalidate");
_Static_assert(offsetof(struct penstock_invalidate, header) == 0, "invalidate.header");
_Static_assert(offsetof(struct penstock_invalidate, flags) == 8, "invalidate.flags");
_Static_assert(offsetof(struct penstock_invalidate, bitmap_bytes) == 12, "invalidate.bitmap_bytes");
_Static_assert(offsetof(struct penstock_invalidate, first) == 16, "invalidate.first");
_Static_assert(offsetof(struct penstock_invalidate, bits) == 24, "invalidate.bits");
_Static_assert(offsetof(struct penstock_invalidate, hint) == 32, "invalidate.hint");
_Static_assert(offsetof(struct penstock_invalidate, reserved) == 40, "invalidate.reserved");

#endif
