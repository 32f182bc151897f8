// SPDX-License-Identifier: GPL-2.0-only
/*
 * aoe, the frames that requests are sent in. A queue is a struct aoetgt, whose address is the key; posted are the skbs
 * in its device's pool. Nearly all of it runs under the device's lock, with interrupts off. See README.md beside this
 * file.
 */

#define AOE_KICKME 32		/* DEVFL_KICKME, drivers/block/aoe/aoe.h */
#define AOE_TARGETS 4		/* NTARGETS, as many as are looked at */
#define AOE_MINORS 16		/* AOE_PARTITIONS, minor numbers of a disk */
#define AOE_SKBS 256		/* of a pool, or of a target's frames, as many as are looked at */

/* The search for a frame that this CPU is in. */
struct aoe_look {
	u64 device;		/* 0: none */
	u64 began;
	u64 target;		/* whose frame is looked for now */
	u64 head;		/* the pool's first skb before */
	struct rxt_poll around;	/* the poll in which this happens */
	u16 pool;
	u8 refused;		/* a target had none */
};

/* How long a target has been blocked, and what was sent of it. */
struct aoe_wait {
	u64 since;		/* ns, when it was blocked; 0: it is not */
	u16 posted;
	u8 flags;
	u8 told;
	u8 left;		/* the timer found it left alone, and nobody has looked for a frame since */
};

struct aoe_req {
	u64 began;
	u64 device;
};

BPF_PERCPU_ARRAY(aoe_looks, struct aoe_look, 1);
BPF_HASH(aoe_waits, u64, struct aoe_wait, 256);
BPF_HASH(aoe_requests, u64, struct aoe_req, 4096);

static __always_inline u16 aoe_pool(u64 device)
{
	return rxt_u32(device + OFF_aoe_pool + OFF_list_qlen);
}

/* Does the network hold the skb, too: has it more than the driver's reference to its data (skb_shared_info.dataref)? */
static __always_inline int aoe_held(u64 skb)
{
	return rxt_u32(rxt_pointer(skb + OFF_skb_head) + rxt_u32(skb + OFF_skb_end) + OFF_shinfo_dataref) != 1;
}

static __always_inline int aoe_frame_held(u64 frame)
{
	u64 skb = rxt_pointer(frame - OFF_frame_head + OFF_frame_skb);

	return skb && aoe_held(skb);
}

/* What a target's next frame would find: FLAG_held if neither its own skb nor the pool's first is free, and
 * FLAG_some_free if another is. */
static __always_inline u8 aoe_skbs(u64 target, u64 device)
{
	u64 frames = target + OFF_tgt_ffree, frame = rxt_pointer(frames);
	u64 pool = device + OFF_aoe_pool, skb = rxt_pointer(pool);
	int i;

	/* struct list_head and struct sk_buff begin with `next`, and both lists end where they begin. */
	if (frame == frames || !aoe_frame_held(frame) || (skb != pool && !aoe_held(skb)))
		return 0;
	for (i = 0; i < AOE_SKBS; i++) {
		frame = rxt_pointer(frame);
		if (!frame || frame == frames)
			break;
		/* A driver without a pool takes any. */
		if (!aoe_frame_held(frame))
			return skb == pool ? 0 : FLAG_held | FLAG_some_free;
	}
	for (i = 0; i < AOE_SKBS && skb && skb != pool; i++) {
		if (!aoe_held(skb))
			return FLAG_held | FLAG_some_free;
		skb = rxt_pointer(skb);
	}
	return FLAG_held;
}

static __always_inline struct rxt_queue *aoe_queue(u64 target)
{
	struct rxt_queue *queue = queues.lookup(&target);
	u64 device, targets;
	u32 number, i;

	if (!queue) {
		device = rxt_pointer(target + OFF_tgt_device);
		targets = rxt_pointer(device + OFF_aoe_targets);
		number = rxt_u32(device + OFF_aoe_sysminor) / AOE_MINORS * AOE_TARGETS;
		for (i = 1; i < AOE_TARGETS; i++)
			if (rxt_pointer(targets + i * 8) == target)
				number += i;
		u64 netdev = rxt_pointer(rxt_pointer(target + OFF_tgt_ifp) + OFF_ifp_nd);

		if (!netdev)
			return 0;
		queue = rxt_add_queue(target, netdev, number, DRIVER_aoe);
	}
	return queue && queue->watched ? queue : 0;
}

