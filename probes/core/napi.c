// SPDX-License-Identifier: GPL-2.0-only
/*
 * NAPI scheduled, turned off and on. Inside a run of the refill worker that is deferred, off and on are kept back, too.
 */
static __always_inline void rxt_napi_scheduled(u64 napi)
{
	struct rxt_queue *queue = queues.lookup(&napi);
	struct rxt_poll *poll = rxt_poll_here();

	if (!queue || !queue->watched)
		return;
	rxt_waiting_end(queue, bpf_ktime_get_ns());
	/* No interrupt did it inside a poll of this queue, nor where NAPI was turned on: the driver does it at once then. */
	if (queue->irqs_schedule && !queue->turned_on && !(poll && poll->key == napi))
		rxt_irq(queue);
	queue->turned_on = 0;
}

#if defined(OFF_netdev_link) && defined(OFF_netdev_napi_list) && defined(OFF_napi_dev_list)
#define RXT_NAPIS 64		/* as many instances of a device are looked at, each time that the tracer asks */
#define RXT_NAPIS_MOST 256	/* as many instances of a device are known */
#define RXT_LINK_START 1	/* bit __LINK_STATE_START of net_device.state */

/* The NAPI instance of a struct net_device that follows another one, 0: the first. A device that is down has none. */
static __always_inline u64 rxt_next_napi(u64 netdev, u64 napi)
{
	u64 head = netdev + OFF_netdev_napi_list, next;

	if (!napi && !(rxt_u32(netdev + OFF_netdev_link) & RXT_LINK_START))
		return 0;
	next = rxt_pointer(napi ? napi + OFF_napi_dev_list : head);

	return next && next != head ? next - OFF_napi_dev_list : 0;
}

/* The instance before the first that a look is for, 0: that is the first of all. The look goes on where the last one
 * stopped, which was after RXT_NAPIS instances, or at the end. */
static __always_inline u64 rxt_look_after(u64 netdev)
{
	u32 number = rxt_ifindex(netdev), before;
	struct rxt_device *device = devices.lookup(&number);
	u64 napi = 0;
	int i;

	if (!device)
		return 0;
	before = device->looked;
	device->looked += RXT_NAPIS;
	for (i = 0; i < RXT_NAPIS_MOST; i++) {
		if (i == before)
			return napi;
		napi = rxt_next_napi(netdev, napi);
		if (!napi)
			break;
	}
	device->looked = RXT_NAPIS;
	return 0;
}

/* The instance of a look that follows another one; 0: it was the last, and the next look begins at the first. */
static __always_inline u64 rxt_look_next(u64 netdev, u64 napi)
{
	u64 next = rxt_next_napi(netdev, napi);
	u32 number = rxt_ifindex(netdev);
	struct rxt_device *device = next ? 0 : devices.lookup(&number);

	if (device)
		device->looked = 0;
	return next;
}

/* Sends what a queue is in now. A queue to which nothing happens any more is seen in no other way. Somebody looked after
 * `asked`: an empty ring was empty then, and may have been filled since; one with buffers has them now. */
static __always_inline void rxt_look(struct rxt_queue *queue, u64 asked, u16 posted)
{
	rxt_queue_mark(queue, RXT_LOOK, posted ? bpf_ktime_get_ns() : asked, 0, posted, posted, RXT_PROCESS);
}
#endif

/* void __napi_schedule(struct napi_struct *n), of any driver: NAPI was not scheduled before. */
int rxt_schedule(struct pt_regs *ctx)
{
	rxt_napi_scheduled(PT_REGS_PARM1(ctx));
	return 0;
}

/* void __napi_schedule_irqoff(struct napi_struct *n): the same, with interrupts off. */
int rxt_schedule_irqoff(struct pt_regs *ctx)
{
	rxt_napi_scheduled(PT_REGS_PARM1(ctx));
	return 0;
}

static __always_inline void rxt_napi_emit(struct rxt_queue *queue, u8 kind, u64 ts, u16 posted, int in_worker)
{
	struct rxt_event event = {};

	/* Until NAPI is on again nothing else touches the window: no window spans a time without NAPI. */
	if (kind == RXT_NAPI_ON)
		rxt_flush(queue, &queue->window);
	event.kind = kind;
	event.ts = ts;
	event.posted_before = posted;
	event.posted_after = posted;
	event.flags = RXT_PROCESS | (in_worker ? RXT_IN_WORKER : 0);
	rxt_queue_emit_in_order(queue, &event);
}

/* Sends how a deferred run began, since the rest of it will be sent. */
static __always_inline void rxt_worker_release(struct rxt_queue *queue, struct rxt_worker *worker)
{
	if (!worker || !worker->deferred)
		return;
	worker->deferred = 0;
	rxt_worker_emit(RXT_WORKER_IN, worker, worker->ts, 0);
	if (queue->off_since >= worker->ts)
		rxt_napi_emit(queue, RXT_NAPI_OFF, queue->off_since, queue->off_posted, 1);
}

/* NAPI is turned off or on, which `kind` says. */
static __always_inline void rxt_napi(struct rxt_queue *queue, u8 kind, u16 posted)
{
	struct rxt_worker *worker = rxt_worker_here();
	u64 now = bpf_ktime_get_ns();

	queue->turned_on = kind == RXT_NAPI_ON;
	if (kind == RXT_NAPI_OFF) {
		queue->off_since = now;
		queue->off_posted = posted;
		if (worker && worker->deferred)
			return;
	} else if (worker && worker->deferred) {
		if (now - queue->off_since < RXT_SHORT_NS)
			return;
		rxt_worker_release(queue, worker);
	}
	rxt_napi_emit(queue, kind, now, posted, worker != 0);
}
