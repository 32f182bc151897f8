# SPDX-License-Identifier: GPL-2.0-only
"""Events with names instead of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from toolkit.drivers import known
from toolkit.event import ALL_QUEUES, FLAG, KIND, NO_ORDER, NOT_KNOWN
from toolkit.trace import gfp
from toolkit.trace.reader import Columns, TraceReader
from toolkit.trace.schema import EVENT, SCHEMA

if TYPE_CHECKING:
    from toolkit.traces import Trace

_NULL = {
    "queue": ("RXT_ALL_QUEUES", ALL_QUEUES),
    "posted_before": ("RXT_NOT_KNOWN", NOT_KNOWN),
    "posted_after": ("RXT_NOT_KNOWN", NOT_KNOWN),
    "order": ("RXT_NO_ORDER", NO_ORDER),
}
"""By column: the number in the file that is null in an export, and its name."""

_SIGNED = {pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
_WORDS = ("device", "kind", "driver", "gfp_names")


def tables(trace: Trace) -> tuple[pa.Table, Iterator[pa.Table]]:
    """Return the events of a trace as `exported` has them: an empty table, and a table for each batch."""

    def batches() -> Iterator[pa.Table]:
        devices: Sequence[Mapping[str, Any]] = trace.meta.get("devices", [])
        for columns, note in trace.batches():
            devices = note.get("devices", devices)
            yield exported(columns, trace.meta, devices)

    return exported(_no_events(), trace.meta, []), batches()


def exported(columns: Columns, meta: Mapping[str, Any], devices: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return events for other tools (docs/trace-file.md).

    :return: the columns of EVENT, with `unit` and `doc` in their metadata; kind and driver are words; each
        flag of the drivers is a column of booleans, null where the event's driver lacks the flag; device and
        gfp_names are added. A number that is not known is null; counts and measures are signed.
    """
    words = named(columns, meta, devices)
    fields: list[pa.Field] = []
    arrays: list[pa.Array] = []

    def add(name: str, array: pa.Array, unit: bytes = b"1", doc: bytes = b"") -> None:
        about = {b"unit": unit, b"doc": doc} if doc else {b"unit": unit}
        fields.append(pa.field(name, array.type, metadata=about))
        arrays.append(array)

    def text(name: str) -> pa.Array:
        return pa.array(words[name].astype("string"), pa.string())

    add("device", text("device"), doc=b"name of the device; null if not known")
    for field in SCHEMA:
        name, unit, doc = field.name, field.metadata[b"unit"], field.metadata[b"doc"]
        if name == "flags":
            for flag, bits in _flags(meta).items():
                add(flag, _flag(columns, bits))
        elif name in _WORDS:
            add(name, text(name))
        else:
            word, number = _NULL.get(name, ("", None))
            known = pa.array(columns[name], mask=columns[name] == number if word else None)
            signed = field.type if unit == b"1" else _SIGNED[field.type]
            add(name, known.cast(signed), unit, doc.replace(word.encode(), b"null") if word else doc)
    add("gfp_names", text("gfp_names"), doc=b"names of the bits of gfp")
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def everything(reader: TraceReader) -> pd.DataFrame:
    """Return all events of a trace, sorted by ts; columns as `named` gives them."""
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
    """Return the columns of EVENT, with words for kind, flags and driver; and device and gfp_names."""
    frame = pd.DataFrame(columns)
    masks = {mask: gfp.names(int(mask), meta.get("gfp_flags", {})) for mask in frame["gfp"].unique()}
    names = {each["ifindex"]: each["name"] for each in devices}
    drivers = {number: each["name"] for number, each in enumerate(meta.get("drivers", []))}
    frame.insert(0, "device", _worded(frame["ifindex"], names))
    frame["gfp_names"] = _worded(frame["gfp"], masks)
    kinds, flags = _numbered(tuple(drivers.values()))
    of_driver = frame["driver"].astype(np.int64) * 256
    frame["kind"] = _worded(of_driver + frame["kind"], kinds)
    frame["flags"] = _worded(of_driver + frame["flags"], flags)
    frame["driver"] = _worded(frame["driver"], {number: str(number) for number in range(256)} | drivers)
    return frame


@cache
def _numbered(drivers: tuple[str, ...]) -> tuple[dict[int, str], dict[int, str]]:
    """Return words for the kinds and flags of events, by 256 times the number of the driver and their own.

    A number means what the driver of its event says; a number without a word stays a number.
    """
    kinds, flags = {}, {}
    for place, name in enumerate(drivers):
        driver = known(name)
        names = {number: kind for kind, number in (driver.kinds if driver else KIND).items()}
        bits = (driver.flag_bits if driver else FLAG).items()
        for number in range(256):
            kinds[256 * place + number] = names.get(number, str(number))
            flags[256 * place + number] = "|".join(flag for flag, bit in bits if number & bit)
    return kinds, flags


def _flags(meta: Mapping[str, Any]) -> dict[str, dict[int, int]]:
    """Return the flags of the drivers of a trace: by name, the bit that each driver's number has for it."""
    found: dict[str, dict[int, int]] = {}
    for number, each in enumerate(meta.get("drivers", [])):
        driver = known(each["name"])
        for name, bit in (driver.flag_bits if driver else FLAG).items():
            found.setdefault(name, {})[number] = bit
    return found


def _flag(columns: Columns, bits: Mapping[int, int]) -> pa.Array:
    """Return a flag of each event; null where the event's driver does not have it."""
    of_driver = np.zeros(256, np.uint8)
    of_driver[list(bits)] = list(bits.values())
    mask = of_driver[columns["driver"]]
    return pa.array(columns["flags"] & mask > 0, mask=mask == 0)


def _worded(numbers: pd.Series, words: Mapping[Any, str]) -> pd.Series:
    """Return a word for each number, as categories; NA where there is no word."""
    known = dict.fromkeys(words[number] for number in numbers.unique() if number in words)
    return numbers.astype("category").map(words).astype(pd.CategoricalDtype(list(known)))


def _no_events() -> Columns:
    return {name: np.empty(0, EVENT[name]) for name in EVENT.names or ()}
