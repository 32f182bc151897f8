# SPDX-License-Identifier: GPL-2.0-only
"""The dataset of a fleet: four tables in Parquet, in parts that appear as a whole (docs/fleet.md)."""

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from toolkit import drivers
from toolkit.errors import UserError
from toolkit.event import MEMBERS
from toolkit.stalls.scan import SUMS

MARK = "fleet.json"
"""The file that says of a directory that it is a dataset."""

FORMAT = 1
"""The version of the dataset."""

WHOLE, DAMAGED, NEWER, UNREADABLE, UNFETCHED, FAILED = STATUS = (
    "whole",
    "damaged",
    "newer",
    "unreadable",
    "unfetched",
    "failed",
)
"""What became of a trace (docs/fleet.md)."""

_UNITS = {"posted": "buffers", "posted_later": "buffers", "posted_min": "buffers"}
_UNITS |= {"size": "buffers"} | {name: unit for name, _, unit, _ in MEMBERS if name in SUMS}
_TEXT, _NUMBER, _FLAG = pa.string(), pa.int64(), pa.bool_()
_TIME = pa.timestamp("us", "UTC")
"""Microseconds, since Spark has no nanoseconds."""


def _fields(names: str, kind: pa.DataType, **units: str) -> list[pa.Field]:
    """Return a column of this type for each name, with its unit."""
    return [pa.field(name, kind, metadata={"unit": units.get(name, _unit(name))}) for name in names.split()]


def _unit(column: str) -> str:
    return "ns" if column.endswith("_ns") else _UNITS.get(column, "1")


def _states() -> str:
    """Return the columns with the time in each state that a driver has."""
    names = {state.name for driver in drivers.names() for state in drivers.load(driver).states}
    return " ".join(sorted(f"{name.replace('-', '_')}_ns" for name in names))


_WHERE = [
    pa.field("place", _TEXT, nullable=False, metadata={"unit": "1"}),
    *_fields("host kernel driver build regime", _TEXT),
    *_fields("day", pa.date32()),
]
"""The columns that each table begins with."""

_QUEUE = [*_fields("device", _TEXT), *_fields("queue", _NUMBER), *_fields("name", _TEXT)]
_INTERVAL = [
    *_fields("state", _TEXT),
    *_fields("start_utc", _TIME),
    *_fields("start_ns end_ns duration_ns", _NUMBER),
]

SCHEMAS: dict[str, pa.Schema] = {
    "traces": pa.schema(
        [
            *_WHERE,
            *_fields("size", _NUMBER, size="byte"),
            *_fields("modified", _TIME),
            *_fields("etag rules status reason", _TEXT),
            *_fields("analyzed_utc", _TIME),
            *_fields("toolkit arch variant srcversion version ended_by", _TEXT),
            *_fields("hooks_missing", pa.list_(_TEXT)),
            *_fields("began_utc", _TIME),
            *_fields("began_ns duration_ns cpus events dropped missed", _NUMBER),
            *_fields("silence_over_ns brief_under_ns", _NUMBER),
            *_fields("complete", _FLAG),
            *_fields("queues stalls brief reconfigurations stalled_ns longest_ns silent_ns", _NUMBER),
            *_fields("open uncertain packets polls full_polls refills failed fallbacks", _NUMBER),
            *_fields("alloc_failures spin_ns", _NUMBER),
        ]
    ),
    "stalls": pa.schema(
        [
            *_WHERE,
            *_QUEUE,
            *_INTERVAL,
            *_fields("open uncertain", _FLAG),
            *_fields("class", _TEXT),
            *_fields(_states(), _NUMBER),
            *_fields("cause", _TEXT),
            *_fields("cause_queue", _NUMBER),
            *_fields("cause_earlier", _FLAG),
            *_fields("order gfp", _NUMBER),
            *_fields("gfp_names context", _TEXT),
            *_fields("posted posted_later relieved_ns reclaim_ns refill_ns waiting_ns", _NUMBER),
            *_fields("refills failed fallbacks retries polls full_polls packets irqs spin_ns", _NUMBER),
        ]
    ),
    "silences": pa.schema(
        [*_WHERE, *_QUEUE, *_INTERVAL, *_fields("tid", _NUMBER), *_fields("thread", _TEXT)]
    ),
    "queues": pa.schema(
        [
            *_WHERE,
            *_QUEUE,
            *_fields("size stalls brief reconfigurations stalled_ns longest_ns silent_ns", _NUMBER),
            *_fields("open uncertain packets polls full_polls irqs refills failed fallbacks", _NUMBER),
            *_fields("alloc_failures workers posted_min gap_p50_ns gap_p99_ns gap_max_ns", _NUMBER),
        ]
    ),
}
"""The tables of a dataset, by name; the metadata of each column has its `unit`."""


