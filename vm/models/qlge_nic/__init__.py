# SPDX-License-Identifier: GPL-2.0-only
"""QLogic's ISP8000 as the qlge driver knows it: a NIC in a process of its own, behind vfio-user."""
