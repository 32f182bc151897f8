# SPDX-License-Identifier: GPL-2.0-only
"""Shows when and why a network driver stops receiving for lack of buffers."""

__version__ = "0.1.0"
