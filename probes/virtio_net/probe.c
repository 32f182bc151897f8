// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_net. A queue is a struct receive_queue; its key is the address of the struct
 * napi_struct in it, which is what NAPI's hooks are given. See README.md beside this file.
 */

/* Kinds of rings; others are not known. */
#define VIRTNET_SPLIT 0
#define VIRTNET_PACKED 1

static __always_inline u64 virtnet_rq(u64 napi)
{
	return napi - OFF_rq_napi;
}

/* struct virtqueue, which begins struct vring_virtqueue, keeps only how many are free. The ring's size is asked for
 * each time: ethtool -G may change it. */
static __always_inline u16 virtnet_posted(u64 napi)
{
	u64 vq = rxt_pointer(virtnet_rq(napi) + OFF_rq_vq);

	return rxt_u32(vq + OFF_vring_num) - rxt_u32(vq + OFF_vq_num_free);
}

static __always_inline u64 virtnet_netdev(u64 vi)
{
	return rxt_pointer(vi + OFF_vi_dev);
}

/* The struct virtnet_info that a virtqueue is of: vdev->priv. */
static __always_inline u64 virtnet_vi(u64 vq)
{
	return rxt_pointer(rxt_pointer(vq + OFF_vq_vdev) + OFF_vdev_priv);
}

/* Learns from the structs which queue this is; vq->index is twice the queue's number (vq2rxq). */
static __always_inline struct rxt_queue *virtnet_learn(u64 napi)
{
	u64 vq = rxt_pointer(virtnet_rq(napi) + OFF_rq_vq);

	struct rxt_queue *queue =
		rxt_add_queue(napi, virtnet_netdev(virtnet_vi(vq)), rxt_u32(vq + OFF_vq_index) / 2, DRIVER_virtio_net);

	if (!queue)
		return 0;
	rxt_set_counter(queue, virtnet_rq(napi) + OFF_rq_packets);
	queue->irqs_schedule = 1;
	return queue;
}

static __always_inline struct rxt_queue *virtnet_queue(u64 napi)
{
	struct rxt_queue *queue = queues.lookup(&napi);

	if (!queue)
		queue = virtnet_learn(napi);
	return queue && queue->watched ? queue : 0;
}

/* As virtnet_queue, where a device may have come since: a queue whose address was that of a removed one is learned
 * again. A device that comes up fills its rings before it turns NAPI on (virtnet_open). */
static __always_inline struct rxt_queue *virtnet_queue_again(u64 napi)
{
	struct rxt_queue *queue = queues.lookup(&napi);
	u64 vq = rxt_pointer(virtnet_rq(napi) + OFF_rq_vq);

	if (queue && queue->ifindex != rxt_ifindex(virtnet_netdev(virtnet_vi(vq))))
		virtnet_learn(napi);
	return virtnet_queue(napi);
}

/* `queue` is 0 if it is not known yet. */
static __always_inline void virtnet_polled_from_now(u64 napi, struct rxt_queue *queue)
{
	if (!queue)
		queue = virtnet_learn(napi);
	if (queue && queue->watched)
		rxt_poll_in(napi, virtnet_posted(napi));
}

/* static int __napi_poll(struct napi_struct *n, bool *repoll), which calls the poll function of every driver */
int virtnet_any_poll_in(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM1(ctx);
	struct rxt_queue *queue = queues.lookup(&napi);

	if (queue ? queue->driver == DRIVER_virtio_net : rxt_is_of(napi, DRIVER_virtio_net))
		virtnet_polled_from_now(napi, queue);
	return 0;
}

/* int virtnet_poll(struct napi_struct *napi, int budget) */
int virtnet_poll_in(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM1(ctx);

	virtnet_polled_from_now(napi, queues.lookup(&napi));
	return 0;
}

/* bool try_fill_recv(struct virtnet_info *vi, struct receive_queue *rq, gfp_t gfp) */
int virtnet_fill_in(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM2(ctx) + OFF_rq_napi;
	u32 gfp = PT_REGS_PARM3(ctx);
	struct rxt_poll *poll = rxt_poll_here();
	struct rxt_queue *queue = poll ? virtnet_queue(napi) : virtnet_queue_again(napi);
	u16 posted;

	if (!queue)
		return 0;
#ifdef OFF_rq_xsk
	queue->by_program = rxt_pointer(virtnet_rq(napi) + OFF_rq_xsk) ? FLAG_by_program : 0;
#endif
	posted = virtnet_posted(napi);
	/* A poll whose begin is not seen: a thread that waits for frames polls by itself (napi_busy_loop). */
	if (!poll && RXT_GFP_DIRECT_RECLAIM && !(gfp & RXT_GFP_DIRECT_RECLAIM))
		poll = rxt_poll_in(napi, posted);
	rxt_fill_in(poll, napi, gfp, posted);
	return 0;
}

