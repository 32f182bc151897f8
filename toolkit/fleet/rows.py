# SPDX-License-Identifier: GPL-2.0-only
"""One trace as rows of the dataset, whatever has become of it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from toolkit import drivers
from toolkit.errors import UserError
from toolkit.fleet import sources
from toolkit.fleet.dataset import DAMAGED, FAILED, NEWER, SCHEMAS, UNFETCHED, UNREADABLE, WHOLE
from toolkit.fleet.sources import Source
from toolkit.printable import printable
from toolkit.stalls.analysis import Analysis, analyze
from toolkit.stalls.thresholds import DEFAULT, Thresholds
from toolkit.trace.clock import to_utc
from toolkit.trace.ledger import totals
from toolkit.trace.reader import NewerFormatError

Rows = dict[str, list[dict[str, Any]]]
Tables = dict[str, pa.Table]

_ONCE = ("place", "host", "kernel", "day")
"""Columns that each row of a trace has the same value in."""

_BY_DRIVER = ("build", "regime")
"""Columns that each row of a trace's driver has the same value in."""

_SUMS = (
    "stalls",
    "brief",
    "reconfigurations",
    "stalled_ns",
    "silent_ns",
    "open",
    "uncertain",
    "packets",
    "polls",
    "full_polls",
    "refills",
    "failed",
    "fallbacks",
    "alloc_failures",
)
"""Columns of the table of queues of which a row in `traces` has the sum."""


def tables(
    source: Source,
    rules: str,
    host: re.Pattern[str] | None,
    scratch: Path | str | None,
    thresholds: Thresholds = DEFAULT,
) -> Tables:
    """Analyze a trace.

    :param rules: the version of the rules, as the row will say.
    :param host: finds the name of the host, its group `host`, in the place of a trace that does not say it.
    :param scratch: the directory for a trace that is fetched.
    :param thresholds: from how long silences and stalls count.
    :return: rows for each of SCHEMAS; of a trace that cannot be analyzed, a row in `traces` with its reason.
    """
    try:
        with sources.local(source.url, scratch) as path:
            try:
                return _analyzed(source, rules, host, analyze(path, thresholds))
            except NewerFormatError as error:
                return unknown(source, rules, NEWER, _reason(error, path, source))
            except UserError as error:
                return unknown(source, rules, UNREADABLE, _reason(error, path, source))
            # One trace that finds a mistake in the analysis must not keep the others from it.
            except Exception as error:
                words = f"the analysis failed: {type(error).__name__}: {error}"
                return unknown(source, rules, FAILED, printable(words))
    # Each store has errors of its own.
    except Exception as error:
        return unknown(source, rules, UNFETCHED, sources.sentence(error))


def _reason(error: Exception, path: Path, source: Source) -> str:
    """Return a sentence that names the trace by its place, wherever it was read."""
    return str(error).replace(str(path), source.place)


def unknown(source: Source, rules: str, status: str, reason: str) -> Tables:
    """Return the tables of a trace that could not be analyzed: one row, in `traces`."""
    found = {name: schema.empty_table() for name, schema in SCHEMAS.items()}
    row = _about(source, rules) | {"status": status, "reason": reason, "complete": False}
    return found | {"traces": pa.Table.from_pylist([row], SCHEMAS["traces"])}


def _about(source: Source, rules: str) -> dict[str, Any]:
    return {
        "place": source.place,
        "size": source.size,
        "modified": source.modified,
        "etag": source.etag,
        "rules": rules,
        "analyzed_utc": datetime.now(UTC),
    }


