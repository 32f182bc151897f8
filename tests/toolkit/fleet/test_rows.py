# SPDX-License-Identifier: GPL-2.0-only
import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import DATA, META, Trace, window, worker_stall
from toolkit.fleet import rows, sources
from toolkit.fleet.dataset import DAMAGED, FAILED, NEWER, SCHEMAS, UNFETCHED, UNREADABLE, WHOLE
from toolkit.fleet.sources import Source
from toolkit.runs import read_set
from toolkit.trace.schema import CHECK_KEY, META_KEY, checksum


def _tables(path: Path, host: str | None = None) -> rows.Tables:
    (source,) = sources.find([str(path)])
    return rows.tables(source, "rules", re.compile(host) if host else None, None)


def _only(path: Path) -> dict[str, Any]:
    """Return the only row of a trace that was not analyzed."""
    found = _tables(path)
    assert [len(found[name]) for name in SCHEMAS] == [1, 0, 0, 0]
    (row,) = found["traces"].to_pylist()
    assert row["complete"] is False and row["driver"] is None and row["stalls"] is None
    return dict(row)


@pytest.mark.parametrize("name", ["virtio_net_spinning", "qlge/stock", "xen_netback/unfixed", "aoe/stock"])
def test_rows_have_what_the_analysis_has(name: str) -> None:
    path = DATA / name / "trace.rxt"
    found, runs = _tables(path), read_set(path)
    (trace,) = runs
    (row,) = found["traces"].to_pylist()
    (run,) = runs.runs.to_dict("records")
    assert row["place"] == str(path) and row["size"] == path.stat().st_size
    assert (row["status"], row["reason"], row["complete"]) == (WHOLE, None, True)
    same = "driver kernel duration_ns packets refills dropped stalls brief stalled_ns longest_ns open failed"
    assert {each: row[each] for each in same.split()} == {each: run[each] for each in same.split()}
    assert row["build"] == run["variant"] and row["spin_ns"] == run["spin_ns"]
    assert row["day"] == row["began_utc"].date() and row["events"] > 0
    for table in ("stalls", "silences", "queues"):
        rows_of_trace = getattr(trace, table)
        assert len(found[table]) == len(rows_of_trace)
        for column in set(rows_of_trace) - {"start_utc", "witness_gap_ns", "witness_difference_ns"}:
            expected = pa.array(rows_of_trace[column], SCHEMAS[table].field(column).type, from_pandas=True)
            assert found[table][column].to_pylist() == expected.to_pylist(), column
        assert set(found[table]["driver"].to_pylist()) <= {row["driver"]}
        assert found[table].schema.equals(SCHEMAS[table], check_metadata=True)


def test_each_driver_of_a_trace_has_its_row_and_its_build(make_trace: Trace) -> None:
    other = {"name": "qlge", "srcversion": "5DEDE4F001DB5C2253E3133", "regime": "again"}
    found = _tables(make_trace(worker_stall(2, 6), meta=META | {"drivers": [*META["drivers"], other]}))
    first, second = found["traces"].to_pylist()
    assert (first["driver"], first["build"], first["stalls"]) == ("virtio_net", "stock", 1)
    assert (first["hooks_missing"], second["hooks_missing"]) == (["b"], [])
    assert (second["driver"], second["build"]) == ("qlge", "5DEDE4F001DB5C2253E3133")
    assert (second["queues"], second["stalls"], second["longest_ns"]) == (0, 0, 0)
    assert first["events"] == second["events"] == 6
    assert set(found["stalls"]["build"].to_pylist()) == {"stock"}


def test_times_are_those_of_the_wall_clock(make_trace: Trace) -> None:
    began = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    clock = META["clock"] | {"realtime_ns": int(began.timestamp()) * 10**9}
    found = _tables(make_trace(worker_stall(2, 6), meta=META | {"clock": clock}))
    assert found["traces"]["began_utc"].to_pylist() == [began]
    assert found["stalls"]["day"].to_pylist() == [date(2026, 1, 31)]
    assert found["stalls"]["start_utc"].to_pylist()[0].date() == date(2026, 2, 1)


@pytest.mark.parametrize(
    ("said", "pattern", "host"),
    [
        ("rx1", None, "rx1"),
        ("rx1", "(?P<host>made)", "rx1"),
        (None, None, None),
        (None, "(?P<host>[^/]+).rxt", "made"),
        (None, "(?P<host>other)/", None),
    ],
)
def test_host_is_the_trace_s_own_or_in_its_path(
    said: str | None, pattern: str | None, host: str | None, make_trace: Trace
) -> None:
    meta = META | ({"host": said} if said else {})
    assert _tables(make_trace([window(1)], meta=meta), pattern)["traces"]["host"].to_pylist() == [host]


def test_a_damaged_trace_has_the_rows_before_its_damage(make_trace: Trace) -> None:
    path = make_trace(worker_stall(2, 4), [window(8)])
    path.write_bytes(path.read_bytes()[:-1500])
    found = _tables(path)
    (row,) = found["traces"].to_pylist()
    assert (row["status"], row["complete"], row["stalls"]) == (DAMAGED, False, 1)
    assert row["reason"].startswith(f"{path} is cut off after") and len(found["stalls"]) == 1


def test_a_newer_format_is_said(make_trace: Trace) -> None:
    path = make_trace([window(1)])
    stream = pa.ipc.open_stream(path)
    text = json.dumps(META | {"format": 99}).encode()
    schema = stream.schema.with_metadata({META_KEY: text, CHECK_KEY: checksum(text, [])})
    with pa.ipc.new_stream(path, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([], schema))
    row = _only(path)
    assert row["status"] == NEWER and "has format 99" in row["reason"]


def test_what_is_no_trace_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.rxt").write_text("no trace")
    row = _only(tmp_path / "a.rxt")
    assert row["status"] == UNREADABLE and "is not a trace" in row["reason"]


def test_a_driver_that_is_not_known_is_said(make_trace: Trace) -> None:
    row = _only(make_trace([window(1)], meta=META | {"drivers": [{"name": "future"}]}))
    assert row["status"] == UNREADABLE and "future" in row["reason"]


def test_what_has_gone_since_it_was_found_is_said(tmp_path: Path) -> None:
    found = rows.tables(Source(str(tmp_path / "gone.rxt"), 1, None, None), "rules", None, None)
    (row,) = found["traces"].to_pylist()
    assert row["status"] == UNFETCHED and "No such file" in row["reason"]


def test_a_mistake_of_the_analysis_is_a_row(make_trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    path = make_trace([window(1)])
    monkeypatch.setattr(rows, "analyze", mistaken)
    row = _only(path)
    assert row["status"] == FAILED and row["reason"].endswith("ZeroDivisionError: division by zero")


def test_rows_of_several_traces_are_joined(make_trace: Trace) -> None:
    parts = [_tables(make_trace(worker_stall(2, 4), name=name)) for name in ("a.rxt", "b.rxt")]
    found = rows.joined(parts)
    assert [len(found[name]) for name in SCHEMAS] == [2, 2, 0, 4]
    assert found["stalls"]["place"].num_chunks == 1
