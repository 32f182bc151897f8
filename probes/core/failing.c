// SPDX-License-Identifier: GPL-2.0-only
/*
 * Polls in which an allocation failed, of a queue whose refills nobody knows. If no poll takes a frame for RXT_WINDOW_NS
 * after such a poll, a failed refill is sent that ended with it, and RXT_UNBLOCKED once a poll does. Where polls go on
 * and fail meanwhile, the refill has the flag of that meaning: `by_polls` of the queue.
 */

/* So many further polls that fail are no periodic attempt of a driver's: they come because frames do. */
#define RXT_DROPPING 3

/* Sends, once, the failed refill after which no frame was taken. */
static __always_inline void rxt_failing_tell(struct rxt_queue *queue)
{
	struct rxt_event event = {};

	if (queue->failing_told)
		return;
	queue->failing_told = 1;
	/* What failed is counted already, in records of its own or in a window. */
	event.kind = RXT_REFILL;
	event.ts = queue->failing_since;
	event.gfp = queue->failing_gfp;
	event.order = queue->failing_order;
	event.flags = queue->failing_polls >= RXT_DROPPING ? queue->by_polls : 0;
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	rxt_queue_emit(queue, &event);
}

/* Nothing that failed before matters any more. */
static __always_inline void rxt_failing_end(struct rxt_queue *queue, u64 now)
{
	if (queue->failing_told)
		rxt_queue_mark(queue, RXT_UNBLOCKED, now, 0, RXT_NOT_KNOWN, RXT_NOT_KNOWN, 0);
	queue->failing_told = 0;
	queue->failing_since = 0;
}

/*
 * A poll that began at `began` has ended; `order` is that of an allocation that failed in it, or RXT_NO_ORDER. Polls that
 * use their whole budget and fail are a spin, of which windows tell.
 */
static __always_inline void rxt_failing_polled(struct rxt_queue *queue, u64 began, u32 packets, int full, u8 order,
					       u32 gfp)
{
	if (!queue->by_polls)
		return;
	if (packets && queue->failing_since) {
		if (began >= queue->failing_since + RXT_WINDOW_NS)
			rxt_failing_tell(queue);
		rxt_failing_end(queue, began);
	}
	if (order == RXT_NO_ORDER)
		return;
	if (!queue->failing_since || (full && !queue->failing_told)) {
		queue->failing_since = bpf_ktime_get_ns();
		queue->failing_polls = 0;
		queue->failing_order = order;
		queue->failing_gfp = gfp;
	} else if (queue->failing_polls < RXT_DROPPING) {
		queue->failing_polls++;
	}
}

/* The tracer looks at a queue: at one to which nothing happens any more, nothing else tells. */
static __always_inline void rxt_failing_look(struct rxt_queue *queue)
{
	u64 since = queue->failing_since;

	if (since && bpf_ktime_get_ns() >= since + RXT_WINDOW_NS)
		rxt_failing_tell(queue);
}