static __always_inline void aoe_send(struct rxt_queue *queue, u8 kind, u64 ts, u64 dur, u16 posted, u8 flags)
{
	rxt_queue_mark(queue, kind, ts, dur, posted, posted, flags);
}

static __always_inline void aoe_tell(struct rxt_queue *queue, struct aoe_wait *wait)
{
	if (!wait->told)
		aoe_send(queue, RXT_BLOCKED, wait->since, 0, wait->posted, wait->flags);
	wait->told = 1;
}

static __always_inline struct aoe_look *aoe_look(void)
{
	u32 zero = 0;

	return aoe_looks.lookup(&zero);
}

/* static struct frame *newframe(struct aoedev *d), under d->lock */
int aoe_newframe(struct pt_regs *ctx)
{
	struct aoe_look *look = aoe_look();

	if (!look)
		return 0;
	look->device = PT_REGS_PARM1(ctx);
	look->began = bpf_ktime_get_ns();
	look->refused = 0;
	/* A response may arrive in a NIC's poll. */
	rxt_poll_nest(&look->around, look->device);
	return 0;
}

/* static struct frame *newtframe(struct aoedev *d, struct aoetgt *t), under d->lock */
int aoe_newtframe(struct pt_regs *ctx)
{
	struct aoe_look *look = aoe_look();
	u64 target = PT_REGS_PARM2(ctx);

	if (!look || !look->device)
		return 0;
	look->target = target;
	look->pool = aoe_pool(look->device);
	look->head = rxt_pointer(look->device + OFF_aoe_pool);
	if (aoe_queue(target))
		rxt_fill_in(rxt_poll_here(), target, 0, look->pool);
	return 0;
}

int aoe_newtframe_out(struct pt_regs *ctx)
{
	struct aoe_look *look = aoe_look();
	u64 frame = PT_REGS_RC(ctx), target, now = bpf_ktime_get_ns();
	struct rxt_fill *fill = rxt_fill_here();
	struct aoe_wait fresh = {}, *wait;
	struct rxt_queue *queue;
	u16 pool;

	if (!look || !look->device || !look->target)
		return 0;
	target = look->target;
	look->target = 0;
	queue = aoe_queue(target);
	if (!queue)
		return 0;
	pool = aoe_pool(look->device);
	if (fill && frame && (pool != look->pool || rxt_pointer(look->device + OFF_aoe_pool) != look->head))
		fill->fallbacks++;
	wait = aoe_waits.lookup_or_try_init(&target, &fresh);
	if (wait)
		wait->left = 0;
	/* Under the device's lock nothing else is at the window: none spans the end of a wait. */
	if (frame && wait && wait->since && wait->told)
		rxt_flush(queue, &queue->window);
	if (fill)
		rxt_fill_out(fill, frame != 0, pool);
	if (!wait)
		return 0;
	if (frame) {
		if (wait->since && wait->told)
			aoe_send(queue, RXT_UNBLOCKED, now, 0, pool, 0);
		wait->since = 0;
		return 0;
	}
	look->refused = 1;
	if (!wait->since) {
		wait->since = now;
		wait->posted = pool;
		wait->flags = aoe_skbs(target, look->device);
		wait->told = 0;
	}
#ifndef RXT_DETAIL_FULL
	/* Pools are full briefly all the time: RXT_BLOCKED is sent only after RXT_WINDOW_NS. */
	if (now - wait->since < RXT_WINDOW_NS)
		return 0;
#endif
	aoe_tell(queue, wait);
	return 0;
}

int aoe_newframe_out(struct pt_regs *ctx)
{
	struct aoe_look *look = aoe_look();
	u64 frame = PT_REGS_RC(ctx), target;
	struct rxt_queue *queue;

	if (!look || !look->device)
		return 0;
	rxt_poll_unnest(&look->around);
	target = frame ? rxt_pointer(frame + OFF_frame_t) : rxt_pointer(rxt_pointer(look->device + OFF_aoe_tgt));
	queue = aoe_queue(target);
	/* No frame though no target was asked for one: the windows are full, which is flow control. */
	if (queue)
		rxt_polled(queue, look->began, frame != 0, aoe_pool(look->device), !frame && !look->refused);
	look->device = 0;
	return 0;
}

/* Is a device left alone: does a part of a request wait for a frame (nextbuf), and is no frame out, whose response
 * would have somebody look for one? */
