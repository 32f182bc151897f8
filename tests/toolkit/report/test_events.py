# SPDX-License-Identifier: GPL-2.0-only
import pytest

import toolkit
from tests.conftest import Trace, event, failed, window
from toolkit.event import ALL_QUEUES
from toolkit.report import events


def test_every_event_with_names(make_trace: Trace) -> None:
    trace = toolkit.read(
        make_trace([window(1)], [failed(2, flags="process|in_worker"), window(3, ifindex=99)])
    )
    empty, tables = events.tables(trace)
    rows = [row for table in tables for row in table.to_pylist()]
    assert list(rows[0]) == empty.schema.names
    assert [row["kind"] for row in rows] == ["window", "refill", "window"]
    assert [row["process"] for row in rows] == [row["in_worker"] for row in rows] == [False, True, False]
    assert not any(row["complete"] for row in rows)
    assert "flags" not in rows[0]
    assert [row["device"] for row in rows] == ["eth1", "eth1", None]
    assert {row["driver"] for row in rows} == {"virtio_net"}
    assert rows[1]["gfp_names"] == "GFP_ATOMIC"
    assert [row["ts"] for row in rows] == [1001 * 10**9, 1002 * 10**9, 1003 * 10**9]


def test_numbers_that_are_not_known_are_null(make_trace: Trace) -> None:
    unknown = [event("worker_in", 1, queue=ALL_QUEUES), failed(2, dur=3, posted_before=7, gfp=0xFFFFFFFF)]
    _, tables = events.tables(toolkit.read(make_trace(unknown)))
    columns = ("queue", "posted_before", "posted_after", "order")
    found = [tuple(row[name] for name in columns) for table in tables for row in table.to_pylist()]
    assert found == [(None, None, None, 0), (0, 7, 0, None)]


@pytest.mark.parametrize("cut", [0, 1500])
def test_damage_is_known_after_the_events_without_an_analysis(
    cut: int, make_trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_trace([window(1)], [window(2)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    trace = toolkit.read(path)
    monkeypatch.setattr(toolkit.traces, "analyze", None)
    _, tables = events.tables(trace)
    assert sum(len(table) for table in tables) == 2 - bool(cut)
    assert bool(trace.damage) == bool(cut)
