# SPDX-License-Identifier: GPL-2.0-only
"""Stalls as a Parquet file whose columns have their units."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.event import MEMBERS
from toolkit.stalls.scan import SUMS

_UNITS = {"posted": "buffers"} | {name: unit for name, _, unit, _ in MEMBERS if name in SUMS}


def write_stalls(table: pd.DataFrame, out: BinaryIO, about: Mapping[str, Any] | None = None) -> None:
    """Write the stalls of one trace or of several.

    :param about: a JSON object for the metadata of the file, as `rxt-summary`.
    """
    columns = pa.Table.from_pandas(table, preserve_index=False)
    fields = [field.with_metadata({"unit": _unit(field.name)}) for field in columns.schema]
    metadata = columns.schema.metadata | ({b"rxt-summary": json.dumps(about).encode()} if about else {})
    pq.write_table(columns.cast(pa.schema(fields, metadata)), out)


def _unit(column: str) -> str:
    """Return the unit of a column of stalls, in the words that columns of events use."""
    return "ns" if column.endswith("_ns") else _UNITS.get(column, "1")
