# SPDX-License-Identifier: GPL-2.0-only
"""The survey: what each NIC that QEMU has a model of does when memory is short, on each promised kernel."""
