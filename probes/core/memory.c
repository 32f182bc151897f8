// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the memory management does inside a refill: allocations that fail, and direct reclaim.
 */

/* An allocation failed in a poll of a queue whose refills are not known: it may have been one of a refill, or of what
 * becomes of a frame. */
static __always_inline void rxt_alloc_failed_in_poll(u32 gfp, u32 order)
{
	struct rxt_poll *poll = rxt_poll_here();
	struct rxt_event event = {};
	struct rxt_queue *queue;
	u64 key;

	if (!poll)
		return;
	key = poll->key;
	queue = queues.lookup(&key);
	if (!queue || !queue->by_polls || (order && (gfp & RXT_GFP_NORETRY)))
		return;
	poll->failed_order = order;
	poll->failed_gfp = gfp;
	event.ts = bpf_ktime_get_ns();
	if (!rxt_take_allowance(queue, event.ts)) {
		rxt_extend(queue, event.ts, event.ts);
		queue->window.failed++;
		return;
	}
	event.kind = RXT_ALLOC_FAIL;
	event.gfp = gfp;
	event.order = order;
	event.failed = 1;
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	rxt_queue_emit_in_order(queue, &event);
}

/*
 * warn_alloc(gfp, nodemask, "page allocation failure: order:%u", order): called for each allocation that
 * fails, warned of or not (__alloc_pages_slowpath in mm/page_alloc.c; its name has a compiler's suffix
 * and takes no probe).
 */
int rxt_alloc_failed(struct pt_regs *ctx)
{
	struct rxt_fill *fill = rxt_fill_here();
	u32 gfp = PT_REGS_PARM1(ctx), order = PT_REGS_PARM4(ctx);
	struct rxt_event event = {};
	struct rxt_worker *worker;
	struct rxt_queue *queue;
	u64 key;

	/* What reclaim asks for, to swap out, is not the refill's own failure. */
	if (!fill) {
		rxt_alloc_failed_in_poll(gfp, order);
		return 0;
	}
	if (fill->reclaim_began)
		return 0;
	/* A refill that may reclaim asks only with __GFP_DIRECT_RECLAIM or __GFP_NORETRY: an interrupt failed here. */
	if ((fill->gfp & RXT_GFP_DIRECT_RECLAIM) && !(gfp & (RXT_GFP_DIRECT_RECLAIM | RXT_GFP_NORETRY)))
		return 0;
	/* skb_page_frag_refill tries a higher order first, with __GFP_NORETRY, and then order 0. */
	if (order && (gfp & RXT_GFP_NORETRY)) {
		fill->fallbacks++;
		return 0;
	}
	fill->failed_order = order;
	worker = fill->process ? rxt_worker_here() : 0;
	key = fill->key;
	queue = queues.lookup(&key);
	event.ts = bpf_ktime_get_ns();
	if (!queue || (worker && worker->deferred) || !rxt_take_allowance(queue, event.ts))
		return 0;
	event.kind = RXT_ALLOC_FAIL;
	event.gfp = gfp;
	event.order = order;
	event.posted_before = fill->posted;
	event.posted_after = RXT_NOT_KNOWN;
	event.flags = fill->process ? RXT_PROCESS : 0;
	rxt_queue_emit_in_order(queue, &event);
	return 0;
}

/* raw tracepoint vmscan:mm_vmscan_direct_reclaim_begin(order, gfp) */
int rxt_reclaim_in(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tid = rxt_tid();
	struct rxt_fill *fill = process_fills.lookup(&tid);

	if (fill) {
		fill->reclaim_began = bpf_ktime_get_ns();
		fill->reclaim_order = ctx->args[0];
	}
	return 0;
}

/* raw tracepoint vmscan:mm_vmscan_direct_reclaim_end(nr_reclaimed) */
int rxt_reclaim_out(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tid = rxt_tid();
	struct rxt_fill *fill = process_fills.lookup(&tid);
	struct rxt_worker *worker;
	struct rxt_event event = {};
	struct rxt_queue *queue;
	u64 key;

	if (!fill || !fill->reclaim_began)
		return 0;
	event.ts = bpf_ktime_get_ns();
	event.dur = event.ts - fill->reclaim_began;
	fill->reclaim += event.dur;
	fill->reclaim_began = 0;
	key = fill->key;
	queue = queues.lookup(&key);
	if (!queue)
		return 0;
	worker = rxt_worker_here();
	rxt_worker_release(queue, worker);
	event.kind = RXT_RECLAIM;
	event.reclaim = event.dur;
	event.gfp = fill->gfp;
	event.order = fill->reclaim_order;
	event.posted_before = fill->posted;
	event.posted_after = RXT_NOT_KNOWN;
	event.flags = RXT_PROCESS | (worker ? RXT_IN_WORKER : 0);
	rxt_queue_emit_in_order(queue, &event);
	return 0;
}
