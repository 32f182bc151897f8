// SPDX-License-Identifier: GPL-2.0-only
/*
 * xen-netback, the guest's receive direction. A queue is a struct xenvif_queue, whose address is the key; posted
 * are the ring's free slots. start_xmit, the guest-rx thread and interrupts look at it on any CPU; its window is the
 * thread's alone. See README.md beside this file.
 */

#define NETBACK_STOPPED 1	/* bit __QUEUE_STATE_DRV_XOFF of netdev_queue.state */
#define NETBACK_NO_CARRIER 4	/* bit __LINK_STATE_NOCARRIER of net_device.state */

/* How long a queue has been blocked, and what was sent of it. */
struct netback_wait {
	u64 since;		/* ns, when it was blocked; 0: it is not */
	u64 told;		/* ns of the last record that said so; 0: none did */
	u64 delivered;		/* ns, when a packet was last handed over since then; 0: none was */
	u64 round_began;
	u32 round;		/* packets handed over in this round of the thread */
	u16 posted;		/* when it was blocked */
	u16 told_posted;
};

BPF_HASH(netback_waits, u64, struct netback_wait, 1024);
/* struct net_device -> what events call it, of those that are watched */
BPF_HASH(netback_devices, u64, u32, 1024);

static __always_inline u64 netback_device(u64 key)
{
	return rxt_pointer(rxt_pointer(key + OFF_queue_vif) + OFF_vif_dev);
}

/* Slots that the frontend has posted and netback has not used. */
static __always_inline u16 netback_posted(u64 key)
{
	u32 slots = rxt_u32(rxt_pointer(key + OFF_queue_sring) + OFF_sring_req_prod) -
		    rxt_u32(key + OFF_queue_req_cons);

	return slots < RXT_NOT_KNOWN ? slots : RXT_NOT_KNOWN;
}

static __always_inline int netback_stopped(u64 key)
{
	u64 queue = rxt_pointer(netback_device(key) + OFF_netdev_tx) +
		    (u64)rxt_u32(key + OFF_queue_id) * SIZE_netdev_queue;

	return rxt_u32(queue + OFF_txq_state) & NETBACK_STOPPED;
}

static __always_inline struct rxt_queue *netback_learn(u64 key)
{
	u64 device = netback_device(key);
	struct rxt_queue *queue = rxt_add_queue(key, device, rxt_u32(key + OFF_queue_id), DRIVER_xen_netback);

	netback_waits.delete(&key);
	if (queue && queue->watched)
		netback_devices.update(&device, &queue->ifindex);
	return queue;
}

static __always_inline struct rxt_queue *netback_queue(u64 key)
{
	struct rxt_queue *queue = queues.lookup(&key);

	if (!queue)
		queue = netback_learn(key);
	return queue && queue->watched ? queue : 0;
}

static __always_inline struct netback_wait *netback_wait(u64 key)
{
	struct netback_wait fresh = {};

	return netback_waits.lookup_or_try_init(&key, &fresh);
}

static __always_inline void netback_send(struct rxt_queue *queue, u8 kind, u64 ts, u16 before, u16 after, int stopped)
{
	rxt_queue_mark(queue, kind, ts, 0, before, after, stopped ? FLAG_stopped : 0);
}

static __always_inline void netback_unblocked(struct rxt_queue *queue, struct netback_wait *wait, u64 ts, u16 posted)
{
	if (wait->told)
		netback_send(queue, RXT_UNBLOCKED, ts, wait->told_posted, posted, 0);
	wait->since = 0;
}

/*
 * A queue is blocked when it is stopped, or short of slots for its next packet. It stays blocked until a packet was
 * handed over and it is not stopped: a queue that drops its packets because they are too old has not recovered.
 *
 * Queues block briefly all the time, so RXT_BLOCKED is sent only after RXT_WINDOW_NS; but at once if the queue is
 * stopped and has no packet left, since no hook may run again. It is sent again when new slots did not help.
 */
static __always_inline void netback_look(u64 key, struct rxt_queue *queue, struct netback_wait *wait, int stopped)
{
	u32 needed = rxt_u32(key + OFF_queue_needed);
	u16 posted = netback_posted(key);
	u64 now = bpf_ktime_get_ns();
	int last = stopped && !needed;

	if (wait->since && wait->delivered && !stopped)
		netback_unblocked(queue, wait, now, posted);
	if (!stopped && posted >= needed)
		return;
	if (!wait->since) {
		wait->posted = posted;
		wait->told = 0;
		wait->delivered = 0;
		wait->since = now;
	}
#ifndef RXT_DETAIL_FULL
	if (!last && now - (wait->told ? wait->told : wait->since) < RXT_WINDOW_NS)
		return;
#endif
	if (!wait->told) {
		netback_send(queue, RXT_BLOCKED, wait->since, wait->posted, wait->posted, stopped);
		wait->told_posted = wait->posted;
	}
	wait->told = now;
	if (posted != wait->told_posted)
		netback_send(queue, RXT_BLOCKED, now, wait->told_posted, posted, stopped);
	wait->told_posted = posted;
}

/* Ends a round of the guest-rx thread in which packets were handed over. */
static __always_inline void netback_round(struct rxt_queue *queue, struct netback_wait *wait, u16 posted)
{
	if (wait->round)
		rxt_polled(queue, wait->round_began, wait->round, posted, 0);
	wait->round = 0;
}

/* bool xenvif_rx_queue_tail(struct xenvif_queue *queue, struct sk_buff *skb): when the queue holds rx_queue_max
 * bytes it throws the packet away and stops the device's queue. */
