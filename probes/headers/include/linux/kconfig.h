/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What bcc's own text needs of a kernel's headers, so that no header package has to be installed: bcc is told
 * that the kernel's source is here (toolkit/capture/headers.py). bcc includes this file before any other. Kernel
 * structs are never declared here: the probes read them at offsets from the running kernel's BTF.
 */
#ifndef RXT_KCONFIG_H
#define RXT_KCONFIG_H

#define CONFIG_BPF 1
#define CONFIG_BPF_SYSCALL 1
#define __always_inline inline __attribute__((__always_inline__))
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))

#endif
