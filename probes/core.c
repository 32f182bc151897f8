// SPDX-License-Identifier: GPL-2.0-only
/*
 * What every driver shares: queues and their windows, NAPI polls, refills in progress,
 * allocation failures and direct reclaim inside them, and the ledger. A driver's probe.c
 * follows this text in the same program, so few headers are included: a kernel struct is
 * read at offsets from BTF (OFF_*), defined by the loader.
 *
 * A queue is known by a key of its driver's choice (a pointer that its hooks can tell).
 */
#include <uapi/linux/ptrace.h>
#include "event.h"

/* Failed refills and their allocations sent one by one in a window; more are counted in it. */
#define RXT_FAILED_SENT_MAX 4
/* Runs of a refill worker sent event by event in a window. What a worker that is called again and again does
 * in less than RXT_SHORT_NS is counted in a window of its own. */
#define RXT_RUNS_SENT_MAX 2
#define RXT_SHORT_NS 1000000ULL
#define RXT_KINDS 32

/* A queue and the hot events of it that were not sent yet. Its window belongs to its NAPI context; irqs, which
 * come from anywhere, are only ever added to. */
struct rxt_queue {
	u64 first;		/* ns; 0: the window is empty */
	u64 last;
	u64 sent;		/* ns of the last record that was not a window */
	u64 counter;		/* address of the driver's own count of the packets taken from this ring; 0: none */
	u64 counted;		/* what it was after the last poll */
	u64 irqs;		/* since the trace began */
	u64 irqs_sent;
	u32 ifindex;
	u32 packets;
	u16 queue;
	u16 posted_min;
	u16 posted_last;
	u16 polls;
	u16 full_polls;
	u16 refills;
	u16 failed;
	u16 fallbacks;
	u16 failed_sent;	/* failures sent one by one since failed_since */
	u8 driver;
	u8 watched;
	u8 empty;		/* the last refill left nothing posted */
	u64 failed_since;
	/* Short runs of the refill worker that were not sent; only the worker writes these. */
	u64 off_since;		/* ns, when NAPI was last turned off */
	u64 runs_first;		/* ns; 0: there are none */
	u64 runs_last;
	u16 off_posted;
	u16 runs;
	u16 runs_failed;
	u16 runs_fallbacks;
	u16 runs_posted_min;
	u16 runs_posted_last;
};

struct rxt_poll {
	u64 key;		/* 0: this CPU is in no poll of ours */
	u64 ts;
	u16 posted;
};

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
};

struct rxt_worker {
	u64 ts;
	u32 ifindex;
	u16 driver;
	u16 held;		/* one of many runs: nothing of it was sent, and nothing will be if it is short */
};

struct rxt_rate {
	u64 since;
	u64 runs;
};

/* How people know a device: by namespace (its inode number) and name. */
struct rxt_name {
	u32 netns;
	char name[16];
};

/* A device as it was when a queue of it was made known. */
struct rxt_device {
	struct rxt_name name;
	u32 ifindex;
};

struct rxt_count {
	u64 attempted;
	u64 dropped;
};

BPF_RINGBUF_OUTPUT(events, RXT_RING_PAGES);
/*
 * Mapped by the tracer: reading a map with a system call keeps every kprobe program on that CPU from
 * running meanwhile (bpf_disable_instrumentation in kernel/bpf/syscall.c), which would lose polls.
 */
BPF_F_TABLE("array", u32, struct rxt_count, ledger, RXT_CPUS * RXT_KINDS, BPF_F_MMAPABLE);
BPF_HASH(queues, u64, struct rxt_queue, 4096);
/* By what events call it (ifindex); the tracer looks up those that it does not know. */
BPF_HASH(devices, u32, struct rxt_device, 1024);
BPF_PERCPU_ARRAY(polls, struct rxt_poll, 1);
BPF_PERCPU_ARRAY(softirq_fills, struct rxt_fill, 1);
BPF_HASH(process_fills, u32, struct rxt_fill, 1024);
BPF_HASH(workers, u32, struct rxt_worker, 256);
BPF_HASH(worker_rates, u32, struct rxt_rate, 256);
BPF_ARRAY(armed, u32, 1);
BPF_HASH(only_devices, struct rxt_name, u8, 256);
BPF_HASH(only_queues, u32, u8, 1024);
/* Never looked up: tells the loader how the compiler lays the record out. */
BPF_ARRAY(layout, struct rxt_event, 1);

