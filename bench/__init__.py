# SPDX-License-Identifier: GPL-2.0-only
"""Each claim about speed (docs/bench.md) as a command that prints a ratio to a named peer."""
