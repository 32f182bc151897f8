# SPDX-License-Identifier: GPL-2.0-only
"""What is written, read back with Perfetto's own protobufs."""

import functools
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

import toolkit
from tests.conftest import BEGAN, DATA, META, MS, S, Trace, event, failed, refilled, window, worker_stall
from toolkit.event import ALL_QUEUES, NOT_KNOWN, POSTED_KINDS
from toolkit.report.export import perfetto

RECORDED = [
    "virtio_net_pressure/trace.rxt",
    "virtio_net_variants/paced/001/trace.rxt",
    "qlge/stock/trace.rxt",
    "qlge/unfixed/trace.rxt",
    "xen_netback/paused/trace.rxt",
    "xen_netback/unfixed/trace.rxt",
    "aoe/stock/trace.rxt",
]


class Found(NamedTuple):
    """By name of its track and tid: slices (start, end or None, name, depth), instants, counters; and all."""

    slices: dict[str, list[tuple[int, int | None, str, int]]]
    instants: dict[str, list[tuple[int, str]]]
    counters: dict[str, list[tuple[int, int]]]
    tracks: dict[str, Any]
    packets: list[Any]


@functools.cache
def _recorded(path: str) -> Found:
    """Return the Perfetto trace of a recording; no test changes it."""
    return _read(DATA / path)


def _read(path: Path) -> Found:
    """:return: the Perfetto trace of a trace, as its UI understands it."""
    file = io.BytesIO()
    perfetto.render(toolkit.read(path), file)
    packets = list(proto.Trace.FromString(file.getvalue()).packet)
    described = [packet.track_descriptor for packet in packets if packet.HasField("track_descriptor")]
    tracks = {each.uuid: each for each in described}
    names = {each.uuid: f"{each.name} {each.thread.tid or ''}".strip() for each in described}
    found = Found(
        defaultdict(list),
        defaultdict(list),
        defaultdict(list),
        {names[uuid]: track for uuid, track in tracks.items()},
        packets,
    )
    # The UI sorts by time; what has the same time stays in the order of the file.
    events = sorted((p for p in packets if p.HasField("track_event")), key=lambda p: int(p.timestamp))
    still: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for packet in events:
        track, inner = names[packet.track_event.track_uuid], packet.track_event
        if inner.type == proto.TrackEvent.TYPE_SLICE_BEGIN:
            still[track].append((packet.timestamp, inner.name))
        elif inner.type == proto.TrackEvent.TYPE_SLICE_END:
            start, name = still[track].pop()
            found.slices[track].append((start, packet.timestamp, name, len(still[track])))
        elif inner.type == proto.TrackEvent.TYPE_INSTANT:
            found.instants[track].append((packet.timestamp, inner.name))
        else:
            found.counters[track].append((packet.timestamp, inner.counter_value))
    for track, left in still.items():
        found.slices[track] += [(start, None, name, depth) for depth, (start, name) in enumerate(left)]
    return found


@pytest.mark.parametrize("path", RECORDED)
def test_slices_are_the_stalls_of_the_table(path: str) -> None:
    found, trace = _recorded(path), toolkit.read(DATA / path)
    for name, stalls in trace.stalls.groupby("name"):
        expected = [
            (row["start_ns"], None if row["open"] else row["end_ns"], f"stall, {row['state']}", 0)
            for row in stalls.to_dict("records")
        ]
        assert found.slices[f"{name} stalls"] == expected
    assert len([name for name in found.slices if name.endswith(" stalls")]) == trace.stalls["name"].nunique()
    for (queue, state), states in trace.states.groupby(["name", "state"]):
        assert [each[0] for each in found.slices[f"{queue} {state}"]] == states["start_ns"].tolist()


@pytest.mark.parametrize("path", RECORDED)
def test_counters_add_up_to_the_queues(path: str) -> None:
    found, trace = _recorded(path), toolkit.read(DATA / path)
    events = trace.events[trace.events["kind"].isin(POSTED_KINDS)]
    for queue in trace.queues.to_dict("records"):
        for column, what in (("packets", "packets"), ("irqs", "interrupts"), ("failed", "failed refills")):
            values = found.counters.get(f"{queue['name']} {what} in 10 ms", [])
            assert sum(value for _, value in values) == queue[column]
        posted = found.counters.get(f"{queue['name']} posted", [])
        assert bool(posted) == pd.notna(queue["posted_min"])
        if posted:
            assert min(value for _, value in posted) == queue["posted_min"]
            assert found.tracks[f"{queue['name']} posted"].counter.unit_name == "buffers"
            last = events[(events["queue"] == queue["queue"]) & (events["posted_after"] != NOT_KNOWN)].iloc[
                -1
            ]
            assert posted[-1] == (last["ts"], last["posted_after"])


@pytest.mark.parametrize("path", RECORDED)
def test_no_slices_of_a_thread_cross(path: str) -> None:
    found, events = _recorded(path), toolkit.read(DATA / path).events
    reclaims = events[events["kind"] == "reclaim"].astype({"ts": "int64", "dur": "int64"})
    expected = sorted(zip(reclaims["ts"] - reclaims["dur"], reclaims["ts"], strict=True))
    every = [each for slices in found.slices.values() for each in slices]
    assert sorted(each[:2] for each in every if each[2] == "direct reclaim") == expected


def test_posted_counter_ends_with_the_slots_of_the_last_stall() -> None:
    """On an unfixed netback the guest posts every slot, and no packet follows: only `blocked` tells."""
    ((_, posted),) = _recorded("xen_netback/unfixed/trace.rxt").counters["rx-0 posted"][-1:]
    assert posted == 256


