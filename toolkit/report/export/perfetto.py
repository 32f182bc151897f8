# SPDX-License-Identifier: GPL-2.0-only
"""A trace for the Perfetto UI: what happened to each queue, and in which thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pandas as pd

from toolkit import drivers
from toolkit.event import ALL_QUEUES, NOT_KNOWN, POSTED_KINDS, WINDOW_NS
from toolkit.extras import need
from toolkit.report.causes import sentences
from toolkit.stalls.accounts import Witness

need("perfetto", "perfetto")

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto  # noqa: E402
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder  # noqa: E402

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("trace.pftrace",)
IS_TEXT = False

_SEQUENCE = 1
_CLOCKS = {
    "monotonic_ns": proto.BUILTIN_CLOCK_MONOTONIC,
    "realtime_ns": proto.BUILTIN_CLOCK_REALTIME,
    "boottime_ns": proto.BUILTIN_CLOCK_BOOTTIME,
}
_COUNTED = {"packets": "packets", "polls": "polls", "irqs": "interrupts", "failed": "failed refills"}
MOST_TID = 1 << 22
"""No thread of Linux has a greater number (PID_MAX_LIMIT, include/linux/threads.h)."""
_TOLD = (
    "class",
    "cause",
    "reclaim_ns",
    "refill_ns",
    "waiting_ns",
    "refills",
    "failed",
    "retries",
    "packets",
    "polls",
)


@dataclass(frozen=True)
class Slice:
    """An interval of a track: `start` and `end` [ns], None if it had not ended with the trace; `about`:
    what the UI shows beside it."""

    start: int
    end: int | None
    name: str
    about: Mapping[str, str | int]


def render(trace: Trace, out: BinaryIO) -> None:
    """Write the trace for the Perfetto UI; times are CLOCK_MONOTONIC.

    Slices are stalls, states, and the gaps of a witness; in threads, the refill worker, its refills and
    reclaim. Counters are posted buffers, and what was counted in each 10 ms. Instants are failures and single
    interrupts.
    """
    writer = _Writer(out, trace.meta["clock"])
    events = trace.events
    events = events.assign(start=events["ts"].astype(np.int64) - events["dur"].astype(np.int64))
    _write_scenario(writer, trace)
    for device, queues in trace.queues.groupby("device", sort=False):
        parent = writer.track(f"{device} ({queues['driver'].iloc[0]})")
        for queue in queues.to_dict("records"):
            mine = events[(events["device"] == device) & (events["queue"] == queue["queue"])]
            _write_queue(writer, parent, trace, queue, mine)
        if trace.witness and trace.witness.device == device:
            _write_witness(writer, parent, trace.witness, queues["driver"])
    _write_threads(writer, events)


class _Writer:
    """An open file of packets, and the number of the last track in it."""

    def __init__(self, file: BinaryIO, clock: Mapping[str, int]) -> None:
        self._builder = StreamingTraceProtoBuilder(file)
        self._tracks = 0
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.sequence_flags = proto.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        packet.clock_snapshot.primary_trace_clock = proto.BUILTIN_CLOCK_MONOTONIC
        for name, number in _CLOCKS.items():
            packet.clock_snapshot.clocks.add(clock_id=number, timestamp=clock[name])
        self._builder.write_packet(packet)

    def track(self, name: str, parent: int = 0, *, unit: str = "", tid: int = 0) -> int:
        """Return the number of a new track: a counter if it has a unit, a thread's if it has a tid."""
        self._tracks += 1
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        track = packet.track_descriptor
        track.uuid, track.name = self._tracks, name
        track.child_ordering = proto.TrackDescriptor.EXPLICIT
        track.sibling_order_rank = self._tracks
        if parent:
            track.parent_uuid = parent
        if unit:
            track.counter.unit_name = unit
        if tid:
            # A kernel thread leads a group of its own.
            track.thread.pid, track.thread.tid, track.thread.thread_name = tid, tid, name
        self._builder.write_packet(packet)
        return self._tracks

    def slices(self, name: str, slices: Iterable[Slice], parent: int = 0, *, tid: int = 0) -> None:
        """Write a track of intervals that may lie in one another, but do not cross."""
        edges: list[tuple[tuple[int, int, int], Slice]] = []
        for each in slices:
            length = (each.end if each.end is not None else np.iinfo(np.int64).max) - each.start
            # At one moment: the inner one ends first, the outer one begins first.
            edges.append(((each.start, 1, -length), each))
            if each.end is not None:
                edges.append(((each.end, 0 if length else 2, length), each))
        track = self.track(name, parent, tid=tid) if edges else 0
        for (ts, phase, _), each in sorted(edges, key=lambda edge: edge[0]):
            kind = proto.TrackEvent.TYPE_SLICE_BEGIN if phase == 1 else proto.TrackEvent.TYPE_SLICE_END
            self._event(track, ts, kind, each.name if phase == 1 else "", each.about if phase == 1 else {})

    def instants(self, name: str, moments: Sequence[tuple[int, str]], parent: int) -> None:
        """Write a track of named moments [ns]."""
        track = self.track(name, parent) if moments else 0
        for ts, what in moments:
            self._event(track, ts, proto.TrackEvent.TYPE_INSTANT, what, {})

    def counter(self, name: str, values: Sequence[tuple[int, int]], parent: int, unit: str) -> None:
        """Write a track of a counter: its value from each moment [ns] on."""
        track = self.track(name, parent, unit=unit) if values else 0
        for ts, value in values:
            event = self._packet(track, ts, proto.TrackEvent.TYPE_COUNTER)
            event.track_event.counter_value = value
            self._builder.write_packet(event)

    def _event(self, track: int, ts: int, kind: int, name: str, about: Mapping[str, str | int]) -> None:
        packet = self._packet(track, ts, kind)
        if name:
            packet.track_event.name = name
        for key, value in about.items():
            note = packet.track_event.debug_annotations.add(name=key)
            if isinstance(value, str):
                note.string_value = value
            else:
                note.int_value = value
        self._builder.write_packet(packet)

    def _packet(self, track: int, ts: int, kind: int) -> Any:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        # By its own clock, a witness may have begun before the machine did.
        packet.timestamp, packet.timestamp_clock_id = max(0, int(ts)), proto.BUILTIN_CLOCK_MONOTONIC
        packet.track_event.track_uuid, packet.track_event.type = track, kind
        return packet


