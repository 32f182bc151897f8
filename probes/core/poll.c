// SPDX-License-Identifier: GPL-2.0-only
/*
 * NAPI polls. While a CPU is in a poll of ours, its struct rxt_poll says whose poll that is, and what happens on the
 * CPU happens in softirq; outside of a poll the current thread did it.
 */

/* A refill under way, of a poll or of a thread (refill.c). */
struct rxt_fill {
	u64 key;		/* 0: no refill in progress */
	u64 ts;
	u64 reclaim;
	u64 reclaim_began;
	u32 gfp;
	u16 posted;
	u16 fallbacks;
	u8 failed_order;
	u8 reclaim_order;
	u8 process;		/* a thread does it, and no poll */
};

struct rxt_poll {
	struct rxt_fill fill;	/* the refill that it is in */
	u64 key;		/* 0: this CPU is in no poll of ours */
	u64 ts;			/* ns, when it began; 0: not known */
	u32 failed_gfp;
	u16 posted;
	u8 failed_order;	/* of an allocation that failed in it; RXT_NO_ORDER: none did */
};

BPF_PERCPU_ARRAY(polls, struct rxt_poll, 1);

#define RXT_QUEUES_HERE 8	/* as many queues of a CPU are known */

/* Of a CPU: the last tick of its clock (tick.c), and the queues that were last polled here. */
struct rxt_here {
	u64 tick;
	u64 looked;		/* ns, when the frames were last looked at that wait for the queues (waiting.c) */
	u64 keys[RXT_QUEUES_HERE];
	u32 next;
};

BPF_PERCPU_ARRAY(rxt_here, struct rxt_here, 1);

/* Remembers that this queue is polled on this CPU. */
static __always_inline void rxt_polled_here(struct rxt_queue *queue, u64 key)
{
	u32 zero = 0, cpu = bpf_get_smp_processor_id();
	struct rxt_here *here;
	int i;

	if (queue->cpu == cpu + 1)
		return;
	here = rxt_here.lookup(&zero);
	if (!here)
		return;
	queue->cpu = cpu + 1;
	#pragma unroll
	for (i = 0; i < RXT_QUEUES_HERE; i++)
		if (here->keys[i] == key)
			return;
	here->keys[here->next++ & (RXT_QUEUES_HERE - 1)] = key;
}

/* The poll that this CPU is in; 0 if it is in none. */
static __always_inline struct rxt_poll *rxt_poll_here(void)
{
	u32 zero = 0;
	struct rxt_poll *poll = polls.lookup(&zero);

	return poll && poll->key ? poll : 0;
}

/* Returns the poll that begins now; 0 if there is no room for one. */
static __always_inline struct rxt_poll *rxt_poll_in(u64 key, u16 posted)
{
	u32 zero = 0;
	struct rxt_poll *poll = polls.lookup(&zero);

	if (!poll)
		return 0;
	poll->fill.key = 0;
	poll->key = key;
	poll->ts = bpf_ktime_get_ns();
	poll->posted = posted;
	poll->failed_order = RXT_NO_ORDER;
	return poll;
}

/* The poll that this CPU is in turns out to be one of another queue: it counts for that one when it ends. */
static __always_inline void rxt_poll_switch(struct rxt_poll *poll, u64 key, u16 posted)
{
	poll->key = key;
	poll->posted = posted;
}

/* Makes what follows on this CPU count as softirq until rxt_poll_unnest: for a driver that holds a lock with interrupts
 * off where others have NAPI. It may be inside a poll of another driver, which is kept in `around`. */
static __always_inline void rxt_poll_nest(struct rxt_poll *around, u64 key)
{
	u32 zero = 0;
	struct rxt_poll *poll = polls.lookup(&zero);

	if (!poll)
		return;
	*around = *poll;
	poll->fill.key = 0;
	poll->key = key;
	poll->ts = 0;
}

