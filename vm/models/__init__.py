# SPDX-License-Identifier: GPL-2.0-only
"""NICs that are processes of our own, which QEMU reaches over vfio-user."""
