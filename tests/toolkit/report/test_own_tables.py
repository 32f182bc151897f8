# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import numpy as np

from tests.conftest import MS, Trace, event, note, window
from tests.toolkit.stalls.test_tables import AOE
from toolkit.event import ALL_QUEUES
from toolkit.report.own_tables import own_tables
from toolkit.stalls.analysis import analyze
from toolkit.trace.writer import TraceWriter


def test_with_full_detail_all_are_counted(make_trace: Trace) -> None:
    full = AOE | {"options": {"detail": "full"}}
    (line,) = own_tables(analyze(make_trace([event("request", 1, dur=MS)], meta=full)))
    assert line.startswith("eth1 target-0: 1 request, half of them in 1.0 ms")


def test_where_events_were_dropped_counts_are_lower_bounds(tmp_path: Path) -> None:
    events = np.concatenate([event("request", 1, dur=20 * MS), window(2)])
    with TraceWriter(tmp_path / "a.rxt", AOE) as writer:
        writer.write(events, note(9, 3, events))
        writer.close(note(10, 3, events, end={"reason": "duration"}))
    (line,) = own_tables(analyze(tmp_path / "a.rxt"))
    assert "at least 1 request of 10 ms and more" in line
    assert "at least 0 frames sent again" in line


def test_events_of_a_whole_device_are_no_queues(make_trace: Trace) -> None:
    assert own_tables(analyze(make_trace([event("request", 1, queue=ALL_QUEUES, dur=MS)], meta=AOE))) == []
