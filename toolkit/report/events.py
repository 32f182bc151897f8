# SPDX-License-Identifier: GPL-2.0-only
"""Events with names in the place of numbers, written batch by batch."""

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.event import FLAG, KIND
from toolkit.stalls import gfp
from toolkit.trace.reader import Columns, TraceReader
from toolkit.trace.schema import EVENT


def export(reader: TraceReader, kind: str, file: BinaryIO) -> None:
    """Writes the events of a trace.

    :param reader: the trace; its `damage` is known afterwards.
    :param kind: csv, jsonl or parquet.
    :param file: where to write.
    """
    devices: Sequence[Mapping[str, Any]] = reader.meta.get("devices", [])
    empty = _as_text(named(_no_events(), reader.meta, devices))
    schema = pa.Schema.from_pandas(empty, preserve_index=False)
    parquet = pq.ParquetWriter(file, schema, compression="zstd") if kind == "parquet" else None
    if kind == "csv":
        empty.to_csv(file, index=False)
    for columns, note in reader:
        devices = note.get("devices", devices)
        frame = _as_text(named(columns, reader.meta, devices))
        if parquet:
            parquet.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))
        elif kind == "csv":
            frame.to_csv(file, index=False, header=False)
        elif len(frame):
            frame.to_json(file, orient="records", lines=True)
    if parquet:
        parquet.close()


def everything(reader: TraceReader) -> pd.DataFrame:
    """:return: all events of a trace, sorted by ts; columns as `named` gives them."""
    devices: dict[int, Mapping[str, Any]] = {}
    parts = [_no_events()]
    for columns, note in reader:
        parts.append(columns)
        for device in note.get("devices", []):
            devices[device["ifindex"]] = device
    for device in reader.meta.get("devices", []):
        devices.setdefault(device["ifindex"], device)
    ts = np.concatenate([part["ts"] for part in parts])
    order = np.argsort(ts, kind="stable")
    whole = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
    return named(whole, reader.meta, list(devices.values()))


def named(columns: Columns, meta: Mapping[str, Any], devices: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """:return: the columns of EVENT, with words for kind, flags, driver; and device and gfp_names."""
    frame = pd.DataFrame(columns)
    flags = {number: "|".join(name for name, bit in FLAG.items() if number & bit) for number in range(256)}
    masks = {mask: gfp.names(int(mask), meta.get("gfp_flags", {})) for mask in frame["gfp"].unique()}
    names = {each["ifindex"]: each["name"] for each in devices}
    drivers = {number: each["name"] for number, each in enumerate(meta.get("drivers", []))}
    frame.insert(0, "device", _worded(frame["ifindex"], names))
    frame["gfp_names"] = _worded(frame["gfp"], masks)
    frame["flags"] = _worded(frame["flags"], flags)
    # A number that has no word stays.
    for name, words in (("kind", {number: kind for kind, number in KIND.items()}), ("driver", drivers)):
        frame[name] = _worded(frame[name], {number: str(number) for number in range(256)} | words)
    return frame


def _worded(numbers: pd.Series, words: Mapping[Any, str]) -> pd.Series:
    """:return: a word for each number, as categories; NA where there is none."""
    known = dict.fromkeys(words[number] for number in numbers.unique() if number in words)
    return numbers.astype("category").map(words).astype(pd.CategoricalDtype(list(known)))


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """:return: the frame with strings for categories: each batch has other ones."""
    return frame.astype(dict.fromkeys(frame.select_dtypes("category"), "string"))


def _no_events() -> Columns:
    return {name: np.empty(0, EVENT[name]) for name in EVENT.names or ()}
