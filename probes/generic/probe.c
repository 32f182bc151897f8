// SPDX-License-Identifier: GPL-2.0-only
/*
 * Any driver that has NAPI. A queue is a struct napi_struct that receives; its key is its address. Nothing that is
 * private to a driver is read: see README.md beside this file.
 */

/* Which receiving NAPI instance of its device this is, by the order in which they were made. */
static __always_inline u16 generic_number(u64 netdev, u32 id)
{
	u64 other = 0;
	u16 number = 0;
	int i;

	for (i = 0; i < RXT_NAPIS_MOST; i++) {
		u32 theirs;

		other = rxt_next_napi(netdev, other);
		if (!other)
			break;
		theirs = rxt_u32(other + OFF_napi_id);
		number += theirs && theirs < id;
	}
	return number;
}

/* Instances that are not traced by these probes: each is asked about once. */
BPF_HASH(generic_others, u64, u8, 4096);

/* Makes an instance known, if its device is traced by these probes: those that were given, and no others. */
static __always_inline struct rxt_queue *generic_learn(u64 napi)
{
	u64 netdev = rxt_pointer(napi + OFF_napi_dev);
	struct rxt_queue *queue;
	struct rxt_name name = {};
	u32 id = rxt_u32(napi + OFF_napi_id);
	u8 *traced, one = 1;

	if (!netdev)
		return 0;
	rxt_read_name(netdev, &name);
	traced = only_devices.lookup(&name);
	/* An instance that only sends has no id (napi_hash_add in net/core/dev.c). */
	if (!traced || *traced < RXT_BY_POLLS || !id) {
		generic_others.update(&napi, &one);
		return 0;
	}
	queue = rxt_add_queue(napi, netdev, generic_number(netdev, id), *traced - RXT_BY_POLLS);
	if (!queue)
		return 0;
	queue->by_polls = FLAG_drops;
	queue->spinning_flag = FLAG_spins;
	rxt_ring_around(queue, napi);
	return queue;
}

static __always_inline struct rxt_queue *generic_queue(u64 napi)
{
	struct rxt_queue *queue = queues.lookup(&napi);

	if (!queue && !generic_others.lookup(&napi))
		queue = generic_learn(napi);
	return queue && queue->by_polls && queue->watched ? queue : 0;
}

/* static int __napi_poll(struct napi_struct *n, bool *repoll), which calls the poll function of every driver */
int generic_poll_in(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM1(ctx);

	if (generic_queue(napi))
		rxt_poll_in(napi, RXT_NOT_KNOWN);
	return 0;
}

/* void napi_enable(struct napi_struct *n), which runs when a device comes up: what it was before does not matter, and
 * its address may have been that of another one. */
int generic_napi_on(struct pt_regs *ctx)
{
	u64 napi = PT_REGS_PARM1(ctx);
	struct rxt_queue *queue = queues.lookup(&napi);

	generic_others.delete(&napi);
	if (!queue || !queue->by_polls)
		return 0;
	if (queue->watched) {
		rxt_flush(queue, &queue->window);
		rxt_failing_end(queue, bpf_ktime_get_ns());
		rxt_ring_end(queue);
	}
	queues.delete(&napi);
	return 0;
}

/* struct rtnl_link_stats64 *dev_get_stats(struct net_device *dev, ...), which the tracer makes the kernel call */
int generic_look(struct pt_regs *ctx)
{
	u64 netdev = PT_REGS_PARM1(ctx), napi = rxt_look_after(netdev);
	struct rxt_queue *queue;
	int i;

	for (i = 0; i < RXT_NAPIS; i++) {
		napi = rxt_look_next(netdev, napi);
		if (!napi)
			break;
		queue = queues.lookup(&napi);
		if (queue && queue->by_polls && queue->watched) {
			rxt_failing_look(queue);
			rxt_ring_look(queue);
		}
	}
	return 0;
}

/* A function that a declared driver calls in its polls has the ring as its first argument. It is known from then on. */
int generic_ring(struct pt_regs *ctx)
{
	u64 ring = PT_REGS_PARM1(ctx), key;
	struct rxt_poll *poll = rxt_poll_here();
	struct rxt_queue *queue;

	if (!poll)
		return 0;
	key = poll->key;
	queue = queues.lookup(&key);
	if (queue && queue->by_polls && queue->ring != ring)
		queue->ring = queue->ring ? RXT_SEVERAL_RINGS : ring;
	return 0;
}