def test_a_thread_has_its_worker_refill_and_reclaim_inside_one_another(make_trace: Trace) -> None:
    inside = {"tid": 7, "flags": "process|in_worker|complete"}
    events = [
        event("worker_in", 2, **inside, queue=ALL_QUEUES),
        event("reclaim", 4, dur=S, **inside),
        refilled(4.5, dur=2 * S, **inside),
        event("worker_out", 5, **inside, queue=ALL_QUEUES),
        event("worker_in", 8, **inside, queue=ALL_QUEUES),
    ]
    found = _read(make_trace(events))
    at = [BEGAN + second * S for second in range(10)]
    assert sorted(found.slices["refill worker 7"], key=lambda each: (each[0], each[3])) == [
        (at[2], at[5], "refill worker", 0),
        (at[2] + S // 2, at[4] + S // 2, "refill", 1),
        (at[3], at[4], "direct reclaim", 2),
        (at[8], None, "refill worker", 0),
    ]
    assert found.tracks["refill worker 7"].thread.tid == 7


@pytest.mark.parametrize(("tid", "shown"), [(perfetto.MOST_TID, True), (perfetto.MOST_TID + 1, False)])
def test_a_number_that_no_thread_has_is_no_thread(tid: int, shown: bool, make_trace: Trace) -> None:
    found = _read(make_trace([refilled(2, dur=S, tid=tid), refilled(4, dur=S, tid=tid)]))
    assert any(track.thread.tid == tid for track in found.tracks.values()) == shown


def test_failures_and_single_interrupts_are_instants(make_trace: Trace) -> None:
    events = [event("alloc_fail", 2, gfp=0xA20, order=1), failed(2.5), event("irq", 3, irqs=1)]
    found = _read(make_trace(events))
    assert found.instants["rx-0 failures"] == [
        (BEGAN + 2 * S, "order-1 allocation failed (GFP_ATOMIC)"),
        (BEGAN + 5 * S // 2, "refill failed (GFP_ATOMIC)"),
    ]
    assert found.instants["rx-0 interrupts"] == [(BEGAN + 3 * S, "receive interrupt")]


def test_events_of_a_drivers_own_are_instants(make_trace: Trace) -> None:
    meta = META | {"drivers": [META["drivers"][0] | {"name": "aoe"}]}
    events = [
        event("timer", 1, flags="held"),
        event("timer", 2),
        event("retransmit", 3, dur=S),
    ]
    assert _read(make_trace(events, meta=meta)).instants["rx-0 driver"] == [
        (BEGAN + S, "timer (held)"),
        (BEGAN + 2 * S, "timer"),
        (BEGAN + 3 * S, "retransmit"),
    ]


def test_a_counter_falls_to_0_where_nothing_follows(make_trace: Trace) -> None:
    found = _read(make_trace([window(1.008), window(1.018), window(2.008)]))
    assert [((ts - BEGAN) // MS, value) for ts, value in found.counters["rx-0 packets in 10 ms"]] == [
        (1000, 40),
        (1010, 40),
        (1020, 0),
        (2000, 40),
        (2010, 0),
    ]


def test_tracks_are_the_devices_and_empty_ones_are_left_out(make_trace: Trace) -> None:
    found = _read(make_trace(worker_stall(2, 6)))
    assert found.tracks["rx-0 stalls"].parent_uuid == found.tracks["eth1 (virtio_net)"].uuid
    assert not any(name.startswith("rx-1") for name in found.tracks)


def test_times_can_be_laid_beside_other_traces(make_trace: Trace) -> None:
    clock = {"monotonic_ns": BEGAN, "realtime_ns": 5, "boottime_ns": 6}
    found = _read(make_trace([window(1)], meta=META | {"clock": clock}))
    snapshot = found.packets[0].clock_snapshot
    assert {each.clock_id: each.timestamp for each in snapshot.clocks} == {3: BEGAN, 1: 5, 6: 6}
    assert {p.timestamp_clock_id for p in found.packets if p.HasField("track_event")} == {3}


def test_gaps_of_a_witness_are_a_track_of_its_device(make_trace: Trace, tmp_path: Path) -> None:
    gaps = [(2, 3, 5), (4, 2, 1), (8, 1, 2)]
    witness = {
        "device": "eth1",
        "gaps": [
            {"start_ns": start * S, "duration_ns": length * S, "refused": refused}
            for start, length, refused in gaps
        ],
        "clock": {"offset_ns": BEGAN, "error_ns": 0},
    }
    (tmp_path / "witness.json").write_text(json.dumps(witness))
    found = _read(make_trace([window(1), *worker_stall(2, 6)]))
    assert found.slices["witness: refused frames"] == [
        (BEGAN + 2 * S, BEGAN + 6 * S, "6 refused frames", 0),
        (BEGAN + 8 * S, BEGAN + 9 * S, "2 refused frames", 0),
    ]
    parent = found.tracks["witness: refused frames"].parent_uuid
    assert parent == found.tracks["eth1 (virtio_net)"].uuid


def test_a_phase_from_before_the_boot_begins_with_it(make_trace: Trace, tmp_path: Path) -> None:
    phases = [{"name": "prepare", "start_ns": -S, "end_ns": BEGAN}]
    (tmp_path / "phases.json").write_text(json.dumps({"scenario": "knob", "phases": phases}))
    assert _read(make_trace([window(1)])).slices["scenario knob"] == [(0, BEGAN, "prepare", 0)]
