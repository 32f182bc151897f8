# SPDX-License-Identifier: GPL-2.0-only
"""The stalls of several traces as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from toolkit.runs import TraceSet

FILES = ("stalls.csv",)


def render(traces: TraceSet, out: BinaryIO) -> None:
    """Write a row for each stall, with the path of its trace in front."""
    traces.stalls.to_csv(out, index=False)
