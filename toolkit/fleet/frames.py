# SPDX-License-Identifier: GPL-2.0-only
"""Read the dataset of a fleet as frames: the columns that findings are made of, and no more."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.fleet import dataset
from toolkit.stalls.classes import RECONFIGURATION

WHERE = ["place", "host", "kernel", "driver", "build", "regime", "day"]
"""The columns that each table begins with."""

STALL, SILENCE = "stall", "silence"
"""What an interval is: of a known cause, or outside of stalls."""

_SUMS = ["stalls", "stalled_ns", "longest_ns", "silent_ns", "open"]
_QUEUES = [*WHERE, "device", "queue", *_SUMS]
_SILENCES = ["place", "host", "kernel", "driver", "build", "device", "state", "duration_ns"]
_STALLS = [*_SILENCES, "cause", "context", "order", "gfp_names", "posted"]
_READ = {"traces": None, "queues": _QUEUES, "stalls": [*_STALLS, "class"], "silences": _SILENCES}
"""The columns that are read of each table: there may be a thousand silences for each trace."""


@dataclass(frozen=True)
class Fleet:
    """The dataset of a fleet as three pandas frames. Each row says its trace, host, kernel, driver and build.

    Attributes:

    - `traces`: a row for each driver in each trace, and a row for each trace that could not be read;
    - `queues`: a row for each queue in each trace;
    - `intervals`: a row for each stall and for each silence outside of stalls. The column `what` is STALL or
      SILENCE. A reconfiguration is neither.

    Durations are in ns (columns that end in `_ns`). What is not known is null.
    """

    traces: pd.DataFrame
    queues: pd.DataFrame
    intervals: pd.DataFrame


def read(directory: Path | str) -> Fleet:
    """Read a dataset of `toolkit fleet`.

    :raises UserError: if the directory is no dataset.
    """
    return frames({name: dataset.table(directory, name, columns) for name, columns in _READ.items()})


def frames(tables: Mapping[str, pa.Table]) -> Fleet:
    """Return the frames of a dataset's tables."""
    stalls = tables["stalls"].filter(pc.field("class") != RECONFIGURATION).select(_STALLS)
    silences = tables["silences"].select(_SILENCES)
    intervals = pa.concat_tables(
        [
            each.append_column("what", pa.repeat(pa.scalar(what), len(each)))
            for each, what in ((stalls, STALL), (silences, SILENCE))
        ],
        promote_options="default",
    )
    return Fleet(
        traces=_with_silence(_frame(tables["traces"])),
        queues=_with_silence(_frame(tables["queues"].select(_QUEUES))),
        intervals=_frame(intervals),
    )


def by_place(traces: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each trace: the sums of its drivers, where it has several."""
    if traces["place"].is_unique:
        return traces
    sums = ["queues", "stalls", "brief", "stalled_ns", "silent_ns", "silence_ns", "open", "uncertain"]
    sums += ["packets", "polls", "refills", "failed", "spin_ns"]
    groups = traces.groupby("place", sort=False, observed=True)
    found = groups.first(skipna=False).assign(
        **{name: groups[name].sum(min_count=1) for name in sums},
        **{name: groups[name].max() for name in ("longest_ns", "silent")},
    )
    return found.reset_index()


def _with_silence(rows: pd.DataFrame) -> pd.DataFrame:
    """Add silence_ns, the time in stalls and in other silences, and `silent`, whether there was a stall or
    another silence of 10 ms or longer. Both are null where nothing is known."""
    outside = rows["silent_ns"].fillna(0)
    silent = ((rows["stalls"] > 0) | (outside > 0)).where(rows["stalls"].notna())
    return rows.assign(silence_ns=rows["stalled_ns"] + outside, silent=silent.astype("boolean"))


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame: words as categories, since there are few of each; nulls stay nulls."""
    kinds = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    words = [
        field.with_type(pa.dictionary(pa.int32(), pa.string())) if pa.types.is_string(field.type) else field
        for field in table.schema
    ]
    encoded = pa.table(
        [
            column.dictionary_encode() if pa.types.is_string(column.type) else column
            for column in table.columns
        ],
        schema=pa.schema(words),
    )
    found: pd.DataFrame = encoded.to_pandas(types_mapper=kinds.get)
    return found.assign(day=pd.to_datetime(found["day"])) if "day" in found else found
