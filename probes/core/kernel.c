// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading the kernel. Few headers are included, since each costs compile time and breaks with new kernels: a member of
 * a kernel struct is read at an offset from BTF, which the loader defines as OFF_<name>.
 */
#include <uapi/linux/ptrace.h>
#include "event.h"

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

static __always_inline u16 rxt_u16(u64 address)
{
	u16 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u8 rxt_u8(u64 address)
{
	u8 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 rxt_tid(void)
{
	return (u32)bpf_get_current_pid_tgid();
}
