# SPDX-License-Identifier: GPL-2.0-only
"""The stalls of several traces as Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from toolkit.report import parquet

if TYPE_CHECKING:
    from toolkit.runs import TraceSet

FILES = ("stalls.parquet",)


def render(traces: TraceSet, out: BinaryIO) -> None:
    """Write a row for each stall, with the path of its trace in front."""
    parquet.write_stalls(traces.stalls, out)