def table(
    directory: Path | str,
    name: str,
    columns: Sequence[str] | None = None,
    where: pc.Expression | None = None,
) -> pa.Table:
    """Read one of the tables of a dataset.

    :param name: traces, stalls, silences or queues.
    :param columns: those to read; None for all.
    :param where: reads only these rows; None for all.
    :return: a table of SCHEMAS[name]; a column that an older part lacks is null there.
    :raises UserError: if the directory is no dataset.
    """
    directory = Path(directory)
    check(directory)
    return _read([part / f"{name}.parquet" for part in parts(directory)], name, columns, where)


def _read(
    files: Sequence[Path],
    name: str,
    columns: Sequence[str] | None = None,
    where: pc.Expression | None = None,
) -> pa.Table:
    every = SCHEMAS[name]
    schema = pa.schema([field for field in every if columns is None or field.name in columns])
    there = pads.dataset([str(file) for file in files], schema=every, format="parquet")
    return there.to_table(schema.names, filter=where).cast(schema)


def check(directory: Path) -> None:
    """Make sure that a directory is a dataset that this toolkit reads.

    :raises UserError: if it is something else.
    """
    try:
        version = json.loads((directory / MARK).read_text())["format"]
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{directory} is no dataset of `toolkit fleet`: there is no {MARK} in it.") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{directory / MARK} is damaged: give another directory.") from None
    if version != FORMAT:
        raise UserError(
            f"{directory} has format {version}, but this toolkit has {FORMAT}: give another directory."
        )


def parts(directory: Path) -> list[Path]:
    """Return the parts of a dataset, the oldest first."""
    return sorted(directory.glob("part-*"))


def create(directory: Path) -> None:
    """Make a directory a dataset, unless it is one.

    :raises UserError: if there is something else in it.
    """
    refuse_other(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / MARK).exists():
        (directory / MARK).write_text(json.dumps({"format": FORMAT, "tables": list(SCHEMAS)}) + "\n")


def refuse_other(directory: Path) -> None:
    """Make sure that a directory is a dataset, or can become one.

    :raises UserError: if there is something else in it.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is not a directory: give another name.")
    if (directory / MARK).exists():
        check(directory)
    elif directory.exists() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty and no dataset of `toolkit fleet`: give another one.")


def add(directory: Path, tables: Mapping[str, pa.Table]) -> Path:
    """Add a part, which appears as a whole.

    :param tables: a table of SCHEMAS[name] for each name; of each trace all rows are in one part.
    :return: the part.
    """
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}"
    making = directory / f".new-{name}"
    making.mkdir()
    for each, rows in tables.items():
        # By day, so that a reader of some days skips the row groups of others.
        pq.write_table(
            rows.sort_by([("day", "ascending"), ("place", "ascending")]), making / f"{each}.parquet"
        )
    return making.rename(directory / f"part-{name}")


def drop_replaced(directory: Path) -> None:
    """Drop the rows of traces that a later part has again, and what a killed run was about to write.

    A part is replaced by another, and only then removed: a reader may see rows twice for a moment, and never
    misses any.
    """
    for left in directory.glob(".new-*"):
        shutil.rmtree(left)
    later = pa.array([], _TEXT)
    for part in reversed(parts(directory)):
        places = pq.read_table(part / "traces.parquet", columns=["place"], partitioning=None)["place"]
        if pc.any(pc.is_in(places, later)).as_py():
            _without(directory, part, later)
        later = pc.unique(pa.chunked_array([later, *places.chunks]))


def _without(directory: Path, part: Path, places: pa.Array) -> None:
    """Replace a part by one without the rows of some traces."""
    making = directory / f".new-{part.name}"
    making.mkdir()
    left = 0
    for name in SCHEMAS:
        rows = _read([part / f"{name}.parquet"], name, where=~pc.field("place").isin(places))
        pq.write_table(rows, making / f"{name}.parquet")
        left += len(rows)
    if left:
        # Its name sorts just after that of the part, and before that of any later one.
        making.rename(directory / f"{part.name}-")
    gone = part.rename(directory / f".new-{part.name}-old")
    shutil.rmtree(gone)
    shutil.rmtree(making, ignore_errors=True)
