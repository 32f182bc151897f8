# SPDX-License-Identifier: GPL-2.0-only
"""Frames into a machine's NIC, and an exact account of those that it did not take."""
