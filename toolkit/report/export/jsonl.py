# SPDX-License-Identifier: GPL-2.0-only
"""The events of a trace as JSON, a line for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import pandas as pd

from toolkit.report import events

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("events.jsonl",)
IS_TEXT = True


def render(trace: Trace, out: BinaryIO) -> None:
    """Write a JSON object for each event, with the columns of `events.exported`."""
    _, tables = events.tables(trace)
    for table in tables:
        if len(table):
            table.to_pandas(types_mapper=pd.ArrowDtype).to_json(out, orient="records", lines=True)