int netback_tail(struct pt_regs *ctx)
{
	u64 key = PT_REGS_PARM1(ctx);
	struct rxt_queue *queue = netback_queue(key);
	struct netback_wait *wait;

	/* The address may have been that of a queue of a removed guest. */
	if (queue && queue->ifindex != rxt_ifindex(netback_device(key)))
		queue = netback_learn(key);
	if (!queue || !queue->watched)
		return 0;
	wait = netback_wait(key);
	if (wait && rxt_u32(key + OFF_queue_len) >= rxt_u32(key + OFF_queue_max))
		netback_look(key, queue, wait, 1);
	return 0;
}

/* void xenvif_kick_thread(struct xenvif_queue *queue) */
int netback_kick(struct pt_regs *ctx)
{
	u64 key = PT_REGS_PARM1(ctx);
	struct rxt_queue *queue = netback_queue(key);
	struct netback_wait *wait = queue ? netback_wait(key) : 0;

	if (wait)
		netback_look(key, queue, wait, netback_stopped(key));
	return 0;
}

/* bool xenvif_have_rx_work(struct xenvif_queue *queue, bool test_kthread), which the thread calls with true. */
int netback_work(struct pt_regs *ctx)
{
	u64 key = PT_REGS_PARM1(ctx);
	struct rxt_queue *queue = netback_queue(key);
	struct netback_wait *wait = queue ? netback_wait(key) : 0;

	if (!wait)
		return 0;
	if (PT_REGS_PARM2(ctx) & 1)
		netback_round(queue, wait, netback_posted(key));
	netback_look(key, queue, wait, netback_stopped(key));
	return 0;
}

/* static void xenvif_rx_skb(struct xenvif_queue *queue): there are slots for the next packet, and it takes them. */
int netback_deliver(struct pt_regs *ctx)
{
	u64 key = PT_REGS_PARM1(ctx), now = bpf_ktime_get_ns();
	struct rxt_queue *queue = netback_queue(key);
	struct netback_wait *wait = queue ? netback_wait(key) : 0;

	if (!wait)
		return 0;
	if (!wait->round++)
		wait->round_began = now;
	wait->delivered = now;
	/* The look after the round may find it blocked again: that is another time, with these packets in between. */
	if (wait->since && !netback_stopped(key)) {
		/* The window is this thread's. */
		rxt_flush(queue, &queue->window);
		netback_unblocked(queue, wait, now, netback_posted(key));
	}
	return 0;
}

#ifdef RXT_NAPIS
/* Says of a queue that is blocked that it still is: it may have been before the trace began, or before its file did. */
static __always_inline void netback_look_again(u64 key)
{
	struct rxt_queue *queue = netback_queue(key);
	struct netback_wait *wait = queue ? netback_wait(key) : 0;
	u64 asked = bpf_ktime_get_ns();
	int stopped;
	u16 posted;

	if (!wait)
		return;
	stopped = netback_stopped(key);
	posted = netback_posted(key);
	netback_look(key, queue, wait, stopped);
	if (wait->since && wait->told)
		rxt_queue_mark(queue, RXT_LOOK, asked, 0, posted, posted, RXT_PROCESS | (stopped ? FLAG_stopped : 0));
}

/* struct rtnl_link_stats64 *dev_get_stats(struct net_device *dev, ...), which the tracer makes the kernel call. The NAPI
 * instance of a queue is for the other direction. */
int netback_look_at_all(struct pt_regs *ctx)
{
	u64 netdev = PT_REGS_PARM1(ctx), napi = rxt_look_after(netdev);
	int i;

	for (i = 0; i < RXT_NAPIS; i++) {
		napi = rxt_look_next(netdev, napi);
		if (!napi)
			break;
		if (rxt_is_of(napi, DRIVER_xen_netback))
			netback_look_again(napi - OFF_queue_napi);
	}
	return 0;
}
#endif

static __always_inline void netback_interrupt(u64 key)
{
	struct rxt_queue *queue = netback_queue(key);

	if (queue)
		rxt_irq(queue);
}

/* irqreturn_t xenvif_rx_interrupt(int irq, void *dev_id), which is the queue */
int netback_rx_irq(struct pt_regs *ctx)
{
	netback_interrupt(PT_REGS_PARM2(ctx));
	return 0;
}

/* irqreturn_t xenvif_interrupt(int irq, void *dev_id), which is the queue */
int netback_irq(struct pt_regs *ctx)
{
	netback_interrupt(PT_REGS_PARM2(ctx));
	return 0;
}

static __always_inline void netback_carrier(u64 device, u8 kind)
{
	u32 *ifindex = netback_devices.lookup(&device);
	u32 off = rxt_u32(device + OFF_netdev_state) & NETBACK_NO_CARRIER;
	struct rxt_event event = {};

	if (!ifindex || !off != (kind == KIND_carrier_off))
		return;
	event.kind = kind;
	event.ts = bpf_ktime_get_ns();
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	rxt_device_emit(*ifindex, DRIVER_xen_netback, &event);
}

/* void netif_carrier_off(struct net_device *dev), of any device */
int netback_carrier_off(struct pt_regs *ctx)
{
	netback_carrier(PT_REGS_PARM1(ctx), KIND_carrier_off);
	return 0;
}

/* void netif_carrier_on(struct net_device *dev), of any device */
int netback_carrier_on(struct pt_regs *ctx)
{
	netback_carrier(PT_REGS_PARM1(ctx), KIND_carrier_on);
	return 0;
}
