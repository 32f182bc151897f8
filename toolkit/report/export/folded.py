# SPDX-License-Identifier: GPL-2.0-only
"""Where the CPU was in silences, as lines of which a flame graph is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("ticks.folded",)
IS_TEXT = True


def render(trace: Trace, out: BinaryIO) -> None:
    """Write a line for each stack: queue, state, thread, functions and, after a blank, how often it was seen.

    That is what flamegraph.pl and speedscope read. What is not known is `[unknown]`.
    """
    rows = trace.ticks.fillna({"thread": "[unknown]", "stack": "[unknown]"})
    for row in rows.itertuples(index=False):
        out.write(f"{row.device} {row.name};{row.state};{row.thread};{row.stack} {row.count}\n".encode())
