# SPDX-License-Identifier: GPL-2.0-only
"""What a running trace says of its queues, held against what its analysis says afterwards."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import toolkit
from tests.conftest import BEGAN, DATA, META, S, event, failed, refilled, window, worker_stall
from toolkit.drivers import load
from toolkit.event import ALL_QUEUES
from toolkit.live.queues import Change, Live
from toolkit.stalls import slow
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import EVENT, Events

RECORDED = [
    "generic/trace.rxt",
    "virtio_net_pressure/trace.rxt",
    "virtio_net_spinning/trace.rxt",
    "virtio_net_variants/stock/001/trace.rxt",
    "virtio_net_variants/paced/001/trace.rxt",
    "aoe/stock/trace.rxt",
    "aoe/patched/trace.rxt",
    "qlge/stock/trace.rxt",
    "qlge/unfixed/trace.rxt",
    "xen_netback/paused/trace.rxt",
    "xen_netback/unfilled/trace.rxt",
    "xen_netback/unfixed/trace.rxt",
]


def _live() -> Live:
    return Live([load("virtio_net")], META["devices"])


def _together(*events: Events) -> Events:
    return np.concatenate([np.empty(0, EVENT), *events])


def _batches(reader: TraceReader) -> Iterator[Events]:
    for columns, _ in reader:
        events = np.zeros(len(columns["ts"]), EVENT)
        for name, column in columns.items():
            events[name] = column
        yield events


def test_where_events_are_missing_no_state_goes_on() -> None:
    live = _live()
    live.take(_together(*worker_stall(1, 9)[:-2]))
    live.changes.clear()
    live.lose_sight(BEGAN + 3 * S)
    queue = live.queues[3, 0]
    assert queue.states == {} and queue.stalled_ns(BEGAN + 8 * S) == pytest.approx(2 * S)
    # Nobody knows whether it receives again.
    assert not live.changes
    live.take(_together(*worker_stall(1, 9)[-2:]))
    assert live.stalls == 1 and not live.changes


@pytest.mark.parametrize("path", RECORDED)
def test_live_view_agrees_with_the_analysis_of_a_recording(path: str) -> None:
    reader, trace = TraceReader(DATA / path), toolkit.read(DATA / path)
    live = Live([load(each["name"]) for each in reader.meta["drivers"]], reader.meta["devices"])
    for events in _batches(reader):
        live.take(events)
    names = {device["ifindex"]: device["name"] for device in trace.analysis.scan.devices}
    names |= {device["ifindex"]: device["name"] for device in reader.meta["devices"]}
    places = [(names[ifindex], number) for ifindex, number in live.queues]
    assert places == list(trace.queues[["device", "queue"]].itertuples(index=False, name=None))
    found = list(live.queues.values())
    # While it lasts nobody knows that a stall will be brief.
    classes = trace.queues[["stalls", "brief", "reconfigurations"]].sum(axis="columns")
    assert [queue.stalls for queue in found] == classes.tolist()
    for name in ("failed", "packets"):
        assert [getattr(queue, name) for queue in found] == trace.queues[name].tolist()
    stalled = [queue.stalled_ns(trace.analysis.scan.ended) for queue in found]
    assert stalled == trace.queues["stalled_ns"].tolist()
    assert live.stalls == len(trace.stalls)
    for key, queue in live.queues.items():
        of_queue = (trace.stalls["device"] == names[key[0]]) & (trace.stalls["queue"] == key[1])
        for state in live.states_of(queue.driver):
            # Recordings without the clock cannot tell of a queue that is unscheduled.
            if (column := f"{state.replace('-', '_')}_ns") in trace.stalls:
                in_state = trace.stalls.loc[of_queue, column]
                assert queue.state_ns(state, trace.analysis.scan.ended) == in_state.sum()
        of_device = trace.silences["device"] == names[key[0]]
        silences = trace.silences[of_device & (trace.silences["queue"] == key[1])]
        mine = {name: silences.loc[silences["state"] == name, "duration_ns"] for name in slow.STATES}
        assert queue.silences.tolist() == [len(lengths) for lengths in mine.values()]
        assert queue.silent.tolist() == [lengths.sum() for lengths in mine.values()]
    assert live.silences == len(trace.silences)


@pytest.mark.parametrize("path", RECORDED)
def test_live_view_agrees_with_the_analysis_in_whatever_batches_events_come(path: str) -> None:
    """A window is sent when it is full or over, and so after records of later moments."""
    reader, trace = TraceReader(DATA / path), toolkit.read(DATA / path)
    live = Live([load(each["name"]) for each in reader.meta["drivers"]], reader.meta["devices"])
    events = _together(*_batches(reader))
    for first in range(0, len(events), 20):
        live.take(events[first : first + 20])
    stalled = [queue.stalled_ns(trace.analysis.scan.ended) for queue in live.queues.values()]
    assert sorted(stalled) == sorted(trace.queues["stalled_ns"])
    assert live.stalls == len(trace.stalls)


def test_recordings_have_silences_to_agree_on() -> None:
    found = {path: len(toolkit.read(DATA / path).silences) for path in RECORDED}
    assert sum(count > 0 for count in found.values()) >= 3


def test_a_silence_is_told_when_it_ends_without_what_is_in_a_stall() -> None:
    live = _live()
    live.take(_together(failed(2), window(4, dur=3 * S, polls=1), refilled(5)))
    assert list(live.changes) == [
        Change(BEGAN + 2 * S, 3, 0, "starved"),
        Change(BEGAN + 5 * S, 3, 0, "starved", 3 * S),
        Change(BEGAN + 2 * S, 3, 0, slow.SLOW_POLL, S),
    ]
    assert (live.stalls, live.silences) == (1, 1)


def test_a_slow_refill_and_the_poll_around_it_are_told_once_also_in_two_batches() -> None:
    live = _live()
    live.take(window(4, dur=2 * S, polls=0, packets=0, refills=1))
    live.take(window(4.5, dur=3 * S, polls=1))
    queue = live.queues[3, 0]
    assert queue.silences.tolist() == [1, 2, 0]
    assert queue.silent.tolist() == [2 * S, S, 0]


def test_a_driver_without_napi_has_no_silence() -> None:
    live = Live([load("xen_netback")], META["devices"])
    live.take(window(4, dur=2 * S, polls=1))
    assert live.silences == 0
    assert not live.has_napi("xen_netback")


def test_a_stall_grows_until_it_ends() -> None:
    live = _live()
    *begin, end = worker_stall(2, 6)
    live.take(_together(*begin))
    queue = live.queues[3, 0]
    assert (queue.stalls, list(queue.states)) == (1, ["napi-off"])
    assert queue.stalled_ns(BEGAN + 5 * S) == 3 * S
    live.take(end)
    assert (queue.stalls, queue.states, queue.posted) == (1, {}, 256)
    assert queue.stalled_ns(BEGAN + 9 * S) == 4 * S


def test_changes_say_when_a_stall_began_and_ended() -> None:
    live = _live()
    live.take(_together(*worker_stall(2, 6)))
    assert list(live.changes) == [
        Change(BEGAN + 2 * S, 3, 0, "starved"),
        Change(BEGAN + 6 * S, 3, 0, "starved", 4 * S),
    ]


def test_states_that_follow_each_other_are_one_stall() -> None:
    live = _live()
    live.take(_together(*worker_stall(2, 3), *worker_stall(3, 4), failed(8)))
    queue = live.queues[3, 0]
    # As in the analysis of a file.
    assert queue.stalls == 2
    assert queue.stalled_ns(BEGAN + 9 * S) == 3 * S
    assert live.queues[3, 1].stalls == 0


def test_an_event_of_the_device_is_one_of_all_its_queues() -> None:
    live = _live()
    live.take(event("napi_off", 2, queue=ALL_QUEUES, flags="process|in_worker"))
    assert [queue.stalls for queue in live.queues.values()] == [1, 1]


def test_queue_of_no_known_device_is_added() -> None:
    live = _live()
    live.take(window(1, ifindex=9, queue=4))
    assert live.queues[9, 4].packets == 40


def test_what_is_said_again_and_again_is_a_turn_once() -> None:
    live = _live()
    often = [failed(2 + each / 1000) for each in range(500)]
    live.take(_together(*often, window(3), *(window(3 + each) for each in range(3)), failed(7)))
    queue = live.queues[3, 0]
    assert (queue.stalls, queue.failed) == (2, 501)
    assert queue.stalled_ns(BEGAN + 8 * S) == 1_992_000_000


def test_what_comes_late_ends_no_stall_that_began_after_it() -> None:
    live = _live()
    live.take(failed(2))
    # The window was sent with the refill, and begins with the poll in which the stall began.
    late = window(2.004, dur=4_000_000, posted_after=33)
    live.take(_together(late, refilled(6), event("look", 7, posted_after=256)))
    assert list(live.changes) == [
        Change(BEGAN + 2 * S, 3, 0, "starved"),
        Change(BEGAN + 6 * S, 3, 0, "starved", 4 * S),
    ]


def test_an_end_of_the_moment_of_a_begin_hides_it_in_no_batch() -> None:
    live = _live()
    live.take(_together(failed(2), window(2.004, dur=4_000_000, posted_after=33)))
    assert list(live.changes) == [Change(BEGAN + 2 * S, 3, 0, "starved")]
    live.take(_together(failed(5), window(5.004, dur=4_000_000, posted_after=33)))
    assert len(live.changes) == 1
    live.take(refilled(6))
    assert live.queues[3, 0].stalled_ns(BEGAN + 9 * S) == 4 * S


def test_thousands_of_failures_are_not_looked_at_one_by_one() -> None:
    live = _live()
    events = _together(*(failed(2 + each / 1000) for each in range(500)))
    columns = {name: events[name] for name in EVENT.names or ()}
    live._count(load("virtio_net"), columns)
    assert len(live._moves(0, load("virtio_net"), columns)) == 1


def test_masked_arrays_are_not_imported() -> None:
    """numpy.unique imports them, and the first batch of a trace would take several times as long."""
    code = (
        "import sys, numpy as np\n"
        "from toolkit.drivers import load\n"
        "from toolkit.live.queues import Live\n"
        "from toolkit.trace.schema import EVENT\n"
        "Live([load('virtio_net')], []).take(np.zeros(9, EVENT))\n"
        "sys.exit('numpy.ma' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
