// SPDX-License-Identifier: GPL-2.0-only
/*
 * Windows. A window is the record itself, open in its queue: hot events are added up in it, and flushing it is sending
 * it. The tracer copies those that are open when the trace ends.
 */

/* Records of failed refills and allocations that are sent one by one in the time of a window; more are counted. */
#define RXT_ALLOWANCE 4
/* A run of a refill worker that is shorter may be counted in a window, see worker.c. */
#define RXT_SHORT_NS 1000000ULL

static __always_inline u64 rxt_window_began(struct rxt_event *window)
{
	return window->ts - window->dur;
}

static __always_inline void rxt_flush(struct rxt_queue *queue, struct rxt_event *window)
{
	if (!window->kind)
		return;
	if (window == &queue->window) {
		u64 irqs = queue->irqs;

		window->irqs = irqs - queue->irqs_sent;
		queue->irqs_sent = irqs;
	}
	rxt_queue_emit(queue, window);
	window->kind = 0;
}

static __always_inline void rxt_window_open(struct rxt_queue *queue, struct rxt_event *window, u64 began, u8 flags)
{
	struct rxt_event fresh = {};

	fresh.kind = RXT_WINDOW;
	fresh.flags = flags;
	fresh.ts = began;
	fresh.posted_before = RXT_NOT_KNOWN;
	fresh.posted_after = RXT_NOT_KNOWN;
	fresh.ifindex = queue->ifindex;
	fresh.queue = queue->queue;
	fresh.driver = queue->driver;
	*window = fresh;
}

/* Makes the window last to `now`. */
static __always_inline void rxt_window_extend(struct rxt_event *window, u64 now)
{
	window->dur += now - window->ts;
	window->ts = now;
}

/* Opens or extends the queue's window with something that lasted from `began` to `now`: the refill of a poll is counted
 * before its poll, which began earlier. */
static __always_inline void rxt_extend(struct rxt_queue *queue, u64 began, u64 now)
{
	struct rxt_event *window = &queue->window;

	if (began < queue->sent)
		began = queue->sent;
	if (window->kind && now - rxt_window_began(window) >= RXT_WINDOW_NS)
		rxt_flush(queue, window);
	if (!window->kind)
		rxt_window_open(queue, window, began, 0);
	else if (began < rxt_window_began(window))
		window->dur = window->ts - began;
	rxt_window_extend(window, now);
}

/* Notes in a window how many buffers are posted now. */
static __always_inline void rxt_note_posted(struct rxt_event *window, u16 posted)
{
	if (posted == RXT_NOT_KNOWN)
		return;
	if (posted < window->posted_before)
		window->posted_before = posted;
	window->posted_after = posted;
}

/* Sends a record of one queue. In NAPI's context the window goes first, so that no window spans the record; a thread
 * that refills while NAPI is on must leave the window alone. */
static __always_inline void rxt_queue_emit_in_order(struct rxt_queue *queue, struct rxt_event *event)
{
	if (!(event->flags & RXT_PROCESS)) {
		rxt_flush(queue, &queue->window);
		queue->sent = event->ts;
	}
	rxt_queue_emit(queue, event);
}

/* Takes one of the RXT_ALLOWANCE records that a queue may send one by one in RXT_WINDOW_NS. Returns 0 if none is left:
 * then the event is only counted. */
static __always_inline int rxt_take_allowance(struct rxt_queue *queue, u64 now)
{
#ifndef RXT_DETAIL_FULL
	if (now - queue->allowance_since >= RXT_WINDOW_NS) {
		queue->allowance_since = now;
		queue->allowance_taken = 0;
	}
	if (queue->allowance_taken >= RXT_ALLOWANCE)
		return 0;
	queue->allowance_taken++;
#endif
	return 1;
}
