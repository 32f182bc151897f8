/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one record. Every probe of every driver sends this and nothing else; the trace
 * file has one column for each member, with the unit and the text of its comment.
 *
 * A hot event (a poll, an interrupt, a refill that went well) is not sent but added up
 * for its queue in a WINDOW record of at most RXT_WINDOW_NS. The members add up the same
 * way in both: a single poll has polls = 1, a window has polls = n. No window of polls
 * spans a record of the same queue from a poll: it is sent first.
 *
 * This file is also read by toolkit/event.py: one member or enumerator a line,
 * its unit in brackets; [posted] marks the kinds that count the posted buffers at that
 * moment. Others repeat an older count, or have none.
 */
#ifndef RXT_EVENT_H
#define RXT_EVENT_H

#define RXT_WINDOW_NS 10000000ULL
#define RXT_ALL_QUEUES 0xffff
#define RXT_NOT_KNOWN 0xffff
#define RXT_NO_ORDER 0xff
#define RXT_NOBODY 0xffffffff
#define RXT_NO_STACK 0xffffffff
#define RXT_IN_USER 0xfffffffe
#define RXT_NO_TICK_NS 100000000ULL

enum rxt_kind {
	RXT_WINDOW = 1,		/* [posted] hot events of one queue, added up */
	RXT_REFILL = 2,		/* [posted] a refill that failed, or ran in process context */
	RXT_ALLOC_FAIL = 3,	/* an allocation inside a refill failed and was not retried smaller */
	RXT_RECLAIM = 4,	/* direct reclaim inside a refill, at its end */
	RXT_WORKER_IN = 5,	/* the refill worker was entered */
	RXT_WORKER_OUT = 6,	/* the refill worker returned */
	RXT_NAPI_OFF = 7,	/* napi_disable was entered */
	RXT_NAPI_ON = 8,	/* napi_enable was entered */
	RXT_POLL = 9,		/* [posted] one NAPI poll, with --detail full */
	RXT_IRQ = 10,		/* one receive interrupt, with --detail full */
	RXT_BLOCKED = 11,	/* [posted] the queue waits; the driver's flags say for what */
	RXT_UNBLOCKED = 12,	/* [posted] the queue no longer waits */
	RXT_OWN_1 = 13,		/* a kind of the driver's own, as are those that follow: driver.toml names them */
	RXT_OWN_2 = 14,		/* the driver's own */
	RXT_OWN_3 = 15,		/* the driver's own */
	RXT_OWN_4 = 16,		/* the driver's own */
	RXT_OWN_5 = 17,		/* the driver's own */
	RXT_OWN_6 = 18,		/* the driver's own */
	RXT_OWN_7 = 19,		/* the driver's own */
	RXT_OWN_8 = 20,		/* the driver's own */
	RXT_LATE = 21,		/* a poll began long after NAPI was scheduled, or after a poll that used its budget; dur: how long after */
	RXT_LOOK = 22,		/* [posted] the tracer asked for the device's statistics: what the queue was in then */
	RXT_TICK = 23,		/* a clock found the CPU of a queue that waits, or is in a long poll; dur: since the clock's tick before */
};

enum rxt_flag {
	RXT_PROCESS = 1,	/* in process context; else in softirq */
	RXT_COMPLETE = 2,	/* the refill posted all that it wanted to */
	RXT_IN_WORKER = 4,	/* inside the driver's refill worker */
	RXT_OWN_FLAG_1 = 8,	/* a flag of the driver's own, as are those that follow: driver.toml names them */
	RXT_OWN_FLAG_2 = 16,	/* the driver's own */
	RXT_OWN_FLAG_3 = 32,	/* the driver's own */
	RXT_OWN_FLAG_4 = 64,	/* the driver's own */
};

struct rxt_event {
	__u64 ts;		/* [ns] CLOCK_MONOTONIC when it ended; a window: its last event */
	__u64 dur;		/* [ns] how long it took; a window: from its first event to its last */
	__u64 reclaim;		/* [ns] spent in direct reclaim meanwhile, by this refill */
	__u32 ifindex;		/* [1] interface index of the device; one in another network namespace than the tracer has a number from 2^31 on */
	__u32 tid;		/* [1] thread that was current; RXT_LATE: that which had the CPU, RXT_NOBODY: none did for half of the time */
	__u32 gfp;		/* [1] gfp mask of the refill or of the allocation; RXT_TICK: number of the kernel's stack, RXT_IN_USER: in none of its functions, RXT_NO_STACK: not known */
	__u32 packets;		/* [packets] taken from the ring by polls */
	__u16 queue;		/* [1] queue number; RXT_ALL_QUEUES: the whole device */
	__u16 posted_before;	/* [buffers] posted at the start; a window: the fewest seen in it */
	__u16 posted_after;	/* [buffers] posted at the end; RXT_NOT_KNOWN where nobody looked */
	__u16 polls;		/* [polls] NAPI polls */
	__u16 full_polls;	/* [polls] of these, polls that reported their whole budget */
	__u16 refills;		/* [refills] refill attempts */
	__u16 failed;		/* [refills] of these, not complete */
	__u16 fallbacks;	/* [allocations] failed inside a refill, then retried at a smaller order */
	__u16 irqs;		/* [interrupts] receive interrupts */
	__u16 cpu;		/* [1] CPU it ended on */
	__u8 kind;		/* [1] enum rxt_kind */
	__u8 flags;		/* [1] bits of enum rxt_flag */
	__u8 order;		/* [1] order of the allocation that failed; a refill: RXT_NO_ORDER if none did */
	__u8 driver;		/* [1] index into the drivers of this trace */
};

#endif
