// SPDX-License-Identifier: GPL-2.0-only
/*
 * Queues. The driver chooses the key of a queue: an address that its hooks can tell. A queue holds its windows, the
 * hot events that were added up and not sent yet.
 */
struct rxt_queue {
	/* An open window has the kind RXT_WINDOW, a closed one 0. The first belongs to the queue's NAPI context, the
	 * second to its refill worker. */
	struct rxt_event window;
	struct rxt_event worker_window;	/* short runs of the refill worker */
	u64 sent;		/* ns of the last record that was not a window */
	u64 counter;		/* address of the driver's own count of the packets taken from this ring; 0: none */
	u64 counted;		/* what it was after the last poll */
	/* Interrupts come on any CPU, so they are added to this count and not to the window. */
	u64 irqs;		/* since the trace began */
	u64 irqs_sent;		/* of these, in windows that were sent */
	u64 ring;		/* address of the ring whose members are declared (ring.c); 0: not seen yet */
	u64 allowance_since;	/* ns, see rxt_take_allowance */
	u64 off_since;		/* ns, when NAPI was last turned off */
	u64 scheduled;		/* ns, when NAPI was scheduled; 0: a poll has begun since */
	u64 due;		/* ns, since when it ought to be, since its CPU takes no interrupt; 0: it does (waiting.c) */
	u64 waits_since;	/* ns, when somebody first saw frames wait that no poll took since; 0: none wait */
	u64 failing_since;	/* ns, end of a poll in which an allocation failed; none took a frame since. 0: none failed */
	u64 failing_last;	/* ns, begin of the last poll that failed */
	u64 failing_run;	/* ns, begin of the polls in a row that failed and used their whole budget */
	u32 failing_gfp;
	u32 failing_full;	/* how many these are */
	u32 cpu;		/* number of that on which it was last polled, plus 1; 0: it was not */
	u32 ifindex;
	u16 queue;
	u16 allowance_taken;
	u16 off_posted;
	u16 waits_taken;	/* a number that changes with each frame that a poll takes, as it was then */
	u8 driver;
	u8 watched;		/* the filters let it through */
	u8 empty;		/* the last refill left nothing posted; of a declared ring: the last poll did */
	u8 by_polls;		/* not 0: refills are not known, and what fails in a poll is told (failing.c): its flag for
				 * polls that go on and fail */
	u8 spinning_flag;	/* and that for polls that spin */
	u8 failing_order;
	u8 failing_polls;	/* further ones, up to that one, with no more than RXT_DROPPING_NS between them */
	u8 failing_told;
	u8 failing_empty;	/* the ring was empty when it began */
	u8 by_program;		/* not 0: refills take buffers that a program gave, and their flag for that */
	u8 waits_told;		/* RXT_BLOCKED was sent of the frames that wait */
	u8 irqs_schedule;	/* its receive interrupts are counted where they schedule NAPI (napi.c) */
	u8 turned_on;		/* NAPI was, and not scheduled since */
};

BPF_HASH(queues, u64, struct rxt_queue, 4096);
BPF_HASH(only_queues, u32, u8, 1024);

/* Makes a queue of a struct net_device known under its key. */
static __always_inline struct rxt_queue *rxt_add_queue(u64 key, u64 netdev, u16 number, u8 driver)
{
	struct rxt_queue queue = {};
	struct rxt_device device = {};

	queue.ifindex = rxt_ifindex(netdev);
	queue.queue = number;
	queue.driver = driver;
	queue.watched = rxt_is_wanted(netdev);
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

/* Sends a record of a queue and leaves its windows alone: any context may. */
static __always_inline void rxt_queue_emit(struct rxt_queue *queue, struct rxt_event *event)
{
	event->ifindex = queue->ifindex;
	event->queue = queue->queue;
	event->driver = queue->driver;
	rxt_emit(event);
}

/* Sends what a queue is in at a moment. */
static __always_inline void rxt_queue_mark(struct rxt_queue *queue, u8 kind, u64 ts, u64 dur, u16 before, u16 after,
					   u8 flags)
{
	struct rxt_event event = {};

	event.kind = kind;
	event.ts = ts;
	event.dur = dur;
	event.posted_before = before;
	event.posted_after = after;
	event.flags = flags;
	rxt_queue_emit(queue, &event);
}

/* Counts a receive interrupt. */
static __always_inline void rxt_irq(struct rxt_queue *queue)
{
#ifdef RXT_DETAIL_FULL
	struct rxt_event event = {};

	event.kind = RXT_IRQ;
	event.ts = bpf_ktime_get_ns();
	event.irqs = 1;
	event.posted_before = RXT_NOT_KNOWN;
	event.posted_after = RXT_NOT_KNOWN;
	rxt_queue_emit(queue, &event);
#else
	__sync_fetch_and_add(&queue->irqs, 1);
#endif
}