def _write_scenario(writer: _Writer, trace: Trace) -> None:
    """Write the phases of the scenario, and the intervals in which events were dropped."""
    if trace.phases is not None:
        phases = zip(trace.phases["start"], trace.phases["end"], trace.phases["name"], strict=True)
        name = f"scenario {trace.phases.attrs['scenario']}".strip()
        writer.slices(name, [Slice(start, end, name, {}) for start, end, name in phases])
    losses = trace.analysis.scan.losses
    writer.slices("dropped events", [Slice(start, end, "events were dropped", {}) for start, end in losses])


def _write_witness(writer: _Writer, parent: int, witness: Witness, of: Iterable[str]) -> None:
    """Write the gaps of a witness as slices; gaps that overlap are one slice."""
    what = drivers.word("refused", of)
    gaps = witness.gaps
    apart = gaps["start"] > gaps["end"].cummax().shift(fill_value=-1)
    joined = gaps.groupby(apart.cumsum()).agg({"start": "min", "end": "max", "refused": "sum"})
    rows = joined.itertuples(index=False)
    slices = [Slice(start, end, f"{refused} {what}", {"refused": refused}) for start, end, refused in rows]
    writer.slices(f"witness: {what}", slices, parent)


def _write_queue(
    writer: _Writer, parent: int, trace: Trace, queue: Mapping[Any, Any], events: pd.DataFrame
) -> None:
    name = queue["name"]
    stalls, states, silences = (
        frame[(frame["device"] == queue["device"]) & (frame["queue"] == queue["queue"])]
        for frame in (trace.stalls, trace.states, trace.silences)
    )
    told = stalls.assign(cause=sentences(stalls))
    writer.slices(f"{name} stalls", _slices(told, "stall, {}"), parent)
    for state, mine in states.groupby("state"):
        writer.slices(f"{name} {state}", _slices(mine, "{}"), parent)
    for state, mine in silences.groupby("state"):
        writer.slices(f"{name} {state}", _slices(mine.assign(open=False), "{}"), parent)
    writer.instants(f"{name} failures", _failures(events), parent)
    writer.counter(f"{name} posted", _posted(events), parent, "buffers")
    for column, what in _COUNTED.items():
        counts = _counts(events, column, trace.meta["clock"]["monotonic_ns"])
        if events[column].any():
            writer.counter(f"{name} {what} in 10 ms", counts, parent, what)
    single = events.loc[events["kind"] == "irq", "ts"]
    writer.instants(f"{name} interrupts", [(ts, "receive interrupt") for ts in single], parent)
    writer.instants(f"{name} driver", _own(events), parent)


