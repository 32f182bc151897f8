// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refills, from the driver's entry to its return. A refill in softirq is kept with its poll, one in process context per
 * thread, since a thread may sleep in it.
 */
BPF_HASH(process_fills, u32, struct rxt_fill, 1024);

/* The refill that this context is in: that of the CPU's poll, or that of the current thread; 0 if there is none. */
static __always_inline struct rxt_fill *rxt_fill_here(void)
{
	struct rxt_poll *poll = rxt_poll_here();
	u32 tid;

	if (poll)
		return poll->fill.key ? &poll->fill : 0;
	tid = rxt_tid();
	return process_fills.lookup(&tid);
}

/* A refill begins in the poll that this CPU is in; 0: in a thread. */
static __always_inline void rxt_fill_in(struct rxt_poll *poll, u64 key, u32 gfp, u16 posted)
{
	struct rxt_fill fill = {};
	u32 tid;

	fill.key = key;
	fill.ts = bpf_ktime_get_ns();
	fill.gfp = gfp;
	fill.posted = posted;
	fill.failed_order = RXT_NO_ORDER;
	if (poll) {
		poll->fill = fill;
		return;
	}
	fill.process = 1;
	tid = rxt_tid();
	process_fills.update(&tid, &fill);
}

/* Adds a refill in softirq to the queue's window, unless it is to be sent; returns whether it did. */
static __always_inline int rxt_fill_count(struct rxt_queue *queue, struct rxt_event *refill, int complete, u16 posted,
					  int softirq)
{
#ifndef RXT_DETAIL_FULL
	struct rxt_event *window = &queue->window;
	/* A refill that leaves the ring empty is always sent: after it there may be no other. So is the refill that
	 * fills it again: it tells to the nanosecond how long the ring was empty. */
	int emptied = (!complete || queue->by_program) && !posted && !queue->empty;
	int filled = posted && posted != RXT_NOT_KNOWN && queue->empty;

	queue->empty = !posted;
	if (softirq && !filled && !emptied && (complete || !rxt_take_allowance(queue, refill->ts))) {
		rxt_extend(queue, refill->ts - refill->dur, refill->ts);
		rxt_note_posted(window, refill->posted_before);
		rxt_note_posted(window, posted);
		window->refills++;
		window->failed += !complete;
		window->fallbacks += refill->fallbacks;
		return 1;
	}
#endif
	return 0;
}

/* Ends the refill that rxt_fill_here has found. */
static __always_inline void rxt_fill_out(struct rxt_fill *fill, int complete, u16 posted)
{
	struct rxt_event event = {};
	struct rxt_queue *queue;
	struct rxt_worker *worker;
	int softirq = !fill->process;
	u64 key = fill->key;
	u32 tid;

	event.ts = bpf_ktime_get_ns();
	event.dur = event.ts - fill->ts;
	event.reclaim = fill->reclaim;
	event.gfp = fill->gfp;
	event.posted_before = fill->posted;
	event.order = fill->failed_order;
	event.fallbacks = fill->fallbacks;
	if (softirq) {
		fill->key = 0;
	} else {
		tid = rxt_tid();
		process_fills.delete(&tid);
	}
	queue = queues.lookup(&key);
	if (!queue)
		return;
	if (rxt_fill_count(queue, &event, complete, posted, softirq))
		return;
	worker = softirq ? 0 : rxt_worker_here();
	if (worker && worker->deferred && event.dur < RXT_SHORT_NS) {
		rxt_worker_count(queue, &event, complete, posted);
		return;
	}
	if (worker) {
		rxt_worker_release(queue, worker);
		rxt_flush(queue, &queue->worker_window);
	}
	event.kind = RXT_REFILL;
	event.posted_after = posted;
	event.refills = 1;
	event.failed = !complete;
	event.flags = (complete ? RXT_COMPLETE : 0) | (softirq ? 0 : RXT_PROCESS) | (worker ? RXT_IN_WORKER : 0);
	event.flags |= queue->by_program;
	rxt_queue_emit_in_order(queue, &event);
}
