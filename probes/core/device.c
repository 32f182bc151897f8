// SPDX-License-Identifier: GPL-2.0-only
/*
 * Network devices: the number that events call a device by, its name, and whether the user wants to trace it.
 */

/* How people know a device: by namespace (its inode number) and name. */
struct rxt_name {
	u32 netns;
	char name[16];
};

/* A device as it was when a queue of it was made known. */
struct rxt_device {
	struct rxt_name name;
	u32 ifindex;
	u32 looked;		/* so many NAPI instances come before those that are looked at next (napi.c) */
};

/* By the number that events call it; the tracer looks up those that it does not know. */
BPF_HASH(devices, u32, struct rxt_device, 1024);
/* Those that the user asked for, if there are any, and those that only probes for any driver are for; and by what each is
 * traced. */
#define RXT_BY_OWN_PROBES 1
#define RXT_BY_POLLS 2		/* by what NAPI tells of any driver; the driver's number is added */
BPF_HASH(only_devices, struct rxt_name, u8, 256);

/* By the number of a driver: its poll function. A kernel has another address for it each time that it boots. */
BPF_ARRAY(poll_functions, u64, 256);

static __always_inline int rxt_is_of(u64 napi, u32 driver)
{
	u64 *poll = poll_functions.lookup(&driver);

	return poll && *poll && rxt_pointer(napi + OFF_napi_poll) == *poll;
}

static __always_inline u32 rxt_netns(u64 netdev)
{
	return rxt_u32(rxt_pointer(netdev + OFF_netdev_net) + OFF_net_inum);
}

/* The number by which events call a struct net_device: its index, which is unique in a namespace only. A device in
 * another namespace is called by its address: the struct is larger than 2^11 bytes. */
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

/* Sends a record of a whole device. */
static __always_inline void rxt_device_emit(u32 ifindex, u8 driver, struct rxt_event *event)
{
	event->ifindex = ifindex;
	event->queue = RXT_ALL_QUEUES;
	event->driver = driver;
	rxt_emit(event);
}

/* Did the user ask for this device, or for all? */
static __always_inline int rxt_is_wanted(u64 netdev)
{
#ifdef RXT_ONLY_DEVICES
	struct rxt_name name = {};

	rxt_read_name(netdev, &name);
	return only_devices.lookup(&name) != 0;
#endif
	return 1;
}
