// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames that wait though NAPI is neither scheduled nor in a poll nor off: an interrupt has to schedule it. A driver that
 * can count such frames looks at them at the clock of the CPU on which their queue was last polled, and elsewhere.
 * Either that CPU takes interrupts, as it does the clock's, and the one for these frames does not come: then RXT_BLOCKED
 * is sent, with the time of the first look that found them, and RXT_UNBLOCKED when NAPI is scheduled at last. Or that CPU
 * takes none: then the poll that comes is as late as if NAPI had been scheduled all that time (rxt_waited).
 */

/* An interrupt may be late, under a hypervisor above all. From this time on it is taken for lost. */
#define RXT_UNSCHEDULED_NS 100000000ULL
#define RXT_NAPI_SCHED 1	/* bit NAPI_STATE_SCHED of napi_struct.state; also set in a poll, and while NAPI is off */

/* Somebody looks at a queue now: are there frames that no poll took? `taken` changes with each that a poll takes. The
 * queue's CPU took an interrupt at `before`; 0: it is not that CPU that looks, but the tracer, which is told again what was
 * told: it may have begun another file. */
static __always_inline void rxt_waiting(struct rxt_queue *queue, u64 napi, u64 before, int waiting, u16 taken,
					u16 posted)
{
	u64 now = bpf_ktime_get_ns(), polled = queue->window.ts;
	int masked = before && now - before >= RXT_NO_TICK_NS;

	if (!waiting || (rxt_u32(napi + OFF_napi_state) & RXT_NAPI_SCHED)) {
		queue->waits_since = 0;
		queue->waits_told = 0;
	} else if (!queue->waits_since || taken != queue->waits_taken || masked) {
		queue->waits_since = now;
		queue->waits_taken = taken;
		queue->waits_told = 0;
		if (masked)
			queue->due = polled > before ? polled : before;
	} else if (queue->waits_told) {
		if (!before)
			rxt_queue_mark(queue, RXT_BLOCKED, now, 0, posted, posted, RXT_PROCESS);
	} else if (now - queue->waits_since >= RXT_UNSCHEDULED_NS) {
		queue->waits_told = 1;
		rxt_queue_mark(queue, RXT_BLOCKED, queue->waits_since, 0, posted, posted, RXT_PROCESS);
	}
}

/* NAPI is scheduled now. */
static __always_inline void rxt_waiting_end(struct rxt_queue *queue, u64 now)
{
	queue->scheduled = queue->due ? queue->due : now;
	queue->due = 0;
	if (queue->waits_told)
		rxt_queue_mark(queue, RXT_UNBLOCKED, now, 0, RXT_NOT_KNOWN, RXT_NOT_KNOWN, RXT_PROCESS);
	queue->waits_told = 0;
}

/* A queue of a driver that was last polled on this CPU, one of RXT_QUEUES_HERE; 0: none in this place. */
static __always_inline struct rxt_queue *rxt_queue_here(struct rxt_here *here, int place, u32 driver)
{
	u64 key = here->keys[place];
	struct rxt_queue *queue = key ? queues.lookup(&key) : 0;

	if (!queue || !queue->watched || queue->driver != driver || queue->cpu != bpf_get_smp_processor_id() + 1)
		return 0;
	return queue;
}
