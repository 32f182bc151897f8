# SPDX-License-Identifier: GPL-2.0-only
"""Events with names in the place of numbers, written batch by batch."""

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.stalls import gfp
from toolkit.trace.reader import Columns, TraceReader
from toolkit.trace.schema import EVENT, FLAG, KIND


def export(reader: TraceReader, kind: str, file: BinaryIO) -> None:
    """Writes the events of a trace.

    :param reader: the trace; its `damage` is known afterwards.
    :param kind: csv, jsonl or parquet.
    :param file: where to write.
    """
    devices: Sequence[Mapping[str, Any]] = reader.meta.get("devices", [])
    empty = named({name: np.empty(0, EVENT[name]) for name in EVENT.names or ()}, reader.meta, devices)
    schema = pa.Schema.from_pandas(empty, preserve_index=False)
    parquet = pq.ParquetWriter(file, schema, compression="zstd") if kind == "parquet" else None
    if kind == "csv":
        empty.to_csv(file, index=False)
    for columns, note in reader:
        devices = note.get("devices", devices)
        frame = named(columns, reader.meta, devices)
        if parquet:
            parquet.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))
        elif kind == "csv":
            frame.to_csv(file, index=False, header=False)
        elif len(frame):
            frame.to_json(file, orient="records", lines=True)
    if parquet:
        parquet.close()


def named(columns: Columns, meta: Mapping[str, Any], devices: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """:return: the columns of EVENT, with words for kind, flags, driver; and device and gfp_names."""
    frame = pd.DataFrame(columns)
    kinds = {number: name for name, number in KIND.items()}
    flags = {
        number: "|".join(name for name, bit in FLAG.items() if number & bit)
        for number in frame["flags"].unique()
    }
    drivers = {number: each["name"] for number, each in enumerate(meta.get("drivers", []))}
    names = {each["ifindex"]: each["name"] for each in devices}
    masks = {mask: gfp.names(int(mask), meta.get("gfp_flags", {})) for mask in frame["gfp"].unique()}
    for name, words in (("kind", kinds), ("flags", flags), ("driver", drivers)):
        frame[name] = frame[name].map(words).fillna(frame[name].astype("str")).astype("string")
    frame.insert(0, "device", frame["ifindex"].map(names).astype("string"))
    frame["gfp_names"] = frame["gfp"].map(masks).astype("string")
    return frame
