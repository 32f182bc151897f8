# SPDX-License-Identifier: GPL-2.0-only
"""All that runs in a testbed machine, as root."""
