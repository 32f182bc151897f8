# SPDX-License-Identifier: GPL-2.0-only
"""The stalls of a trace as Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from toolkit.report import parquet

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("stalls.parquet",)

_TABLES = ("stalls", "queues", "tables", "phases")


def render(trace: Trace, out: BinaryIO) -> None:
    """Write a row for each stall; the summary, without its tables, is in the metadata as `rxt-summary`."""
    about = {name: value for name, value in trace.summary.items() if name not in _TABLES}
    parquet.write_stalls(trace.stalls, out, about)
