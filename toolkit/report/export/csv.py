# SPDX-License-Identifier: GPL-2.0-only
"""The events of a trace as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import pandas as pd

from toolkit.report import events

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("events.csv",)
IS_TEXT = True


def render(trace: Trace, out: BinaryIO) -> None:
    """Write a row for each event, with the columns of `events.exported`."""
    empty, tables = events.tables(trace)
    empty.to_pandas().to_csv(out, index=False)
    for table in tables:
        table.to_pandas(types_mapper=pd.ArrowDtype).to_csv(out, index=False, header=False)