def _analyzed(source: Source, rules: str, host: re.Pattern[str] | None, found: Analysis) -> Tables:
    meta, began = found.meta, to_utc(found.meta, np.array([found.scan.began]))[0].floor("us")
    said = host.search(source.url) if host and not meta.get("host") else None
    once = {
        "place": source.place,
        "host": printable(said["host"]) if said else meta.get("host"),
        "kernel": meta.get("kernel"),
        "day": began.date(),
    }
    whole = once | _about(source, rules) | _whole(found) | {"began_utc": began}
    if found.damage:
        whole["reason"] = _reason(UserError(found.damage), found.path, source)
    by_driver = {traced["name"]: _driver(traced) for traced in meta["drivers"]}
    rows = [whole | by_driver[name] | _sums(found, name) for name in by_driver]
    frames = {
        "stalls": found.stalls,
        "silences": found.silences.assign(
            start_utc=to_utc(meta, found.silences["start_ns"].to_numpy(np.int64))
        ),
        "queues": found.queues,
    }
    return {
        "traces": pa.Table.from_pylist(rows, SCHEMAS["traces"]),
        **{name: _table(frame, SCHEMAS[name], once, by_driver) for name, frame in frames.items()},
    }


def _driver(traced: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trace says of one of its drivers."""
    return {
        "driver": traced["name"],
        "build": next(filter(None, map(traced.get, ("variant", "srcversion", "build_id"))), None),
        **{name: traced.get(name) for name in ("variant", "srcversion", "version", "regime")},
        "hooks_missing": [hook["program"] for hook in traced.get("hooks", []) if not hook.get("attached")],
    }


def _whole(found: Analysis) -> dict[str, Any]:
    """Return what is of a trace as a whole, not of one of its drivers."""
    meta, scan = found.meta, found.scan
    return {
        "status": DAMAGED if found.damage else WHOLE,
        "complete": found.damage is None,
        "ended_by": scan.reason,
        **{name: meta.get(name) for name in ("toolkit", "arch", "cpus")},
        "began_ns": scan.began,
        "duration_ns": scan.ended - scan.began,
        "events": int(scan.chunks[:, 2].sum()),
        "dropped": totals(scan.ledger)["dropped"],
        **asdict(found.thresholds),
        "missed": None if scan.missed is None else sum(scan.missed.values()),
    }


def _sums(found: Analysis, driver: str) -> dict[str, Any]:
    """Return what the queues of one driver add up to; null if it is not known of one of them."""
    queues = found.queues[found.queues["driver"] == driver]
    spins = found.stalls["spin_ns"][found.stalls["driver"] == driver]
    sums = {name: queues[name].sum(skipna=False) for name in _SUMS} | {"spin_ns": spins.sum()}
    known: dict[str, int | None] = {
        name: None if pd.isna(value) else int(value) for name, value in sums.items()
    }
    if not drivers.load(driver).by_napi:
        known["silent_ns"] = None
    return known | {
        "queues": len(queues),
        "longest_ns": int(queues["longest_ns"].max()) if len(queues) else 0,
    }


def _table(
    frame: pd.DataFrame,
    schema: pa.Schema,
    once: Mapping[str, Any],
    by_driver: Mapping[str, Mapping[str, Any]],
) -> pa.Table:
    """Return a frame with the columns of a table of the dataset; null where the frame lacks one."""
    columns = []
    for field in schema:
        if field.name in once:
            columns.append(pa.repeat(pa.scalar(once[field.name], field.type), len(frame)))
        elif field.name in _BY_DRIVER:
            values = [by_driver[name][field.name] for name in frame["driver"]]
            columns.append(pa.array(values, field.type))
        elif field.name in frame:
            columns.append(_column(frame[field.name], field.type))
        else:
            columns.append(pa.nulls(len(frame), field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _column(values: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        values = values.dt.floor("us")
    return pa.array(values, kind, from_pandas=True)


def of_paths(paths: Iterable[Path]) -> Tables:
    """Analyze some traces of this machine here and now; of thousands, toolkit.fleet.run makes a dataset.

    :param paths: traces, and directories that are searched for them.
    :raises UserError: if there is no trace.
    """
    found = sources.find(map(str, paths))
    return joined([tables(source, "", None, None) for source in found])


def joined(parts: Sequence[Tables]) -> Tables:
    """Return the rows of several traces as one table each."""
    return {name: pa.concat_tables([part[name] for part in parts]).combine_chunks() for name in SCHEMAS}
