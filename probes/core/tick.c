// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a CPU is while a queue that was polled there waits for the next poll, or while it is in a long poll. A clock of
 * each CPU looks, and says nothing in all other cases. It does not tick while interrupts are off, nor while a virtual
 * CPU does not run: then the next tick comes late, and says so.
 */
#define RXT_EFAULT 14		/* bpf_get_stackid: the registers are those of user space */

struct rxt_stack {
	u64 ip[48];		/* the innermost functions */
};

/* The kernel takes a stack's hash for its number, and tells none that has the place of another: hence so many. */
BPF_TABLE("stacktrace", int, struct rxt_stack, stacks, 8192);

/* A tick of a perf event's clock; `ctx` has the registers of what it interrupted. */
int rxt_tick(struct bpf_perf_event_data *ctx)
{
	u32 zero = 0, cpu = bpf_get_smp_processor_id();
	struct rxt_here *here = rxt_here.lookup(&zero);
	struct rxt_poll *poll = rxt_poll_here();
	u64 now = bpf_ktime_get_ns(), key, in_poll = 0;
	struct rxt_event event = {};
	struct rxt_queue *queue;
	int i, late, stack;

	if (!here)
		return 0;
	event.dur = here->tick ? now - here->tick : 0;
	here->tick = now;
	late = event.dur >= RXT_NO_TICK_NS;
	if (poll && poll->ts && now - poll->ts >= RXT_WINDOW_NS)
		in_poll = poll->key;
	event.kind = RXT_TICK;
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	#pragma unroll
	for (i = 0; i <= RXT_QUEUES_HERE; i++) {
		key = i < RXT_QUEUES_HERE ? here->keys[i] : in_poll;
		queue = key ? queues.lookup(&key) : 0;
		if (!queue || !queue->watched || (i < RXT_QUEUES_HERE && (key == in_poll || queue->cpu != cpu + 1)))
			continue;
		if (!late && key != in_poll && (!queue->scheduled || now - queue->scheduled < RXT_WINDOW_NS))
			continue;
		if (!event.ts) {
			stack = stacks.get_stackid(ctx, 0);
			event.gfp = stack >= 0 ? stack : stack == -RXT_EFAULT ? RXT_IN_USER : RXT_NO_STACK;
			event.ts = now;
			rxt_note_thread(rxt_tid());
		}
		rxt_queue_emit(queue, &event);
	}
	return 0;
}
