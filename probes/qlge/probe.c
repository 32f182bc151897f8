// SPDX-License-Identifier: GPL-2.0-only
/*
 * qlge. A queue is a struct qlge_bq, and an rx ring has two: small buffers and large ones. The lbq's key is the
 * address of the ring's struct napi_struct, which is what NAPI's hooks are given; the sbq's is its own address.
 * What NAPI does is counted once, for one of the two: see README.md beside this file.
 */

/* QLGE_BQ_LEN, and how many buffers the device takes at once (QLGE_BQ_ALIGN), in qlge.h: not in BTF. */
#define QLGE_BUFFERS 512
#define QLGE_TAKEN_AT_ONCE 16
#define QLGE_LARGE 1		/* enum { QLGE_SB, QLGE_LB } */

/* Posted small buffers when this CPU's poll began. */
BPF_PERCPU_ARRAY(qlge_small, u32, 1);

static __always_inline u64 qlge_ring(u64 napi)
{
	return napi - OFF_ring_napi;
}

static __always_inline u64 qlge_lbq_key(u64 ring)
{
	return ring + OFF_ring_napi;
}

static __always_inline u64 qlge_sbq_key(u64 ring)
{
	return ring + OFF_ring_sbq;
}

/* QLGE_BQ_HW_OWNED(bq): what the device may use. The driver may have filled up to 15 more. */
static __always_inline u16 qlge_posted(u64 bq)
{
	u32 use = rxt_u32(bq + OFF_bq_next_to_use) & 0xffff;
	u32 clean = rxt_u32(bq + OFF_bq_next_to_clean) & 0xffff;

	return ((use & ~(QLGE_TAKEN_AT_ONCE - 1)) - clean) & (QLGE_BUFFERS - 1);
}

static __always_inline u64 qlge_netdev(u64 ring)
{
	return rxt_pointer(rxt_pointer(ring + OFF_ring_qdev) + OFF_qdev_ndev);
}

static __always_inline struct rxt_queue *qlge_learn(u64 ring, int large)
{
	u16 number = 2 * (rxt_u32(ring + OFF_ring_cq_id) & 0xffff) + large;

	return rxt_add_queue(large ? qlge_lbq_key(ring) : qlge_sbq_key(ring), qlge_netdev(ring), number,
			     DRIVER_qlge);
}

static __always_inline struct rxt_queue *qlge_queue(u64 ring, int large)
{
	u64 key = large ? qlge_lbq_key(ring) : qlge_sbq_key(ring);
	struct rxt_queue *queue = queues.lookup(&key);

	if (!queue)
		queue = qlge_learn(ring, large);
	return queue && queue->watched ? queue : 0;
}

/* int qlge_napi_poll_msix(struct napi_struct *napi, int budget) */
int qlge_poll_in(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM1(ctx), ring = qlge_ring(napi);
	u32 zero = 0, small = qlge_posted(ring + OFF_ring_sbq);

	qlge_queue(ring, 1);
	qlge_small.update(&zero, &small);
	rxt_poll_in(napi, qlge_posted(ring + OFF_ring_lbq));
	return 0;
}

/* void qlge_update_buffer_queues(struct rx_ring *rx_ring, ...): in a poll, when it has taken its packets. A poll that
 * took small buffers only counts for the sbq. */
int qlge_update_in(struct pt_regs *ctx)
{
	u64 ring = PT_REGS_PARM1(ctx);
	u32 zero = 0, *small = qlge_small.lookup(&zero);
	struct rxt_poll *poll = rxt_poll_here();

	if (!small || !poll || poll->key != qlge_lbq_key(ring))
		return 0;
	if (poll->posted != qlge_posted(ring + OFF_ring_lbq) || *small == qlge_posted(ring + OFF_ring_sbq))
		return 0;
	rxt_poll_switch(poll, qlge_sbq_key(ring), *small);
	return 0;
}

/* int qlge_refill_bq(struct qlge_bq *bq, gfp_t gfp): 0, or an error */
int qlge_fill_in(struct pt_regs *ctx)
{
	u64 bq = PT_REGS_PARM1(ctx);
	int large = rxt_u32(bq + OFF_bq_type) == QLGE_LARGE;
	u64 ring = bq - (large ? OFF_ring_lbq : OFF_ring_sbq);

	if (qlge_queue(ring, large))
		rxt_fill_in(rxt_poll_here(), large ? qlge_lbq_key(ring) : bq, PT_REGS_PARM2(ctx), qlge_posted(bq));
	return 0;
}

