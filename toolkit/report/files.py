# SPDX-License-Identifier: GPL-2.0-only
"""Write the tables of an analysis as files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import UserError
from toolkit.event import MEMBERS
from toolkit.report.text import verdict
from toolkit.stalls import analysis as stalls
from toolkit.stalls.analysis import Analysis
from toolkit.stalls.scan import SUMS

PLOTS = ("timeline", "durations", "poll_gaps", "time_spent")

NAMES = (
    "stalls.csv",
    "stalls.parquet",
    "stalls.json",
    "summary.json",
    *(f"{plot}.{suffix}" for plot in PLOTS for suffix in ("png", "svg")),
)
"""The files that `analyze -o` writes for one trace."""

_TABLES = ("stalls", "queues", "tables", "phases")
_UNITS = {"posted": "buffers"} | {name: unit for name, _, unit, _ in MEMBERS if name in SUMS}


def refuse_existing(output: Path, folders: Sequence[Path | None] = (), names: Sequence[str] = NAMES) -> None:
    """Make sure that no file will be overwritten.

    :param output: the directory that was asked for.
    :param folders: the directory of each trace.
    :param names: of the files that would be written.
    :raises UserError: if one of the files exists.
    """
    for file in outputs(output, folders, names):
        if file.exists():
            raise UserError(f"{file} exists; give another directory, or --force to replace it.")


def outputs(
    output: Path | None, folders: Sequence[Path | None] = (), names: Sequence[str] = NAMES
) -> list[Path]:
    """Return the files that would be written: these names in each directory."""
    known = dict.fromkeys(filter(None, (output, *folders)))
    return [folder / name for folder in known for name in names]


def summary(
    analysis: Analysis, agreement: Mapping[str, Any] | None, phases: pd.DataFrame | None
) -> dict[str, Any]:
    """Return the JSON object of summary.json (docs/stalls.md)."""
    found: dict[str, Any] = {"verdict": verdict(analysis), **stalls.summary(analysis), "witness": None}
    if agreement is not None:
        gaps = {name: pd.DataFrame(rows) for name, rows in agreement.items() if isinstance(rows, list)}
        for name, rows in gaps.items():
            if len(rows) > stalls.LISTED:
                found["left_out"][name] = len(rows) - stalls.LISTED
        longest = {name: stalls.records(stalls.largest(rows, "duration_ns")) for name, rows in gaps.items()}
        found["witness"] = {**agreement, **longest}
    found["rest"] = _rest(found["left_out"])
    if phases is not None:
        names = {"start": "start_ns", "end": "end_ns"}
        found["scenario"] = phases.attrs["scenario"]
        found["phases"] = stalls.records(phases.rename(columns=names))
    return found


def _rest(left_out: Mapping[str, int]) -> str | None:
    """Say which rows are not in a summary, and where they are."""
    if not left_out:
        return None
    tables = ", ".join(
        f"the largest {stalls.LISTED:,} of {stalls.LISTED + more:,} {name.replace('_', ' ')}"
        for name, more in left_out.items()
    )
    return (
        f"Here are {tables}. All stalls: toolkit analyze TRACE -o DIR writes them to stalls.csv and "
        "stalls.parquet. All tables: toolkit.read(TRACE).analysis in Python."
    )


def save(found: Mapping[str, Any], table: pd.DataFrame, folder: Path) -> None:
    """Write the tables of one trace.

    :param found: the JSON object of summary.json.
    :param table: the stalls.
    :param folder: an existing directory.
    """
    about = {name: value for name, value in found.items() if name not in _TABLES}
    save_stalls(table, folder, about)
    (folder / "stalls.json").write_text(json.dumps(found["stalls"], indent=1) + "\n")
    (folder / "summary.json").write_text(json.dumps(found, indent=1) + "\n")


def save_stalls(table: pd.DataFrame, folder: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write the stalls of one trace or of several, as CSV and Parquet.

    :param about: a JSON object for the metadata of the Parquet file, as `rxt-summary`.
    """
    table.to_csv(folder / "stalls.csv", index=False)
    columns = pa.Table.from_pandas(table, preserve_index=False)
    fields = [field.with_metadata({"unit": _unit(field.name)}) for field in columns.schema]
    metadata = columns.schema.metadata | ({b"rxt-summary": json.dumps(about).encode()} if about else {})
    pq.write_table(columns.cast(pa.schema(fields, metadata)), folder / "stalls.parquet")


def _unit(column: str) -> str:
    """Return the unit of a column of stalls, in the words that columns of events use."""
    return "ns" if column.endswith("_ns") else _UNITS.get(column, "1")
