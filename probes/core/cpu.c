// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who had this CPU: the last long runs of threads on it, for a poll that was waited for. The run of a thread ends when
 * another takes its place; softirqs and interrupts on top of it are part of it.
 */
#define RXT_RUNS 4		/* a power of two */
#define RXT_LONG_RUN_NS (RXT_WINDOW_NS / 2)

struct rxt_thread {
	char name[16];		/* TASK_COMM_LEN */
};

struct rxt_run {
	u64 began;
	u64 ended;
	u64 tid;
	struct rxt_thread thread;
};

struct rxt_runs {
	u64 since;		/* when the thread that runs now began to; 0: not known */
	u64 count;
	struct rxt_run last[RXT_RUNS];
};

BPF_PERCPU_ARRAY(runs, struct rxt_runs, 1);
/* What a thread was called that had a CPU for long while a queue waited. */
BPF_TABLE("lru_hash", u32, struct rxt_thread, threads, 1024);

static __always_inline void rxt_note_thread(u32 tid)
{
	struct rxt_thread thread = {};

	bpf_get_current_comm(&thread.name, sizeof(thread.name));
	threads.update(&tid, &thread);
}

/* raw tracepoint sched:sched_switch(preempt, prev, next, ...): `prev`, which is still current, leaves this CPU */
int rxt_switch(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, tid = rxt_tid();
	u64 now = bpf_ktime_get_ns();
	struct rxt_runs *here = runs.lookup(&zero);
	struct rxt_run *run;

	if (!here)
		return 0;
	if (here->since && now - here->since >= RXT_LONG_RUN_NS) {
		run = &here->last[here->count & (RXT_RUNS - 1)];
		run->began = here->since;
		run->ended = now;
		run->tid = tid;
		bpf_get_current_comm(&run->thread, sizeof(run->thread));
		here->count++;
	}
	here->since = now;
	return 0;
}

/* The thread that had this CPU for at least half of the time from `since` to `until`, which is about now; RXT_NOBODY. */
static __always_inline u32 rxt_had_cpu(u64 since, u64 until)
{
	u32 zero = 0, tid = rxt_tid(), best = RXT_NOBODY;
	struct rxt_runs *here = runs.lookup(&zero);
	struct rxt_thread *thread = 0;
	u64 least = (until - since) / 2, began, ended;
	int i;

	if (!here || !here->since)
		return RXT_NOBODY;
	for (i = 0; i < RXT_RUNS; i++) {
		struct rxt_run *run = &here->last[i];

		began = run->began > since ? run->began : since;
		ended = run->ended < until ? run->ended : until;
		if (ended > began && ended - began >= least) {
			best = run->tid;
			thread = &run->thread;
		}
	}
	if (thread)
		threads.update(&best, thread);
	began = here->since > since ? here->since : since;
	if (until > began && until - began >= least) {
		rxt_note_thread(tid);
		best = tid;
	}
	return best;
}