int qlge_fill_out(struct pt_regs *ctx)
{
	struct rxt_fill *fill = rxt_fill_here();
	struct rxt_queue *queue;
	u64 key, bq;

	if (!fill)
		return 0;
	key = fill->key;
	queue = queues.lookup(&key);
	if (!queue)
		return 0;
	bq = queue->queue & 1 ? qlge_ring(key) + OFF_ring_lbq : key;
	rxt_fill_out(fill, (int)PT_REGS_RC(ctx) == 0, qlge_posted(bq));
	return 0;
}

static __always_inline void qlge_irq(u64 ring)
{
	struct rxt_queue *queue = qlge_queue(ring, 1);

	if (queue)
		rxt_irq(queue);
}

/* irqreturn_t qlge_isr(int irq, void *dev_id), which is the first rx_ring */
int qlge_first_irq(struct pt_regs *ctx)
{
	qlge_irq(PT_REGS_PARM2(ctx));
	return 0;
}

/* irqreturn_t qlge_msix_rx_isr(int irq, void *dev_id), which is an rx_ring */
int qlge_rx_irq(struct pt_regs *ctx)
{
	qlge_irq(PT_REGS_PARM2(ctx));
	return 0;
}

/* Runs whenever a ring comes up: a ring whose address was that of a removed one is learned again. */
static __always_inline void qlge_napi(u64 napi, u8 kind)
{
	u64 ring = qlge_ring(napi);
	struct rxt_queue *queue;

	if (!rxt_is_of(napi, DRIVER_qlge))
		return;
	queue = queues.lookup(&napi);
	if (!queue || queue->ifindex != rxt_ifindex(qlge_netdev(ring))) {
		u64 sbq = qlge_sbq_key(ring);

		/* Its next refill makes it known again. */
		queues.delete(&sbq);
		queue = qlge_learn(ring, 1);
	}
	if (queue && queue->watched)
		rxt_napi(queue, kind, qlge_posted(ring + OFF_ring_lbq));
}

/* void napi_disable(struct napi_struct *n), of any driver: its poll function tells whose. */
int qlge_napi_off(struct pt_regs *ctx)
{
	qlge_napi(PT_REGS_PARM1(ctx), RXT_NAPI_OFF);
	return 0;
}

/* void napi_enable(struct napi_struct *n) */
int qlge_napi_on(struct pt_regs *ctx)
{
	qlge_napi(PT_REGS_PARM1(ctx), RXT_NAPI_ON);
	return 0;
}

#ifdef RXT_NAPIS
static __always_inline void qlge_look_at(u64 ring, int large)
{
	struct rxt_queue *queue = qlge_queue(ring, large);
	u64 asked = bpf_ktime_get_ns();

	if (queue)
		rxt_look(queue, asked, qlge_posted(ring + (large ? OFF_ring_lbq : OFF_ring_sbq)));
}

/* struct rtnl_link_stats64 *dev_get_stats(struct net_device *dev, ...), which the tracer makes the kernel call */
int qlge_look(struct pt_regs *ctx)
{
	u64 netdev = PT_REGS_PARM1(ctx), napi = rxt_look_after(netdev);
	int i;

	/* First at the small buffers of a ring, then at the large ones. */
	for (i = 0; i < 2 * RXT_NAPIS; i++) {
		if (!(i & 1))
			napi = rxt_look_next(netdev, napi);
		if (!napi)
			break;
		if (rxt_is_of(napi, DRIVER_qlge))
			qlge_look_at(qlge_ring(napi), i & 1);
	}
	return 0;
}
#endif

#ifdef OFF_ring_refill_work
/* void qlge_slow_refill(struct work_struct *work), which is &rx_ring->refill_work.work */
int qlge_slow_refill_in(struct pt_regs *ctx)
{
	rxt_worker_in(qlge_netdev(PT_REGS_PARM1(ctx) - OFF_ring_refill_work), DRIVER_qlge);
	return 0;
}

int qlge_slow_refill_out(struct pt_regs *ctx)
{
	rxt_worker_out();
	return 0;
}
#endif
