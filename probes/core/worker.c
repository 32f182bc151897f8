// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refill workers: threads that refill in process context. A worker that fails may be called again and again, so only
 * its first runs in a window are sent event by event. A further run is deferred: nothing of it is sent until it proves
 * long or reclaims memory, and if it stays short its refill is counted in the queue's worker_window.
 */

/* Runs of a device's worker in RXT_WINDOW_NS that are sent event by event. */
#define RXT_RUNS_SENT_MAX 2

struct rxt_worker {
	u64 ts;
	u32 ifindex;
	u16 driver;
	u16 deferred;		/* RXT_WORKER_IN is not sent yet */
};

struct rxt_rate {
	u64 since;
	u64 runs;
};

BPF_HASH(workers, u32, struct rxt_worker, 256);
BPF_HASH(worker_rates, u32, struct rxt_rate, 256);

static __always_inline void rxt_worker_emit(u8 kind, struct rxt_worker *worker, u64 now, u64 dur)
{
	struct rxt_event event = {};

	event.kind = kind;
	event.ts = now;
	event.dur = dur;
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	event.flags = RXT_PROCESS | RXT_IN_WORKER;
	rxt_device_emit(worker->ifindex, worker->driver, &event);
}

/* The worker that this thread is, if it is in a run; else 0. */
static __always_inline struct rxt_worker *rxt_worker_here(void)
{
	u32 tid = rxt_tid();

	return workers.lookup(&tid);
}

static __always_inline void rxt_worker_in(u64 netdev, u8 driver)
{
	struct rxt_worker worker = {};
	u32 tid = rxt_tid(), ifindex = rxt_ifindex(netdev);

	if (!rxt_is_wanted(netdev))
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
		worker.deferred = rate->runs++ >= RXT_RUNS_SENT_MAX;
	}
#endif
	workers.update(&tid, &worker);
	if (!worker.deferred)
		rxt_worker_emit(RXT_WORKER_IN, &worker, worker.ts, 0);
}

static __always_inline void rxt_worker_out(void)
{
	u32 tid = rxt_tid();
	struct rxt_worker *worker = workers.lookup(&tid);
	u64 now = bpf_ktime_get_ns();

	if (!worker)
		return;
	if (!worker->deferred)
		rxt_worker_emit(RXT_WORKER_OUT, worker, now, now - worker->ts);
	workers.delete(&tid);
}

/* Adds a refill of a deferred run to the queue's worker_window. */
static __always_inline void rxt_worker_count(struct rxt_queue *queue, struct rxt_event *refill, int complete,
					     u16 posted)
{
	struct rxt_event *window = &queue->worker_window;

	if (!window->kind)
		rxt_window_open(queue, window, refill->ts - refill->dur, RXT_PROCESS | RXT_IN_WORKER);
	rxt_window_extend(window, refill->ts);
	rxt_note_posted(window, posted);
	window->refills++;
	window->failed += !complete;
	window->fallbacks += refill->fallbacks;
}
