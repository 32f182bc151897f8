# SPDX-License-Identifier: GPL-2.0-only
import csv
import io
import json
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.conftest import META, Trace, event, failed, window
from toolkit.event import ALL_QUEUES
from toolkit.report.events import export
from toolkit.trace.reader import TraceReader


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_event_with_names(kind: str, make_trace: Trace) -> None:
    path = make_trace([window(1)], [failed(2, flags="process|in_worker"), window(3, ifindex=99)])
    file = io.BytesIO()
    export(TraceReader(path), kind, file)
    frame = {
        "csv": lambda: pd.read_csv(io.BytesIO(file.getvalue())),
        "jsonl": lambda: pd.DataFrame([json.loads(line) for line in file.getvalue().splitlines()]),
        "parquet": lambda: pd.read_parquet(io.BytesIO(file.getvalue())),
    }[kind]()
    assert frame["kind"].tolist() == ["window", "refill", "window"]
    assert frame["process"].tolist() == frame["in_worker"].tolist() == [False, True, False]
    assert not frame["complete"].any() and frame["process"].dtype == bool
    assert "flags" not in frame
    assert frame["device"].fillna("").tolist() == ["eth1", "eth1", ""]
    assert frame["driver"].unique().tolist() == ["virtio_net"]
    assert frame["gfp_names"][1] == "GFP_ATOMIC"
    assert frame["ts"].tolist() == [1001 * 10**9, 1002 * 10**9, 1003 * 10**9]


def test_no_events_is_a_header(make_trace: Trace) -> None:
    file = io.BytesIO()
    export(TraceReader(make_trace()), "csv", file)
    assert file.getvalue().startswith(b"device,ts,")
    assert file.getvalue().count(b"\n") == 1


UNKNOWN = [
    event("worker_in", 1, queue=ALL_QUEUES),
    failed(2, dur=3, posted_before=7, gfp=0xFFFFFFFF),
]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_numbers_that_are_not_known_are_null(kind: str, make_trace: Trace) -> None:
    file = io.BytesIO()
    export(TraceReader(make_trace(UNKNOWN)), kind, file)
    unknown: Any
    zero: Any
    seven: Any
    rows: list[Any]
    if kind == "csv":
        rows = list(csv.DictReader(io.TextIOWrapper(io.BytesIO(file.getvalue()))))
        unknown, zero, seven = "", "0", "7"
    else:
        rows = [json.loads(line) for line in file.getvalue().splitlines()]
        unknown, zero, seven = None, 0, 7
    columns = ("queue", "posted_before", "posted_after", "order")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        (unknown, unknown, unknown, zero),
        (zero, seven, zero, unknown),
    ]


def test_parquet_has_signed_columns_units_and_the_trace(make_trace: Trace) -> None:
    file = io.BytesIO()
    export(TraceReader(make_trace(UNKNOWN)), "parquet", file)
    table = pq.read_table(io.BytesIO(file.getvalue()))
    assert json.loads(table.schema.metadata[b"rxt"]) == META
    units = {field.name: field.metadata[b"unit"].decode() for field in table.schema}
    assert (units["ts"], units["posted_after"], units["packets"], units["gfp"]) == (
        "ns",
        "buffers",
        "packets",
        "1",
    )
    assert (
        table.schema.field("posted_after").metadata[b"doc"] == b"posted at the end; null where nobody looked"
    )
    # What counts or measures may be subtracted; what only names something is as the kernel has it.
    assert all(
        (unit != "1") == (str(table.schema.field(name).type) in ("int32", "int64"))
        for name, unit in units.items()
    )
    assert pc.subtract(table["posted_after"], table["posted_before"]).to_pylist() == [None, -7]
    assert table["gfp"].to_pylist() == [0, 0xFFFFFFFF]
