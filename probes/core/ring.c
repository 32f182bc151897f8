// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rings of which a driver.toml declares the members. How many buffers are posted is read from these when a poll has
 * ended: inside of a poll some drivers keep them in variables.
 */

/* A member of the struct that a ring is; of size 0: the ring has none. Or of one that a pointer there leads to. */
struct rxt_member {
	u32 offset;
	u32 size;
	u32 pointer;		/* its offset, plus 1; 0: no pointer */
};

struct rxt_ring {
	struct rxt_member fill;		/* place of the next buffer; without `clean`, how many are posted */
	struct rxt_member clean;	/* place of the next frame */
	struct rxt_member count;	/* of places; without it, both places only grow */
	u32 more;			/* to be added to `count`: it may be a mask */
	u32 size;			/* what is posted where `fill` and `clean` are equal */
	u32 napi;			/* where in the struct its NAPI instance is, plus 1; 0: elsewhere */
	u32 step;			/* the NIC is told of so many buffers at a time, 0: of each */
	u32 behind;			/* and of that many less */
};

/* By the number of the driver. */
BPF_ARRAY(rings, struct rxt_ring, 256);

/* In the place of a ring's address: the queue's NAPI instance serves several. */
#define RXT_SEVERAL_RINGS 1

/* A queue's ring is known from its NAPI instance, where that is in the ring's struct. */
static __always_inline void rxt_ring_around(struct rxt_queue *queue, u64 napi)
{
	u32 number = queue->driver;
	struct rxt_ring *ring = rings.lookup(&number);

	if (ring && ring->napi)
		queue->ring = napi - (ring->napi - 1);
}

static __always_inline u32 rxt_read_member(u64 ring, struct rxt_member *member)
{
	u64 of = member->pointer ? rxt_pointer(ring + member->pointer - 1) : ring;
	u32 value = rxt_u32(of + member->offset);

	return member->size == 2 ? value & 0xffff : value;
}

/* What the NIC may use now. */
static __always_inline u16 rxt_ring_posted(struct rxt_queue *queue)
{
	u32 number = queue->driver, fill, clean, count, posted, not_told;
	struct rxt_ring *ring;

	if (queue->ring <= RXT_SEVERAL_RINGS)
		return RXT_NOT_KNOWN;
	ring = rings.lookup(&number);
	if (!ring || !ring->fill.size)
		return RXT_NOT_KNOWN;
	fill = rxt_read_member(queue->ring, &ring->fill);
	posted = fill;
	if (ring->clean.size) {
		clean = rxt_read_member(queue->ring, &ring->clean);
		posted = ring->size + fill - clean;
		if (ring->count.size) {
			count = rxt_read_member(queue->ring, &ring->count) + ring->more;
			if (fill >= count || clean >= count)
				return RXT_NOT_KNOWN;
			if (fill < clean)
				posted += count;
		} else if (ring->fill.size == 2) {
			posted &= 0xffff;
		}
	}
	if (ring->step) {
		not_told = (fill + ring->step - ring->behind) % ring->step + ring->behind;
		posted = posted > not_told ? posted - not_told : 0;
	}
	return posted < RXT_NOT_KNOWN ? posted : RXT_NOT_KNOWN;
}

/* A poll has ended; `order` is that of an allocation that failed in it, or RXT_NO_ORDER. Tells that the ring is empty
 * now, as a failed refill, and that it is no longer. Returns what is posted. */
static __always_inline u16 rxt_ring_polled(struct rxt_queue *queue, u8 order, u32 gfp)
{
	u16 posted = rxt_ring_posted(queue);
	struct rxt_event event = {};

	if (posted == RXT_NOT_KNOWN || queue->empty == !posted)
		return posted;
	queue->empty = !posted;
	event.kind = posted ? RXT_UNBLOCKED : RXT_REFILL;
	event.ts = bpf_ktime_get_ns();
	if (!posted) {
		event.gfp = gfp;
		event.order = order;
	}
	event.posted_before = posted;
	event.posted_after = posted;
	rxt_queue_emit_in_order(queue, &event);
	return posted;
}

/* What the ring was does not matter any more. */
static __always_inline void rxt_ring_end(struct rxt_queue *queue)
{
	if (queue->ring && queue->empty)
		rxt_queue_mark(queue, RXT_UNBLOCKED, bpf_ktime_get_ns(), 0, RXT_NOT_KNOWN, RXT_NOT_KNOWN, 0);
}

/* The tracer looks at a queue: its ring may have been filled outside of a poll. */
static __always_inline void rxt_ring_look(struct rxt_queue *queue)
{
	u16 posted = queue->empty ? rxt_ring_posted(queue) : 0;

	if (!posted || posted == RXT_NOT_KNOWN)
		return;
	queue->empty = 0;
	rxt_queue_mark(queue, RXT_UNBLOCKED, bpf_ktime_get_ns(), 0, posted, posted, RXT_PROCESS);
}
