// SPDX-License-Identifier: GPL-2.0-only
/*
 * Polls in which an allocation failed, of a queue whose refills nobody knows. If no poll takes a frame for RXT_WINDOW_NS
 * after such a poll, a failed refill is sent that ended with it, and RXT_UNBLOCKED once a poll does. A flag of the driver's
 * says what polls did meanwhile: that they went on and failed, or that they were a spin.
 */

/* Polls go on and fail because frames come, and are lost, if this many of them did with no more than this between two of
 * them, and until now. Of the polls in the first RXT_WINDOW_NS, frames of before may be the reason. A NIC that keeps what
 * is not taken has such polls until its ring is full, and then two at each watchdog of its driver, every 2 s. */
#define RXT_DROPPING 3
#define RXT_DROPPING_NS (10 * RXT_WINDOW_NS)
/* So long it takes until a ring is full. */
#define RXT_LOOK_NS (100 * RXT_WINDOW_NS)
/* A poll may fail and claim its whole budget to be called again, whatever it took. So many polls in a row would have
 * taken 16,384 frames, more than any ring has, and not one of them filled it again. */
#define RXT_SPINNING 256

/* Sends, once, the failed refill after which no frame was taken until `now`. */
static __always_inline void rxt_failing_tell(struct rxt_queue *queue, u64 now)
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
	event.posted_before = queue->failing_empty ? 0 : RXT_NOT_KNOWN;
	event.posted_after = event.posted_before;
	if (queue->failing_full >= RXT_SPINNING)
		event.flags = queue->spinning_flag;
	else if (queue->failing_polls >= RXT_DROPPING && queue->failing_last + RXT_DROPPING_NS >= now)
		event.flags = queue->by_polls;
	rxt_queue_emit(queue, &event);
}

/* Nothing that failed before matters any more: a poll that began at `now` takes a frame, or NAPI is enabled then. */
static __always_inline void rxt_failing_end(struct rxt_queue *queue, u64 now)
{
	u64 since = queue->failing_since;

	if (since && now >= since + RXT_WINDOW_NS)
		rxt_failing_tell(queue, now);
	if (queue->failing_told)
		rxt_queue_mark(queue, RXT_UNBLOCKED, now, 0, RXT_NOT_KNOWN, RXT_NOT_KNOWN, 0);
	queue->failing_told = 0;
	queue->failing_since = 0;
	queue->failing_full = 0;
}

/* A poll that began at `began` has ended; `order` is that of an allocation that failed in it, or RXT_NO_ORDER. What it
 * took is not known, and so not in `packets`, if it failed and was `full`. */
static __always_inline void rxt_failing_polled(struct rxt_queue *queue, u64 began, u32 packets, int full, u8 order,
					       u32 gfp)
{
	if (!queue->by_polls)
		return;
	if (packets && queue->failing_since)
		rxt_failing_end(queue, began);
	if (order == RXT_NO_ORDER)
		return;
	if (!full)
		queue->failing_full = 0;
	else if (!queue->failing_full++)
		queue->failing_run = began;
	if (queue->failing_told)
		return;
	if (!queue->failing_since || full) {
		queue->failing_since = bpf_ktime_get_ns();
		queue->failing_polls = 0;
		queue->failing_last = queue->failing_since;
		queue->failing_empty = queue->empty;
		queue->failing_order = order;
		queue->failing_gfp = gfp;
	} else if (began >= queue->failing_since + RXT_WINDOW_NS) {
		if (began - queue->failing_last > RXT_DROPPING_NS)
			queue->failing_polls = 0;
		if (queue->failing_polls < RXT_DROPPING)
			queue->failing_polls++;
		queue->failing_last = began;
	}
	if (queue->failing_full >= RXT_SPINNING) {
		queue->failing_since = queue->failing_run;
		rxt_failing_tell(queue, began);
	}
}

/* The tracer looks at a queue: at one to which nothing happens any more, nothing else tells. By then the polls have come
 * that frames bring. */
static __always_inline void rxt_failing_look(struct rxt_queue *queue)
{
	u64 since = queue->failing_since, now = bpf_ktime_get_ns();

	if (since && now >= since + RXT_LOOK_NS)
		rxt_failing_tell(queue, now);
}