def _slices(intervals: pd.DataFrame, name: str) -> Iterator[Slice]:
    """Return stalls or states as slices."""
    told = [column for column in _TOLD if column in intervals]
    for row in intervals.to_dict("records"):
        about = {column: row[column] for column in told}
        end = None if row["open"] else row["end_ns"]
        yield Slice(row["start_ns"], end, name.format(row["state"]), about)


def _failures(events: pd.DataFrame) -> list[tuple[int, str]]:
    """Return the refills and allocations that failed, as far as they were sent one by one."""
    refills = (events["kind"] == "refill") & ~events["flags"].str.contains("complete").astype(bool)
    rows = events[refills | (events["kind"] == "alloc_fail")]
    what = {"refill": "refill failed ({})", "alloc_fail": "order-{1} allocation failed ({0})"}
    columns = (rows[name] for name in ("ts", "kind", "gfp_names", "order"))
    return [(ts, what[kind].format(gfp, order)) for ts, kind, gfp, order in zip(*columns, strict=True)]


def _own(events: pd.DataFrame) -> list[tuple[int, str]]:
    """Return the events of kinds that only their driver has, with their flags."""
    traced = [drivers.load(name) for name in drivers.names() if name in set(events["driver"])]
    rows = events[events["kind"].isin([event.name for driver in traced for event in driver.events])]
    flags = rows["flags"].astype("string")
    words = rows["kind"].astype("string").str.cat((" (" + flags + ")").where(flags != "", ""))
    return list(zip(rows["ts"], words, strict=True))


def _posted(events: pd.DataFrame) -> list[tuple[int, int]]:
    """Return when somebody looked [ns], and the buffers that were posted."""
    looks = events[events["kind"].isin(POSTED_KINDS)]
    before = looks[["start", "posted_before"]].set_axis(["ts", "posted"], axis=1)
    after = looks[["ts", "posted_after"]].set_axis(["ts", "posted"], axis=1)
    both = pd.concat([before, after]).sort_values("ts", kind="stable")
    both = both[both["posted"] != NOT_KNOWN]
    return list(zip(both["ts"], both["posted"], strict=True))


def _counts(events: pd.DataFrame, column: str, began: int) -> list[tuple[int, int]]:
    """Return the begin of each 10 ms [ns], and how many there were; 0 where nothing follows."""
    step = (events["start"] - began) // WINDOW_NS
    sums = events.groupby(step)[column].sum().astype(np.int64)
    ends = sums.index[~np.isin(sums.index + 1, sums.index)] + 1
    values = pd.concat([sums, pd.Series(0, ends)]).sort_index()
    return list(zip(values.index * WINDOW_NS + began, values, strict=True))


def _write_threads(writer: _Writer, events: pd.DataFrame) -> None:
    """Write the refill worker, refills in process context and direct reclaim, as slices of their threads."""
    flags = events["flags"].str.contains
    process = flags("process").astype(bool)
    own = events[(process & ~events["kind"].isin(["alloc_fail", "look"])) | (events["kind"] == "reclaim")]
    for tid, mine in own[own["tid"].between(1, MOST_TID)].groupby("tid"):
        worker = bool(flags("in_worker").reindex(mine.index).any())
        name = "refill worker" if worker else "refilling thread"
        writer.slices(name, _calls(mine), tid=int(str(tid)))


def _calls(events: pd.DataFrame) -> Iterator[Slice]:
    """Return what one thread did, from its events in the order of time."""
    entered: int | None = None
    for row in events.to_dict("records"):
        queue = {} if row["queue"] == ALL_QUEUES else {"queue": row["queue"]}
        if row["kind"] == "worker_in":
            entered = row["ts"]
        elif row["kind"] == "worker_out" and entered is not None:
            yield Slice(entered, row["ts"], "refill worker", queue)
            entered = None
        elif row["kind"] == "reclaim":
            yield Slice(row["start"], row["ts"], "direct reclaim", queue)
        elif row["kind"] == "refill":
            found = "refill" if "complete" in row["flags"] else "refill, failed"
            yield Slice(row["start"], row["ts"], found, queue | {"gfp": row["gfp_names"]})
        elif row["kind"] == "window":
            yield Slice(row["start"], row["ts"], f"refill worker, {row['refills']} runs", queue)
    if entered is not None:
        yield Slice(entered, None, "refill worker", {})