static __always_inline void rxt_poll_unnest(struct rxt_poll *around)
{
	u32 zero = 0;
	struct rxt_poll *poll = polls.lookup(&zero);

	if (poll)
		*poll = *around;
}

/* Counts a poll that ends now, or what a driver without NAPI has in its place. */
static __always_inline void rxt_polled(struct rxt_queue *queue, u64 began, u32 packets, u16 posted, int full)
{
	u64 now = bpf_ktime_get_ns();
#ifdef RXT_DETAIL_FULL
	struct rxt_event event = {};

	event.kind = RXT_POLL;
	event.ts = now;
	event.dur = now - began;
	event.packets = packets;
	event.polls = 1;
	event.full_polls = full;
	event.posted_before = posted;
	event.posted_after = RXT_NOT_KNOWN;
	rxt_queue_emit_in_order(queue, &event);
#else
	struct rxt_event *window = &queue->window;

	/* A spin that lasted is over when a poll takes packets: its window ends before this poll. */
	if (packets && !window->packets && window->failed && window->full_polls &&
	    now - rxt_window_began(window) >= RXT_SHORT_NS)
		rxt_flush(queue, window);
	rxt_extend(queue, began, now);
	rxt_note_posted(window, posted);
	window->polls++;
	window->packets += packets;
	window->full_polls += full;
#endif
}

/*
 * A poll that began at `began` has ended: was it waited for long? NAPI stays scheduled after a poll that used its
 * budget, and may be scheduled again before a poll has ended.
 */
static __always_inline void rxt_waited(struct rxt_queue *queue, u64 began, int again)
{
	u64 since = queue->scheduled;
	struct rxt_event event = {};

	if (since <= began)
		queue->scheduled = again ? bpf_ktime_get_ns() : 0;
	if (!since || began < since + RXT_WINDOW_NS)
		return;
	event.kind = RXT_LATE;
	event.ts = began;
	event.dur = began - since;
	event.tid = rxt_had_cpu(since, began);
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	rxt_queue_emit(queue, &event);
}

/* raw tracepoint napi:napi_poll(napi, work, budget), fired after each poll of every NIC. */
int rxt_poll_out(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0;
	struct rxt_poll *poll = polls.lookup(&zero);
	struct rxt_queue *queue, *scheduled;
	u64 key, napi = ctx->args[0], counted;
	int began;
	u32 work = (u32)ctx->args[1], budget = (u32)ctx->args[2], packets = work;
	u16 posted;

	if (!poll)
		return 0;
	key = poll->key;
	poll->key = 0;
	began = key != 0;
	if (!began) {
		/* Not ours, or one whose begin was missed because another program was running on this CPU. */
		key = napi;
		poll->ts = bpf_ktime_get_ns();
		poll->posted = RXT_NOT_KNOWN;
		poll->failed_order = RXT_NO_ORDER;
	}
	queue = queues.lookup(&key);
	if (!queue || !queue->watched)
		return 0;
	scheduled = key == napi ? queue : queues.lookup(&napi);
	if (scheduled) {
		rxt_polled_here(scheduled, napi);
		scheduled->due = 0;
	}
	if (scheduled && began)
		rxt_waited(scheduled, poll->ts, work >= budget);
	else if (scheduled)
		scheduled->scheduled = 0;
	/* A poll may claim its whole budget to be called again: some drivers do when a refill failed. */
	if (queue->counter) {
		counted = rxt_u64(queue->counter);
		packets = counted - queue->counted;
		queue->counted = counted;
	} else if (poll->failed_order != RXT_NO_ORDER && work >= budget) {
		packets = 0;
	}
	posted = queue->ring ? rxt_ring_polled(queue, poll->failed_order, poll->failed_gfp) : poll->posted;
	rxt_failing_polled(queue, poll->ts, packets, work >= budget, poll->failed_order, poll->failed_gfp);
	rxt_polled(queue, poll->ts, packets, posted, work >= budget);
	return 0;
}