int virtnet_fill_out(struct pt_regs *ctx)
{
	struct rxt_fill *fill = rxt_fill_here();

	if (fill)
		rxt_fill_out(fill, PT_REGS_RC(ctx) & 0xff, virtnet_posted(fill->key));
	return 0;
}

/* void napi_disable(struct napi_struct *n), of any driver: its poll function tells whose. */
int virtnet_napi_off(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM1(ctx);
	struct rxt_queue *queue;

	if (!rxt_is_of(napi, DRIVER_virtio_net))
		return 0;
	queue = virtnet_queue(napi);
	if (queue)
		rxt_napi(queue, RXT_NAPI_OFF, virtnet_posted(napi));
	return 0;
}

/* void napi_enable(struct napi_struct *n) */
int virtnet_napi_on(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM1(ctx);
	struct rxt_queue *queue;

	if (!rxt_is_of(napi, DRIVER_virtio_net))
		return 0;
	queue = virtnet_queue_again(napi);
	if (queue)
		rxt_napi(queue, RXT_NAPI_ON, virtnet_posted(napi));
	return 0;
}

/* Looks at the frames that no poll has taken; `before` as for rxt_waiting. */
static __always_inline void virtnet_waiting(struct rxt_queue *queue, u64 napi, u64 before)
{
	u64 vq = rxt_pointer(virtnet_rq(napi) + OFF_rq_vq);
	u16 taken = rxt_u16(vq + OFF_vring_taken), flags;
	u8 kind = rxt_u8(vq + OFF_vring_kind);
	int waiting;

	if (kind == VIRTNET_SPLIT) {
		/* struct vring_used: flags and idx, of two bytes each */
		waiting = rxt_u16(rxt_pointer(vq + OFF_vring_used) + 2) != taken;
	} else if (kind == VIRTNET_PACKED) {
		/* The last member of struct vring_packed_desc. The highest bit of last_used_idx is the wrap counter,
		 * which both bits of a descriptor have that is used. */
		flags = rxt_u16(rxt_pointer(vq + OFF_vring_descriptors) + (u64)(taken & 0x7fff) * 16 + 14);
		waiting = (flags >> 7 & 1) == taken >> 15 && flags >> 15 == taken >> 15;
	} else {
		return;
	}
	rxt_waiting(queue, napi, before, waiting, taken, virtnet_posted(napi));
}

/* A tick of a perf event's clock */
int virtnet_clock(struct bpf_perf_event_data *ctx)
{
	u32 zero = 0;
	struct rxt_here *here = rxt_here.lookup(&zero);
	struct rxt_queue *queue;
	u64 before;
	int i;

	if (!here)
		return 0;
	before = here->looked ? here->looked : bpf_ktime_get_ns();
	here->looked = bpf_ktime_get_ns();
	#pragma unroll
	for (i = 0; i < RXT_QUEUES_HERE; i++) {
		queue = rxt_queue_here(here, i, DRIVER_virtio_net);
		/* A queue that was removed may be something else by now. */
		if (queue && rxt_is_of(here->keys[i], DRIVER_virtio_net))
			virtnet_waiting(queue, here->keys[i], before);
	}
	return 0;
}

#ifdef RXT_NAPIS
/* struct rtnl_link_stats64 *dev_get_stats(struct net_device *dev, ...), which the tracer makes the kernel call */
int virtnet_look(struct pt_regs *ctx)
{
	u64 netdev = PT_REGS_PARM1(ctx), napi = rxt_look_after(netdev);
	struct rxt_queue *queue;
	u64 asked;
	int i;

	for (i = 0; i < RXT_NAPIS; i++) {
		napi = rxt_look_next(netdev, napi);
		if (!napi)
			break;
		if (!rxt_is_of(napi, DRIVER_virtio_net))
			continue;
		queue = virtnet_queue(napi);
		asked = bpf_ktime_get_ns();
		if (queue) {
			rxt_look(queue, asked, virtnet_posted(napi));
			virtnet_waiting(queue, napi, 0);
		}
	}
	return 0;
}
#endif

#ifdef OFF_vi_refill
/* void refill_work(struct work_struct *work), which is &vi->refill.work */
int virtnet_refill_work_in(struct pt_regs *ctx)
{
	rxt_worker_in(virtnet_netdev(PT_REGS_PARM1(ctx) - OFF_vi_refill), DRIVER_virtio_net);
	return 0;
}

int virtnet_refill_work_out(struct pt_regs *ctx)
{
	rxt_worker_out();
	return 0;
}
#endif
