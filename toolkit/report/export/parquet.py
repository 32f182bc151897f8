# SPDX-License-Identifier: GPL-2.0-only
"""The events of a trace as Parquet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, BinaryIO

import pyarrow.parquet as pq

from toolkit.report import events
from toolkit.trace.schema import META_KEY

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("events.parquet",)
IS_TEXT = False


def render(trace: Trace, out: BinaryIO) -> None:
    """Write a row for each event; the trace's JSON object is in the metadata as `rxt`."""
    empty, tables = events.tables(trace)
    schema = empty.schema.with_metadata({META_KEY: json.dumps(trace.meta)})
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.cast(schema))
