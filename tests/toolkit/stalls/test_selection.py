# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import BEGAN, META, S, event, failed, window, worker_stall, write_trace
from toolkit.errors import UserError
from toolkit.stalls.analysis import Analysis, Shown, analyze, records
from toolkit.stalls.selection import Selection, select

TWO = META | {
    "clock": {"monotonic_ns": BEGAN, "realtime_ns": 1_000_000 * S, "boottime_ns": 0},
    "devices": [*META["devices"], META["devices"][0] | {"ifindex": 4, "name": "eth2"}],
}


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """eth1 stalls from 2 to 4 s and from 6 to 6.5 s on queue 0, eth2 from 5 s to the end on queue 1."""
    folder: Path = tmp_path_factory.mktemp("trace")
    first = [window(1), *worker_stall(2, 4)]
    second = [failed(5, ifindex=4, queue=1), *worker_stall(6, 6.5), window(7, packets=7), event("irq", 8)]
    return analyze(write_trace(folder, first, second, meta=TWO))


def _stalls(analysis: Analysis) -> list[tuple[str, int, float]]:
    """Return device, queue, and when each stall began [s]."""
    rows = analysis.stalls[["device", "queue", "start_ns"]].itertuples(index=False)
    return [(device, queue, (start - BEGAN) / S) for device, queue, start in rows]


FIRST, OTHER, LAST = ("eth1", 0, 2.0), ("eth2", 1, 5.0), ("eth1", 0, 6.0)


@pytest.mark.parametrize(
    ("selection", "stalls"),
    [
        (Selection(), [FIRST, OTHER, LAST]),
        (Selection(devices=["eth1"]), [FIRST, LAST]),
        (Selection(queues=[1]), [OTHER]),
        (Selection(devices=["eth1"], queues=[1]), []),
        (Selection(until=6), [FIRST, OTHER]),
        (Selection(until=6.1), [FIRST, OTHER, LAST]),
        (Selection(since=4), [FIRST, OTHER, LAST]),
        (Selection(since=4.1, until=5.5), [OTHER]),
        (Selection(since=7), [OTHER]),
        (Selection(shortest=2), [FIRST, OTHER]),
        (Selection(devices=["eth1"], since=5, shortest=1), []),
        (Selection(since=datetime(1970, 1, 12, 13, 46, 47, tzinfo=UTC)), [OTHER]),
    ],
)
def test_selection_keeps_the_stalls_that_match(
    analysis: Analysis, selection: Selection, stalls: list[tuple[str, int, float]]
) -> None:
    assert _stalls(analysis) == [FIRST, OTHER, LAST]
    found = select(analysis, selection)
    assert _stalls(found) == stalls
    assert (found.shown.left_out if found.shown else 0) == 3 - len(stalls)
    # States are inside the stalls that are there, and every such stall has some.
    places = {(row["device"], row["queue"]) for row in found.intervals.to_dict("records")}
    assert places == {stall[:2] for stall in stalls}
    assert found.queues["stalls"].sum() == len(stalls)
    assert found.queues["stalled_ns"].sum() == found.stalls["duration_ns"].sum()


def test_what_is_shown_is_said(analysis: Analysis) -> None:
    assert select(analysis, Selection()) is analysis
    found = select(analysis, Selection(["eth1"], [0], 3, None, 1.5))
    assert found.shown == Shown(["eth1"], [0], BEGAN + 3 * S, BEGAN + 10 * S, 1_500_000_000, 2)
    assert found.span == (BEGAN + 3 * S, BEGAN + 10 * S)
    assert analysis.span == (BEGAN, BEGAN + 10 * S)


def test_queues_count_what_is_in_the_time(analysis: Analysis) -> None:
    whole = select(analysis, Selection(queues=[0])).queues.iloc[0]
    assert (whole["packets"], whole["alloc_failures"], whole["posted_min"]) == (47, 2, 0)
    assert not pd.isna(whole["gap_max_ns"])
    queues = select(analysis, Selection(since=6.2)).queues
    assert queues["device"].tolist() == ["eth1", "eth1", "eth2", "eth2"]
    part = queues.iloc[0]
    assert (part["packets"], part["polls"], part["refills"], part["failed"]) == (7, 5, 1, 0)
    assert (part["alloc_failures"], part["workers"], part["posted_min"]) == (0, 0, 0)
    assert pd.isna(part["gap_p50_ns"]) and pd.isna(part["gap_max_ns"])
    assert records(select(analysis, Selection(until=0.5)).queues)[0]["packets"] == 0


def test_queues_of_the_whole_time_are_those_of_the_analysis(analysis: Analysis) -> None:
    found = select(analysis, Selection(since=0, until=10, shortest=0.001))
    pd.testing.assert_frame_equal(found.queues, analysis.queues)


@pytest.mark.parametrize(
    ("selection", "sentence"),
    [
        (Selection(devices=["eth7"]), "has no device 'eth7'; it has: eth1, eth2."),
        (Selection(devices=["eth1"], queues=[5]), "has no queue 5 on eth1; it has: 0, 1."),
        (Selection(since=4, until=4), "has nothing from 4.000 s to 4.000 s: it is 10.000 s long, from "),
        (Selection(since=10), "from 1970-01-12T13:46:40.000 to 1970-01-12T13:46:50.000 UTC."),
        (Selection(until=-1), "has nothing from 0.000 s to -1.000 s"),
        (Selection(since=datetime(1, 1, 1, tzinfo=UTC), until=0), "has nothing from -"),
    ],
)
def test_what_the_trace_does_not_have_is_a_mistake(
    analysis: Analysis, selection: Selection, sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        select(analysis, selection)
    assert sentence in str(error.value)


def test_trace_without_a_stall(make_trace: Callable[..., Path]) -> None:
    found = select(analyze(make_trace([window(1)])), Selection(since=0.5, shortest=1))
    assert found.stalls.empty and found.intervals.empty and len(found.queues) == 2
    assert found.shown and found.shown.left_out == 0


def test_links_and_requests_in_the_time(make_trace: Callable[..., Path]) -> None:
    traced = [META["drivers"][0] | {"name": name} for name in ("xen_netback", "aoe")]
    events: list[Any] = [
        event("carrier_off", 2, queue=65535),
        event("carrier_on", 3, queue=65535),
        event("request", 4, dur=S // 10, driver=1),
        event("request", 8, dur=S // 5, driver=1),
    ]
    whole = analyze(make_trace(events, meta=META | {"drivers": traced}))
    early, late = (select(whole, each) for each in (Selection(until=5), Selection(since=5)))
    assert [len(each.tables["flaps"]) for each in (early, late)] == [1, 0]
    assert [each.tables["requests"]["max_ns"].tolist() for each in (whole, early, late)] == [
        [S // 5],
        [S // 10],
        [S // 5],
    ]


def test_what_only_a_missing_hook_tells_is_unknown_in_a_part_too(make_trace: Callable[..., Path]) -> None:
    hook: dict[str, Any] = {
        "program": "rxt_alloc_failed",
        "at": [],
        "attached": None,
        "missing": "allocation failures",
    }
    meta = META | {"drivers": [META["drivers"][0] | {"hooks": [hook]}]}
    part = select(analyze(make_trace(worker_stall(2, 4), meta=meta)), Selection(since=1, until=5))
    assert part.queues["alloc_failures"].isna().all()
    assert part.queues["failed"].tolist() == [1, 0]
