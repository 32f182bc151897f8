# SPDX-License-Identifier: GPL-2.0-only
"""The stalls of a trace as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("stalls.csv",)


def render(trace: Trace, out: BinaryIO) -> None:
    """Write a row for each stall, with the columns of docs/stalls.md."""
    trace.stalls.to_csv(out, index=False)
