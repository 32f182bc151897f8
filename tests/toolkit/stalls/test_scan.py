# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import numpy as np

from tests.conftest import BEGAN, META, MS, S, Trace, event, failed, refilled, window
from toolkit import drivers
from toolkit.event import NOT_KNOWN
from toolkit.stalls.marks import Queue
from toolkit.stalls.scan import BINS, GAP_BINS, SUMS, Scan, gap_edges, scan
from toolkit.trace.reader import TraceReader


def _scan(path: Path) -> Scan:
    return scan(TraceReader(path), [drivers.load("virtio_net")])


def test_queues_of_the_devices_come_first_then_those_of_events(make_trace: Trace) -> None:
    found = _scan(make_trace([window(1, queue=1), window(2, ifindex=9, queue=4)]))
    assert found.queues == [Queue(0, 3, 0), Queue(0, 3, 1), Queue(0, 9, 4)]


def test_sums_over_batches_and_queues(make_trace: Trace) -> None:
    found = _scan(make_trace([window(1), window(2, queue=1)], [window(3)]))
    assert found.sums[:, SUMS.index("packets")].tolist() == [80, 40]
    assert found.sums[:, SUMS.index("polls")].tolist() == [10, 5]


def test_good_refills_in_softirq_are_not_rare(make_trace: Trace) -> None:
    good = event("refill", 3, flags="complete", posted_after=256)
    found = _scan(make_trace([window(1), good, failed(2), refilled(4), event("irq", 5), event("poll", 6)]))
    assert found.rare["ts"].tolist() == [BEGAN + 2 * S, BEGAN + 4 * S]
    assert found.rare["complete"].tolist() == [False, True]


def test_the_timeline_holds_the_fewest_of_each_step(make_trace: Trace) -> None:
    found = _scan(make_trace([window(1), window(1.0001, posted_before=7), event("irq", 9, posted_after=0)]))
    posted = found.posted[0]
    step = 1 << found.shift
    assert posted.size == BINS
    assert posted[round(0.992 * S) // step] == 7
    assert (posted != NOT_KNOWN).sum() == 1


def test_the_step_doubles_until_the_trace_fits(make_trace: Trace) -> None:
    found = _scan(make_trace([window(1, posted_before=3)], [window(90)], end=100))
    assert (90 * S) >> found.shift < BINS <= (90 * S) >> (found.shift - 1)
    assert found.posted[0][(S - 8 * MS) >> found.shift] == 3


def _gaps(found: Scan, queue: int = 0) -> dict[float, int]:
    """:return: lower edge [ms] -> count."""
    at = np.flatnonzero(found.gaps[queue])
    return {round(gap_edges()[each] / MS, 3): int(found.gaps[queue][each]) for each in at}


def test_gaps_between_polls_over_batches_and_queues(make_trace: Trace) -> None:
    polls = [event("poll", each, polls=1, dur=MS) for each in (1, 1.5, 4)]
    other = event("poll", 1.2, polls=1, queue=1)
    found = _scan(make_trace([polls[0], other], [polls[1]], [polls[2]]))
    assert sum(_gaps(found).values()) == 3
    assert found.gaps[0, np.searchsorted(gap_edges(), 2.499 * S, "right") - 1] == 1


def test_the_gap_to_the_end_of_the_trace_counts(make_trace: Trace) -> None:
    found = _scan(make_trace([event("poll", 1, polls=1)], [event("poll", 1.2, polls=1, queue=1)]))
    assert found.longest_gap.tolist() == [9 * S, round(8.8 * S)]
    assert found.gaps.sum(axis=1).tolist() == [1, 1]
    assert not _scan(make_trace([failed(1)])).gaps.any()


def test_gaps_inside_a_window_are_equal(make_trace: Trace) -> None:
    found = _scan(make_trace([window(1, polls=5, dur=8 * MS), window(1.5, polls=1, dur=0)]))
    gaps = _gaps(found)
    assert sum(gaps.values()) == 5 + 1
    assert 4 in gaps.values()
    assert found.longest_gap[0] == 8.5 * S


def test_gap_edges_are_an_eighth_of_an_octave() -> None:
    edges = gap_edges()
    assert len(edges) == GAP_BINS + 1
    assert edges[[0, 8, 16]].tolist() == [1, 2, 4]
    assert edges[9] == 2.25


def test_devices_that_came_later(make_trace: Trace) -> None:
    found = _scan(make_trace([window(1)], meta=META | {"devices": []}))
    assert found.queues == [Queue(0, 3, 0)]
    assert (found.began, found.ended, found.reason) == (BEGAN, BEGAN + 10 * S, "duration")
