# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU of a machine: which one, its command line, its taps, and its monitor."""
