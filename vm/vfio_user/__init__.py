# SPDX-License-Identifier: GPL-2.0-only
"""The server's side of vfio-user: a PCI device in a process of its own, for QEMU's ``vfio-user-pci``."""