static __always_inline u64 rxt_u64(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u64 rxt_pointer(u64 address)
{
	return rxt_u64(address);
}

static __always_inline u32 rxt_u32(u64 address)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 rxt_netns(u64 netdev)
{
	return rxt_u32(rxt_pointer(netdev + OFF_netdev_net) + OFF_net_inum);
}

/* What events call a struct net_device: its index, which is unique in a namespace only. Elsewhere it is known by its
 * address: the struct is larger than 2^11 bytes. */
static __always_inline u32 rxt_ifindex(u64 netdev)
{
	if (rxt_netns(netdev) == RXT_NETNS)
		return rxt_u32(netdev + OFF_netdev_ifindex);
	return 1U << 31 | (u32)(netdev >> 11);
}

static __always_inline void rxt_read_name(u64 netdev, struct rxt_name *name)
{
	name->netns = rxt_netns(netdev);
	bpf_probe_read_kernel_str(name->name, sizeof(name->name), (void *)(netdev + OFF_netdev_name));
}

static __always_inline int rxt_asked_for(u64 netdev)
{
#ifdef RXT_ONLY_DEVICES
	struct rxt_name name = {};

	rxt_read_name(netdev, &name);
	return only_devices.lookup(&name) != 0;
#endif
	return 1;
}

static __always_inline u32 rxt_tid(void)
{
	return (u32)bpf_get_current_pid_tgid();
}

static __always_inline void rxt_send(struct rxt_event *event)
{
	u32 cpu = bpf_get_smp_processor_id(), slot = cpu * RXT_KINDS + event->kind;
	u32 zero = 0, *on = armed.lookup(&zero);
	struct rxt_count *count;

	if (!on || !*on)
		return;
	event->tid = rxt_tid();
	event->cpu = cpu;
	count = ledger.lookup(&slot);
	if (!count)
		return;
	__sync_fetch_and_add(&count->attempted, 1);
	/* The tracer looks by itself; waking it up would cost more than the record. */
	if (events.ringbuf_output(event, sizeof(*event), BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&count->dropped, 1);
}

/* Sends a record of a queue and leaves its window alone: any context may. */
static __always_inline void rxt_send_alone(struct rxt_queue *queue, struct rxt_event *event)
{
	event->ifindex = queue->ifindex;
	event->queue = queue->queue;
	event->driver = queue->driver;
	rxt_send(event);
}

static __always_inline void rxt_flush(struct rxt_queue *queue)
{
	struct rxt_event event = {};
	u64 irqs = queue->irqs;

	if (!queue->first)
		return;
	event.kind = RXT_WINDOW;
	event.ts = queue->last;
	event.dur = queue->last - queue->first;
	event.packets = queue->packets;
	event.posted_before = queue->posted_min;
	event.posted_after = queue->posted_last;
	event.polls = queue->polls;
	event.full_polls = queue->full_polls;
	event.refills = queue->refills;
	event.failed = queue->failed;
	event.fallbacks = queue->fallbacks;
	event.irqs = irqs - queue->irqs_sent;
	rxt_send_alone(queue, &event);
	queue->irqs_sent = irqs;
	queue->first = 0;
	queue->packets = 0;
	queue->posted_min = RXT_NOT_KNOWN;
	queue->posted_last = RXT_NOT_KNOWN;
	queue->polls = 0;
	queue->full_polls = 0;
	queue->refills = 0;
	queue->failed = 0;
	queue->fallbacks = 0;
}

/* Opens or extends the window with something that lasted from `began` to `now`. */
static __always_inline void rxt_extend(struct rxt_queue *queue, u64 began, u64 now)
{
	if (queue->first && now - queue->first >= RXT_WINDOW_NS)
		rxt_flush(queue);
	if (!queue->first)
		queue->first = began > queue->sent ? began : queue->sent;
	queue->last = now;
}

static __always_inline void rxt_posted(struct rxt_queue *queue, u16 posted)
{
	if (posted == RXT_NOT_KNOWN)
		return;
	if (posted < queue->posted_min)
		queue->posted_min = posted;
	queue->posted_last = posted;
}

/* Sends a record of one queue. In NAPI's context the window goes first, so that none spans it; a thread that
 * refills while NAPI is on must leave the window alone. */
static __always_inline void rxt_send_of(struct rxt_queue *queue, struct rxt_event *event)
{
	if (!(event->flags & RXT_PROCESS)) {
		rxt_flush(queue);
		queue->sent = event->ts;
	}
	rxt_send_alone(queue, event);
}

/* Makes a queue of a struct net_device known under its key; watched says whether the filters let it through. */
static __always_inline struct rxt_queue *rxt_add_queue(u64 key, u64 netdev, u16 number, u8 driver)
{
	struct rxt_queue queue = {};
	struct rxt_device device = {};

	queue.ifindex = rxt_ifindex(netdev);
	queue.queue = number;
	queue.driver = driver;
	queue.posted_min = RXT_NOT_KNOWN;
	queue.posted_last = RXT_NOT_KNOWN;
	queue.watched = rxt_asked_for(netdev);
#ifdef RXT_ONLY_QUEUES
	u32 wanted = number;
	if (!only_queues.lookup(&wanted))
		queue.watched = 0;
#endif
	rxt_read_name(netdev, &device.name);
	device.ifindex = rxt_u32(netdev + OFF_netdev_ifindex);
	devices.update(&queue.ifindex, &device);
	queues.update(&key, &queue);
	return queues.lookup(&key);
}

/* Where the driver itself counts the packets that it takes from a queue's ring: what a poll says is not always
 * that. Call it outside of a poll's count. */
static __always_inline void rxt_set_counter(struct rxt_queue *queue, u64 address)
{
	queue->counter = address;
	queue->counted = rxt_u64(address);
}

/* A failure that is to be sent by itself, or one of too many in this window? */
static __always_inline int rxt_worth_sending(struct rxt_queue *queue, u64 now)
{
#ifndef RXT_DETAIL_FULL
	if (now - queue->failed_since >= RXT_WINDOW_NS) {
		queue->failed_since = now;
		queue->failed_sent = 0;
	}
	if (queue->failed_sent >= RXT_FAILED_SENT_MAX)
		return 0;
	queue->failed_sent++;
#endif
	return 1;
}

static __always_inline void rxt_poll_in(u64 key, u16 posted)
{
	u32 zero = 0;
	struct rxt_poll *poll = polls.lookup(&zero);

	if (!poll)
		return;
	poll->key = key;
	poll->ts = bpf_ktime_get_ns();
	poll->posted = posted;
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
	rxt_send_of(queue, &event);
#else
	/* What began as a spin and lasts is over: its window ends before this poll. */
	if (packets && !queue->packets && queue->failed && queue->full_polls && now - queue->first >= RXT_SHORT_NS)
		rxt_flush(queue);
	rxt_extend(queue, began, now);
	rxt_posted(queue, posted);
	queue->polls++;
	queue->packets += packets;
	queue->full_polls += full;
#endif
}

/* raw tracepoint napi:napi_poll(napi, work, budget), fired after each poll of every NIC. */
int rxt_poll_out(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0;
	struct rxt_poll *poll = polls.lookup(&zero);
	struct rxt_queue *queue;
	u64 key, counted;
	u32 work = (u32)ctx->args[1], budget = (u32)ctx->args[2], packets = work;

	if (!poll)
		return 0;
	key = poll->key;
	poll->key = 0;
	if (!key) {
		/* Not ours, or one whose begin was missed because another program was running on this CPU. */
		key = ctx->args[0];
		poll->ts = bpf_ktime_get_ns();
		poll->posted = RXT_NOT_KNOWN;
	}
	queue = queues.lookup(&key);
	if (!queue || !queue->watched)
		return 0;
	/* A poll may claim its whole budget to be called again: some drivers do when a refill failed. */
	if (queue->counter) {
		counted = rxt_u64(queue->counter);
		packets = counted - queue->counted;
		queue->counted = counted;
	}
	rxt_polled(queue, poll->ts, packets, poll->posted, work >= budget);
	return 0;
}

static __always_inline void rxt_worker_send(u8 kind, struct rxt_worker *worker, u64 now, u64 dur)
{
	struct rxt_event event = {};

	event.kind = kind;
	event.ts = now;
	event.dur = dur;
	event.ifindex = worker->ifindex;
	event.queue = RXT_ALL_QUEUES;
	event.driver = worker->driver;
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	event.flags = RXT_PROCESS | RXT_IN_WORKER;
	rxt_send(&event);
}

/* The worker that this thread is, if it is in a run. */
static __always_inline struct rxt_worker *rxt_worker_here(void)
{
	u32 tid = rxt_tid();

	return workers.lookup(&tid);
}

static __always_inline void rxt_napi_send(struct rxt_queue *queue, u8 kind, u64 ts, u16 posted, int in_worker)
{
	struct rxt_event event = {};

	/* Until it is on again nothing else is at the window: none spans a time without NAPI. */
	if (kind == RXT_NAPI_ON)
		rxt_flush(queue);
	event.kind = kind;
	event.ts = ts;
	event.posted_before = posted;
	event.posted_after = posted;
	event.flags = RXT_PROCESS | (in_worker ? RXT_IN_WORKER : 0);
	rxt_send_of(queue, &event);
}

/* A run that was held back turns out to be worth sending: so is how it began. */
static __always_inline void rxt_release(struct rxt_queue *queue, struct rxt_worker *worker)
{
	if (!worker || !worker->held)
		return;
	worker->held = 0;
	rxt_worker_send(RXT_WORKER_IN, worker, worker->ts, 0);
	if (queue->off_since >= worker->ts)
		rxt_napi_send(queue, RXT_NAPI_OFF, queue->off_since, queue->off_posted, 1);
}

static __always_inline void rxt_flush_runs(struct rxt_queue *queue)
{
	struct rxt_event event = {};

	if (!queue->runs_first)
		return;
	event.kind = RXT_WINDOW;
	event.flags = RXT_PROCESS | RXT_IN_WORKER;
	event.ts = queue->runs_last;
	event.dur = queue->runs_last - queue->runs_first;
	event.posted_before = queue->runs_posted_min;
	event.posted_after = queue->runs_posted_last;
	event.refills = queue->runs;
	event.failed = queue->runs_failed;
	event.fallbacks = queue->runs_fallbacks;
	rxt_send_of(queue, &event);
	queue->runs_first = 0;
}

/* Adds a refill of a run that is held back to the queue's window of such. */
static __always_inline void rxt_count_run(struct rxt_queue *queue, struct rxt_event *refill, int complete, u16 posted)
{
	if (!queue->runs_first) {
		queue->runs_first = refill->ts - refill->dur;
		queue->runs = 0;
		queue->runs_failed = 0;
		queue->runs_fallbacks = 0;
		queue->runs_posted_min = RXT_NOT_KNOWN;
	}
	queue->runs_last = refill->ts;
	queue->runs++;
	queue->runs_failed += !complete;
	queue->runs_fallbacks += refill->fallbacks;
	if (posted < queue->runs_posted_min)
		queue->runs_posted_min = posted;
	queue->runs_posted_last = posted;
}

static __always_inline void rxt_irq(struct rxt_queue *queue)
{
#ifdef RXT_DETAIL_FULL
	struct rxt_event event = {};

	event.kind = RXT_IRQ;
	event.ts = bpf_ktime_get_ns();
	event.irqs = 1;
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	rxt_send_alone(queue, &event);
#else
	__sync_fetch_and_add(&queue->irqs, 1);
#endif
}

/* The refill that this context is in: the poll's own, or that of the current thread. */
static __always_inline struct rxt_fill *rxt_fill_here(void)
{
	u32 zero = 0, tid;
	struct rxt_poll *poll = polls.lookup(&zero);
	struct rxt_fill *fill;

	if (poll && poll->key) {
		fill = softirq_fills.lookup(&zero);
		return fill && fill->key ? fill : 0;
	}
	tid = rxt_tid();
	return process_fills.lookup(&tid);
}

static __always_inline void rxt_fill_in(u64 key, u32 gfp, u16 posted)
{
	struct rxt_fill fill = {};
	u32 zero = 0, tid = rxt_tid();
	struct rxt_poll *poll = polls.lookup(&zero);

	fill.key = key;
	fill.ts = bpf_ktime_get_ns();
	fill.gfp = gfp;
	fill.posted = posted;
	fill.failed_order = RXT_NO_ORDER;
	if (poll && poll->key)
		softirq_fills.update(&zero, &fill);
	else
		process_fills.update(&tid, &fill);
}

/* Ends the refill; returns whether one was under way. */
static __always_inline int rxt_fill_out(int complete, u16 posted)
{
	u32 zero = 0, tid = rxt_tid();
	struct rxt_poll *poll = polls.lookup(&zero);
	struct rxt_fill *fill = rxt_fill_here();
	struct rxt_event event = {};
	struct rxt_queue *queue;
	int softirq = poll && poll->key;
	u64 now = bpf_ktime_get_ns(), key;

	if (!fill)
		return 0;
	key = fill->key;
	event.ts = now;
	event.dur = now - fill->ts;
	event.reclaim = fill->reclaim;
	event.gfp = fill->gfp;
	event.posted_before = fill->posted;
	event.order = fill->failed_order;
	event.fallbacks = fill->fallbacks;
	if (softirq)
		fill->key = 0;
	else
		process_fills.delete(&tid);
	queue = queues.lookup(&key);
	if (!queue)
		return 0;
#ifndef RXT_DETAIL_FULL
	/* The one that leaves the ring empty is never too many: after it there may be no other. Nor is the one that
	 * fills it again, so that the ring was empty until then to the nanosecond. */
	int emptied = !complete && !posted && !queue->empty;
	int filled = posted && posted != RXT_NOT_KNOWN && queue->empty;

	queue->empty = !posted;
	if (softirq && !filled && (complete || !(emptied || rxt_worth_sending(queue, now)))) {
		rxt_extend(queue, now - event.dur, now);
		rxt_posted(queue, event.posted_before);
		rxt_posted(queue, posted);
		queue->refills++;
		queue->failed += !complete;
		queue->fallbacks += event.fallbacks;
		return 1;
	}
#endif
	struct rxt_worker *worker = softirq ? 0 : rxt_worker_here();

	if (worker && worker->held && event.dur < RXT_SHORT_NS) {
		rxt_count_run(queue, &event, complete, posted);
		return 1;
	}
	if (worker) {
		rxt_release(queue, worker);
		rxt_flush_runs(queue);
	}
	event.kind = RXT_REFILL;
	event.posted_after = posted;
	event.refills = 1;
	event.failed = !complete;
	event.flags = (complete ? RXT_COMPLETE : 0) | (softirq ? 0 : RXT_PROCESS);
	if (worker)
		event.flags |= RXT_IN_WORKER;
	rxt_send_of(queue, &event);
	return 1;
}

/*
 * warn_alloc(gfp, nodemask, "page allocation failure: order:%u", order): called for each allocation that
 * fails, warned of or not (__alloc_pages_slowpath in mm/page_alloc.c; its name has a compiler's suffix
 * and takes no probe).
 */
int rxt_alloc_failed(struct pt_regs *ctx)
{
	struct rxt_fill *fill = rxt_fill_here();
	u32 gfp = PT_REGS_PARM1(ctx), order = PT_REGS_PARM4(ctx), zero = 0;
	struct rxt_poll *poll = polls.lookup(&zero);
	struct rxt_worker *worker = rxt_worker_here();
	struct rxt_event event = {};
	struct rxt_queue *queue;
	int process = !(poll && poll->key);
	u64 key;

	/* What reclaim asks for, to swap out, is not the refill's own failure. */
	if (!fill || fill->reclaim_began)
		return 0;
	/* A refill that may reclaim makes no other kind of request than these two: an interrupt did. */
	if ((fill->gfp & RXT_GFP_DIRECT_RECLAIM) && !(gfp & (RXT_GFP_DIRECT_RECLAIM | RXT_GFP_NORETRY)))
		return 0;
	/* skb_page_frag_refill tries a higher order first, with __GFP_NORETRY, and then order 0. */
	if (order && (gfp & RXT_GFP_NORETRY)) {
		fill->fallbacks++;
		return 0;
	}
	fill->failed_order = order;
	key = fill->key;
	queue = queues.lookup(&key);
	event.ts = bpf_ktime_get_ns();
	if (!queue || (process && worker && worker->held) || !rxt_worth_sending(queue, event.ts))
		return 0;
	event.kind = RXT_ALLOC_FAIL;
	event.gfp = gfp;
	event.order = order;
	event.posted_before = fill->posted;
	event.posted_after = RXT_NOT_KNOWN;
	event.flags = process ? RXT_PROCESS : 0;
	rxt_send_of(queue, &event);
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
	struct rxt_worker *worker = rxt_worker_here();

	rxt_release(queue, worker);
	event.kind = RXT_RECLAIM;
	event.reclaim = event.dur;
	event.gfp = fill->gfp;
	event.order = fill->reclaim_order;
	event.posted_before = fill->posted;
	event.posted_after = RXT_NOT_KNOWN;
	event.flags = RXT_PROCESS | (worker ? RXT_IN_WORKER : 0);
	rxt_send_of(queue, &event);
	return 0;
}

static __always_inline void rxt_napi(struct rxt_queue *queue, u8 kind, u16 posted)
{
	struct rxt_worker *worker = rxt_worker_here();
	u64 now = bpf_ktime_get_ns();

	if (kind == RXT_NAPI_OFF) {
		queue->off_since = now;
		queue->off_posted = posted;
		if (worker && worker->held)
			return;
	} else if (worker && worker->held) {
		if (now - queue->off_since < RXT_SHORT_NS)
			return;
		rxt_release(queue, worker);
	}
	rxt_napi_send(queue, kind, now, posted, worker != 0);
}

static __always_inline void rxt_worker_in(u64 netdev, u8 driver)
{
	struct rxt_worker worker = {};
	u32 tid = rxt_tid(), ifindex = rxt_ifindex(netdev);

	if (!rxt_asked_for(netdev))
		return;
	worker.ts = bpf_ktime_get_ns();
	worker.ifindex = ifindex;
	worker.driver = driver;
#ifndef RXT_DETAIL_FULL
	struct rxt_rate fresh = {}, *rate = worker_rates.lookup_or_try_init(&ifindex, &fresh);

	if (rate) {
		if (worker.ts - rate->since >= RXT_WINDOW_NS) {
			rate->since = worker.ts;
			rate->runs = 0;
		}
		worker.held = rate->runs++ >= RXT_RUNS_SENT_MAX;
	}
#endif
	workers.update(&tid, &worker);
	if (!worker.held)
		rxt_worker_send(RXT_WORKER_IN, &worker, worker.ts, 0);
}

static __always_inline void rxt_worker_out(void)
{
	u32 tid = rxt_tid();
	struct rxt_worker *worker = workers.lookup(&tid);
	u64 now = bpf_ktime_get_ns();

	if (!worker)
		return;
	if (!worker->held)
		rxt_worker_send(RXT_WORKER_OUT, worker, now, now - worker->ts);
	workers.delete(&tid);
}