static __always_inline int aoe_left(u64 device, u64 targets)
{
	u64 target;
	int i;

	if (!rxt_pointer(device + OFF_aoe_buf))
		return 0;
	for (i = 0; i < AOE_TARGETS; i++) {
		target = rxt_pointer(targets + i * 8);
		if (!target)
			break;
		if (rxt_u16(target + OFF_tgt_nout))
			return 0;
	}
	return 1;
}

/* static void rexmit_timer(struct timer_list *timer), of each device ten times a second. If it finds a target left alone
 * twice in a row, the target is blocked. It may have been before the trace began, or before its file did: that is said
 * each time. */
int aoe_timer(struct pt_regs *ctx)
{
	u64 device = PT_REGS_PARM1(ctx) - OFF_aoe_timer, targets = rxt_pointer(device + OFF_aoe_targets), target;
	u64 now = bpf_ktime_get_ns();
	struct aoe_wait fresh = {}, *wait;
	struct rxt_queue *queue;
	u8 kick = rxt_u32(device + OFF_aoe_flags) & AOE_KICKME ? FLAG_kick : 0, skbs;
	int i, left = aoe_left(device, targets), again;

	for (i = 0; i < AOE_TARGETS; i++) {
		target = rxt_pointer(targets + i * 8);
		if (!target)
			break;
		queue = left ? aoe_queue(target) : queues.lookup(&target);
		if (!queue || !queue->watched)
			continue;
		wait = left ? aoe_waits.lookup_or_try_init(&target, &fresh) : aoe_waits.lookup(&target);
		if (!wait)
			continue;
		again = left && wait->left;
		wait->left |= left;
		if (again && !wait->since) {
			wait->since = now;
			wait->told = 1;
		}
		if (!wait->since)
			continue;
		skbs = aoe_skbs(target, device);
		if (again)
			aoe_send(queue, RXT_LOOK, now, 0, aoe_pool(device), skbs);
		aoe_tell(queue, wait);
		aoe_send(queue, KIND_timer, now, 0, aoe_pool(device), skbs | kick);
	}
	return 0;
}

/* static void resend(struct aoedev *d, struct frame *f), under d->lock */
int aoe_resend(struct pt_regs *ctx)
{
	u64 frame = PT_REGS_PARM2(ctx), now = bpf_ktime_get_ns();
	struct rxt_queue *queue = aoe_queue(rxt_pointer(frame + OFF_frame_t));

	if (queue && rxt_take_allowance(queue, now))
		aoe_send(queue, KIND_retransmit, now, now - rxt_pointer(frame + OFF_frame_sent),
			 aoe_pool(PT_REGS_PARM1(ctx)), 0);
	return 0;
}

/* static void ktcomplete(struct frame *f, struct sk_buff *skb): a response, or none for a frame that is given up */
int aoe_response(struct pt_regs *ctx)
{
	struct rxt_queue *queue = aoe_queue(rxt_pointer(PT_REGS_PARM1(ctx) + OFF_frame_t));

	if (queue && PT_REGS_PARM2(ctx))
		rxt_irq(queue);
	return 0;
}

/* static blk_status_t aoeblk_queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd) */
int aoe_request(struct pt_regs *ctx)
{
	u64 rq = rxt_pointer(PT_REGS_PARM2(ctx) + OFF_bd_rq);
	struct aoe_req request = {};

	request.began = bpf_ktime_get_ns();
	request.device = rxt_pointer(rxt_pointer(PT_REGS_PARM1(ctx) + OFF_hctx_queue) + OFF_blkq_data);
	aoe_requests.update(&rq, &request);
	return 0;
}

/* void blk_mq_free_request(struct request *rq), of any device, when a request has ended */
int aoe_request_out(struct pt_regs *ctx)
{
	u64 rq = PT_REGS_PARM1(ctx), now = bpf_ktime_get_ns(), device, latency;
	struct aoe_req *request = aoe_requests.lookup(&rq);
	struct rxt_queue *queue;

	if (!request)
		return 0;
	latency = now - request->began;
	device = request->device;
	aoe_requests.delete(&rq);
#ifndef RXT_DETAIL_FULL
	if (latency < RXT_WINDOW_NS)
		return 0;
#endif
	/* A request may be in frames of several targets: the first one stands for it. */
	queue = aoe_queue(rxt_pointer(rxt_pointer(device + OFF_aoe_targets)));
	if (queue)
		aoe_send(queue, KIND_request, now, latency, RXT_NOT_KNOWN, 0);
	return 0;
}
