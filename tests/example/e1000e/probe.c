// SPDX-License-Identifier: GPL-2.0-only
/*
 * e1000e. It has one rx ring, a struct e1000_ring; its key is the address of the struct napi_struct in the struct
 * e1000_adapter. See README.md beside this file.
 */

#define E1000E_TAKEN_AT_ONCE 16		/* E1000_RX_BUFFER_WRITE: the NIC is told of so many buffers at a time */

/* A refill under way: how many buffers it is to post, and where the next one goes. */
struct e1000e_want {
	u32 wanted;
	u32 use;
};

BPF_HASH(e1000e_wants, u64, struct e1000e_want, 256);

static __always_inline u64 e1000e_adapter(u64 napi)
{
	return napi - OFF_adapter_napi;
}

static __always_inline u64 e1000e_ring(u64 napi)
{
	return rxt_pointer(e1000e_adapter(napi) + OFF_adapter_ring);
}

static __always_inline u32 e1000e_use(u64 ring)
{
	return rxt_u32(ring + OFF_ring_use) & 0xffff;
}

/* From one place in the ring to another. */
static __always_inline u32 e1000e_steps(u64 ring, u32 from, u32 to)
{
	return to >= from ? to - from : to + rxt_u32(ring + OFF_ring_count) - from;
}

/* Buffers between next_to_clean and next_to_use: by the driver's count, not yet by the NIC's. */
static __always_inline u32 e1000e_filled(u64 ring)
{
	return e1000e_steps(ring, rxt_u32(ring + OFF_ring_clean) & 0xffff, e1000e_use(ring));
}

/* What the NIC may use. */
static __always_inline u16 e1000e_posted(u64 ring)
{
	/* The tail is written when the buffer of each 16th place is filled, before the driver moves on. */
	u32 filled = e1000e_filled(ring), not_told = (e1000e_use(ring) - 1) % E1000E_TAKEN_AT_ONCE + 1;

	return filled > not_told ? filled - not_told : 0;
}

static __always_inline struct rxt_queue *e1000e_queue(u64 napi)
{
	struct rxt_queue *queue = queues.lookup(&napi);
	u64 netdev = rxt_pointer(e1000e_adapter(napi) + OFF_adapter_netdev);

	/* The address may have been that of another device. */
	if (!queue || queue->ifindex != rxt_ifindex(netdev))
		queue = rxt_add_queue(napi, netdev, 0, DRIVER_e1000e);
	return queue && queue->watched ? queue : 0;
}

/* static int e1000e_poll(struct napi_struct *napi, int budget) */
int e1000e_poll_in(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM1(ctx);

	if (e1000e_queue(napi))
		rxt_poll_in(napi, e1000e_posted(e1000e_ring(napi)));
	return 0;
}

/* static void e1000_alloc_rx_buffers(struct e1000_ring *rx_ring, int cleaned_count, gfp_t gfp) */
int e1000e_fill_in(struct pt_regs *ctx)
{
	u64 ring = PT_REGS_PARM1(ctx), napi = rxt_pointer(ring + OFF_ring_adapter) + OFF_adapter_napi;
	struct e1000e_want want = {};

	if (!e1000e_queue(napi))
		return 0;
	want.wanted = PT_REGS_PARM2(ctx);
	want.use = e1000e_use(ring);
	e1000e_wants.update(&napi, &want);
	rxt_fill_in(rxt_poll_here(), napi, PT_REGS_PARM3(ctx), RXT_NOT_KNOWN);
	return 0;
}

/*
 * Inside e1000_clean_rx_irq()'s loop next_to_clean is that of before the loop. It is right where what is filled and
 * what is wanted are the whole ring but one.
 */
int e1000e_fill_out(struct pt_regs *ctx)
{
	struct rxt_fill *fill = rxt_fill_here();
	struct e1000e_want *want;
	u64 napi, ring;
	u32 done, filled;

	if (!fill)
		return 0;
	napi = fill->key;
	want = e1000e_wants.lookup(&napi);
	if (!want)
		return 0;
	ring = e1000e_ring(napi);
	done = e1000e_steps(ring, want->use, e1000e_use(ring));
	filled = e1000e_filled(ring);
	rxt_fill_out(fill, done == want->wanted,
		     filled + want->wanted - done == rxt_u32(ring + OFF_ring_count) - 1 ? e1000e_posted(ring)
										      : RXT_NOT_KNOWN);
	return 0;
}

/* static irqreturn_t e1000_intr_msix_rx(int irq, void *data), which is the net_device; its adapter follows it. */
int e1000e_irq(struct pt_regs *ctx)
{
	u64 adapter = PT_REGS_PARM2(ctx) + ((SIZE_netdev + 31) & ~31);
	struct rxt_queue *queue = e1000e_queue(adapter + OFF_adapter_napi);

	if (queue)
		rxt_irq(queue);
	return 0;
}
