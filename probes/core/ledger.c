// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sending a record to the tracer. The ledger counts every attempt, per CPU and kind, and every record that found the
 * ring full: so the tracer knows what it did not get.
 */
#define RXT_KINDS 32

struct rxt_count {
	u64 attempted;
	u64 dropped;
};

/* The tracer says how large this ring is to be when it loads it. */
BPF_RINGBUF_OUTPUT(events, 1);
/*
 * Mapped by the tracer: reading a map with a system call keeps every kprobe program on that CPU from
 * running meanwhile (bpf_disable_instrumentation in kernel/bpf/syscall.c), which would lose polls.
 */
BPF_F_TABLE("array", u32, struct rxt_count, ledger, RXT_CPUS * RXT_KINDS, BPF_F_MMAPABLE);
/* Not 0 while every hook is attached; nothing is sent before and after. */
BPF_ARRAY(armed, u32, 1);
/* Never looked up: tells the loader how the compiler lays the record out. */
BPF_ARRAY(layout, struct rxt_event, 1);

static __always_inline void rxt_emit(struct rxt_event *event)
{
	u32 cpu = bpf_get_smp_processor_id(), slot = cpu * RXT_KINDS + event->kind;
	u32 zero = 0, *on = armed.lookup(&zero);
	struct rxt_count *count;

	if (!on || !*on)
		return;
	if (event->kind != RXT_LATE)
		event->tid = rxt_tid();
	event->cpu = cpu;
	count = ledger.lookup(&slot);
	if (!count)
		return;
	__sync_fetch_and_add(&count->attempted, 1);
	/* The tracer looks by itself; waking it up would cost more than the record. */
	if (events.ringbuf_output(event, sizeof(*event), BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&count->dropped, 1);
}
