# SPDX-License-Identifier: GPL-2.0-only
"""The version of the toolkit: the one place that says it."""

__version__ = "0.1.0"
