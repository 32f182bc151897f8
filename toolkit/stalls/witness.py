# SPDX-License-Identifier: GPL-2.0-only
"""The sender's own account of when its frames were refused, and how far it agrees with the stalls."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit import drivers
from toolkit.driver import Own
from toolkit.english import count
from toolkit.errors import UserError
from toolkit.event import ALL_QUEUES, KIND, NOT_KNOWN
from toolkit.stalls import spans
from toolkit.stalls.accounts import Witness
from toolkit.stalls.analysis import LISTED, Analysis, records
from toolkit.stalls.columns import integers
from toolkit.stalls.marks import Queue
from toolkit.stalls.silences import told
from toolkit.stalls.slow import UNPOLLED
from toolkit.trace.reader import Columns, TraceReader

STALL_NOTICED_NS = 100_000_000
"""The part of a stall that a sender may not notice, since frames wait in queues before they are refused: in
recordings up to 41 ms."""

STALL_NOTICED_SHARE = 0.01
"""Or this share of the stall: a frame that is taken now and then ends a gap."""

BACKGROUND_NS = 1_000_000_000
"""A shorter gap without a stall needs no explanation: a busy host or guest makes gaps of up to 0.99 s."""

_NEVER: spans.Spans = np.empty((0, 2), np.int64)
_LASTING = [KIND[name] for name in ("window", "poll", "refill", "late")]


def compare(analysis: Analysis, witness: Witness) -> tuple[Analysis, dict[str, Any]]:
    """Check the witness against the stalls of its device, in both directions.

    The witness agrees if each stall was seen as a gap of about the same length, and no long gap is without a
    stall.

    :return: the analysis and the `witness` object of summary.json. The analysis' stalls have two more
        columns: witness_gap_ns, from the begin of the first gap that overlaps to the end of the last, and
        witness_difference_ns, witness_gap_ns minus the duration. Stalls that follow each other in the same
        gap are measured together.
    :raises UserError: if the trace has no such device.
    """
    _require_device(analysis, witness)
    stalls = _measured(analysis.stalls, witness)
    gaps = spans.union(*_edges(witness.gaps, "start", "end"))
    # A sender that does not run looks at nothing. Inside a gap, the ring was full before and after.
    away = spans.without(_NEVER if witness.away is None else witness.away, gaps)
    both = _watched(analysis, witness)
    watched = spans.without(both, away)
    refused = spans.both(gaps, watched)
    mine = stalls[stalls["device"] == witness.device]
    spent = _spent(analysis, witness, refused)
    long = spent.long
    busy = _was_busy(analysis, witness.device, long)
    within = np.column_stack([long, _refused_within(witness.gaps, long)])
    left = np.concatenate([spent.left, long[~busy]])
    left = np.sort(left[np.argsort(left[:, 0] - left[:, 1], kind="stable")[:LISTED]], axis=0)
    stalled = _check(analysis, witness, mine[~_losing(mine)], refused, watched)
    silences = analysis.silences
    silent = _check(analysis, witness, silences[silences["device"] == witness.device], refused, watched)
    whole, while_busy = spans.length(refused), spans.length(long[busy])
    said = {event.name: event.silent for event in _silent(analysis, witness.device)}
    unexplained = spans.length(spent.left) + spans.length(long[~busy])
    found = {
        "device": witness.device,
        "sent": witness.sent,
        "refused": witness.refused,
        "clock_error_ns": witness.error_ns,
        "gaps": _gaps(witness.gaps.to_numpy(np.int64)),
        "agrees": bool(busy.all()) and not len(stalled.unseen),
        "mostly_explained": unexplained + while_busy <= max(whole // 2, BACKGROUND_NS),
        "away_ns": None if witness.away is None else spans.length(spans.both(away, both)),
        "refused_ns": whole,
        **spent.parts,
        "while_busy_ns": while_busy,
        "unexplained_ns": unexplained,
        "stalls_compared": len(stalled.missing),
        "largest_difference_ns": int(stalled.missing.max(initial=0)),
        "allowed_ns": int(stalled.bound.max(initial=STALL_NOTICED_NS)),
        "silences_compared": len(silent.missing),
        "unexplained": _gaps(np.column_stack([left, _refused_within(witness.gaps, left)])),
        "gaps_without_stall": _gaps(within[~busy]),
        "gaps_while_busy": _gaps(within[busy]),
        "stalls_without_gap": stalled.unseen,
        "silences_without_gap": silent.unseen,
    }
    return replace(analysis, stalls=stalls), found | {"sentence": _sentence(found, analysis.scan.began, said)}


class _Spent(NamedTuple):
    """Where the refused time went: `parts`, its length [ns] by reason, as in summary.json; of what has none,
    the `long` parts, which call for an explanation, and what is `left` of the others."""

    parts: dict[str, Any]
    long: spans.Spans
    left: spans.Spans


def _spent(analysis: Analysis, witness: Witness, refused: spans.Spans) -> _Spent:
    """Split the refused time by its reasons, each of what those before it left."""
    stalled, outside = _split(refused, analysis.stalls, witness)
    by_state, elsewhere = _split_by_state(analysis, witness, outside)
    by_event, elsewhere = _split_by_event(analysis, witness, elsewhere)
    stopped, elsewhere = _split(elsewhere, analysis.no_ticks, witness)
    # Gaps that only follow each other are no long one: something went through in between.
    whole = np.column_stack(_edges(witness.gaps, "start", "end"))
    long = _long(spans.both(elsewhere, spans.union(*_long(whole).T)))
    short = spans.without(elsewhere, long)
    taking, idle = _polling(analysis, witness) if len(short) else (short, short)
    unserved = spans.without(short, taking)
    left = spans.without(unserved, idle)
    served, quiet = (
        spans.length(one) - spans.length(other) for one, other in pairwise((short, unserved, left))
    )
    parts = {
        "in_stalls_ns": stalled,
        "in_silences_ns": by_state,
        "in_events_ns": by_event,
        "no_ticks_ns": stopped,
        "served_ns": served,
        "idle_ns": quiet,
    }
    return _Spent(parts, long, left)


class _Checked(NamedTuple):
    """Stalls or silences that a sender has to notice: how much of each [ns] is `missing` in its gaps, what
    the `bound` is, and as JSON objects those `unseen`, of which more is missing."""

    missing: NDArray[np.int64]
    bound: NDArray[np.int64]
    unseen: list[dict[str, Any]]


def _check(
    analysis: Analysis, witness: Witness, rows: pd.DataFrame, refused: spans.Spans, watched: spans.Spans
) -> _Checked:
    """Look for stalls or silences of the device in the gaps.

    :param rows: a table of them, with at least state, queue, start_ns, end_ns and duration_ns.
    """
    rows = rows[_sent_to(analysis, rows["queue"].to_numpy(), witness.device)]
    starts, ends = _edges(rows, "start_ns", "end_ns")
    lengths = spans.covered(watched, starts, ends)
    bound = _bound(analysis, witness, lengths)
    noticed = lengths > bound
    seen = spans.covered(refused, starts, ends)
    missing = lengths - seen
    unseen = rows.assign(seen_ns=seen)[noticed & (missing > bound)]
    return _Checked(
        missing[noticed],
        bound[noticed],
        records(unseen[["state", "queue", "start_ns", "duration_ns", "seen_ns"]]),
    )


def _split_by_state(
    analysis: Analysis, witness: Witness, refused: spans.Spans
) -> tuple[dict[str, int], spans.Spans]:
    """Split the refused time outside of stalls by the silences of the device.

    :return: how much of it [ns] is in each state; and what is in none.
    """
    silences = analysis.silences
    states = silences["state"].to_numpy()
    found = {}
    for state in told(analysis.meta):
        found[state], refused = _split(refused, silences[states == state], witness)
    return found, refused


def _split_by_event(
    analysis: Analysis, witness: Witness, refused: spans.Spans
) -> tuple[dict[str, int], spans.Spans]:
    """Split the refused time that is left by events of the device's driver that say why nothing was heard.

    :return: how much of it [ns] is in each kind of event; and what is in none.
    """
    found = {}
    queues = analysis.queues.index[analysis.queues["device"] == witness.device]
    for event in _silent(analysis, witness.device):
        times = _times(analysis, queues, [event.number]) if len(refused) else ()
        start, end, _ = np.concatenate([np.empty((3, 0), np.int64), *times], axis=1)
        found[event.name], refused = _split_at(refused, start, end, witness)
    return found, refused


def _silent(analysis: Analysis, device: str) -> list[Own]:
    """Return the kinds of events by which the drivers of a device say why nothing was heard."""
    names = analysis.queues["driver"][analysis.queues["device"] == device].unique()
    return [event for name in names for event in drivers.load(name).events if event.silent]


def _split(refused: spans.Spans, rows: pd.DataFrame, witness: Witness) -> tuple[int, spans.Spans]:
    """Split refused time by whether it lies in one of the intervals of a table that are of the device.

    :param rows: columns device, start_ns, end_ns [ns].
    :return: how much of it [ns] does; and what does not.
    """
    starts, ends = _edges(rows[(rows["device"] == witness.device).to_numpy()], "start_ns", "end_ns")
    return _split_at(refused, starts, ends, witness)


def _split_at(
    refused: spans.Spans, starts: NDArray[np.int64], ends: NDArray[np.int64], witness: Witness
) -> tuple[int, spans.Spans]:
    """Split refused time by whether it lies in one of some intervals, as exactly as the clocks allow."""
    rest = spans.without(refused, spans.union(starts - witness.error_ns, ends + witness.error_ns))
    return spans.length(refused) - spans.length(rest), rest


def _require_device(analysis: Analysis, witness: Witness) -> None:
    devices = [*analysis.meta.get("devices", []), *analysis.scan.devices]
    names = list(dict.fromkeys([*(device["name"] for device in devices), *analysis.queues["device"]]))
    if witness.device not in names:
        raise UserError(
            f"{witness.path or 'the witness'} is of {witness.device}, but {analysis.path} has no "
            f"{witness.device}; it has: {', '.join(names) or 'no device'}."
        )


def _long(parts: spans.Spans) -> spans.Spans:
    """Return the parts that are long enough to call for an explanation."""
    return parts[parts[:, 1] - parts[:, 0] >= BACKGROUND_NS]


def _edges(frame: pd.DataFrame, start: str, end: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two columns of moments [ns]."""
    return frame[start].to_numpy(np.int64), frame[end].to_numpy(np.int64)


def _measured(stalls: pd.DataFrame, witness: Witness) -> pd.DataFrame:
    """Return the stalls with witness_gap_ns and witness_difference_ns."""
    begin, end = _edges(witness.gaps, "start", "end")
    start, until = _edges(stalls, "start_ns", "end_ns")
    latest = np.maximum.accumulate(end)
    first = np.searchsorted(latest, start - witness.error_ns)
    last = np.searchsorted(begin, until + witness.error_ns, "right") - 1
    seen = np.flatnonzero((first <= last) & (stalls["device"] == witness.device).to_numpy())
    length, difference = np.zeros((2, len(stalls)), np.int64)
    if len(seen):
        opened, closed = begin[first[seen]], latest[last[seen]]
        # Sorted by start: a stall shares a gap if its first gap began before the last gap so far ended.
        apart = np.append(True, opened[1:] >= np.maximum.accumulate(closed)[:-1])
        group, edge = np.cumsum(apart) - 1, np.flatnonzero(apart)
        longest, span = (
            (np.maximum.reduceat(to, edge) - np.minimum.reduceat(of, edge))[group]
            for of, to in ((opened, closed), (start[seen], until[seen]))
        )
        length[seen], difference[seen] = longest, longest - span
    known = np.isin(np.arange(len(stalls)), seen)
    return stalls.assign(
        witness_gap_ns=integers(length, known), witness_difference_ns=integers(difference, known)
    )


def _watched(analysis: Analysis, witness: Witness) -> spans.Spans:
    """Return from when to when [ns] there are both a trace and a witness."""
    begin, end = analysis.scan.began, analysis.scan.ended
    begin = begin if witness.started is None else max(begin, witness.started)
    end = end if witness.ended is None else min(end, witness.ended)
    return np.array([[begin, max(begin, end)]])


def _bound(analysis: Analysis, witness: Witness, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how much of each stall [ns] the sender may not have seen.

    Frames go on into the buffers that are still posted: at the sender's rate, a ring's worth of them.
    """
    queues = analysis.queues
    size = queues["size"][queues["device"] == witness.device].max()
    posted = 0 if witness.rate is None or pd.isna(size) else int(int(size) / witness.rate * 1e9)
    unnoticed = np.maximum(STALL_NOTICED_NS, (lengths * STALL_NOTICED_SHARE).astype(np.int64))
    return np.asarray(unnoticed + posted + 2 * witness.error_ns, np.int64)


def _receiving(analysis: Analysis, device: str) -> NDArray[np.intp]:
    """Return the queues of a device that took packets (rows of analysis.queues)."""
    queues = analysis.queues
    return np.flatnonzero((queues["device"].to_numpy() == device) & (queues["packets"].to_numpy() > 0))


def _sent_to(analysis: Analysis, queue: NDArray[np.int64], device: str) -> NDArray[np.bool_]:
    """Tell the stalls of queues that frames were sent to: those that took packets, or all if none did."""
    took = analysis.queues["queue"].to_numpy()[_receiving(analysis, device)]
    return np.isin(queue, took) | (not len(took))


def _losing(stalls: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell the stalls in which the NIC takes frames all the same and loses them: no sender is refused."""
    known = (drivers.load(name) for name in stalls["driver"].unique())
    states = [(driver.name, state.name) for driver in known for state in driver.states if state.losing]
    whose = pd.MultiIndex.from_frame(stalls[["driver", "state"]])
    return np.asarray(whose.isin(states), np.bool_) if states else np.zeros(len(stalls), np.bool_)


def _refused_within(gaps: pd.DataFrame, parts: spans.Spans) -> NDArray[np.int64]:
    """Return how many frames were refused in the gaps that each part is of."""
    start, end = _edges(gaps, "start", "end")
    count = np.append(0, np.cumsum(gaps["refused"].to_numpy(np.int64)))
    first = np.searchsorted(np.maximum.accumulate(end), parts[:, 0], "right")
    last = np.searchsorted(start, parts[:, 1])
    return np.asarray(count[last] - count[first], np.int64)


def _was_busy(analysis: Analysis, device: str, gaps: spans.Spans) -> NDArray[np.bool_]:
    """Tell which gaps lie inside one long poll, or between two polls, of a queue that had buffers posted.

    In such a gap a refill inside the poll took long and succeeded, or the CPU was at something else.

    :return: for each gap, whether no poll of such a queue ended in it.
    """
    found = np.zeros(len(gaps), np.bool_)
    if not len(gaps):
        return found
    scan = analysis.scan
    # The sender notices both edges of a gap late: ignore STALL_NOTICED_NS at each end.
    inside = gaps + np.array([STALL_NOTICED_NS, -STALL_NOTICED_NS])
    steps = np.maximum(gaps[:, 0] - scan.began >> scan.shift, 0)
    for queue, ends in _poll_ends(analysis, analysis.queues.index[_receiving(analysis, device)]).items():
        places = np.searchsorted(ends, inside)
        silent = places[:, 0] == places[:, 1]
        for number, step in enumerate(steps):
            looks = scan.posted[queue, : step + 1]
            looks = looks[looks != NOT_KNOWN]
            found[number] |= silent[number] and len(looks) > 0 and looks[-1] > 0
    return found


def _poll_ends(analysis: Analysis, queues: Iterable[int]) -> dict[int, NDArray[np.int64]]:
    """Return by queue (index in scan.queues) when its polls, or their windows, ended [ns], sorted."""
    found = {queue: [np.empty(0, np.int64)] for queue in queues}
    for columns, _ in TraceReader(analysis.path):
        for queue, ends in found.items():
            at = _belonging(analysis.scan.queues[queue], columns)
            ends.append(columns["ts"][at[columns["polls"][at] > 0]].astype(np.int64))
    return {queue: np.sort(np.concatenate(ends)) for queue, ends in found.items()}


def _polling(analysis: Analysis, witness: Witness) -> tuple[spans.Spans, spans.Spans]:
    """Return when each receiving queue of the device took packets without a pause, and when NAPI, if it polls
    them, was scheduled for none.

    A pause is as long as a silence is at least. A window with packets has no longer one inside; and without
    an event that says how long a poll was waited for, NAPI was scheduled at most so long before a poll.
    """
    pause, error = analysis.thresholds.silence_over_ns, witness.error_ns
    always = np.array([[analysis.scan.began, analysis.scan.ended]])
    receiving = _receiving(analysis, witness.device)
    taking = always if len(receiving) else always[:0]
    by_napi = all(drivers.load(name).by_napi for name in analysis.queues["driver"].iloc[receiving])
    idle = taking if by_napi and UNPOLLED in told(analysis.meta) else always[:0]
    for start, end, packets in _times(analysis, analysis.queues.index[receiving], _LASTING):
        closed = spans.union(start[packets > 0] - error, end[packets > 0] + error + pause)
        taking = spans.both(taking, closed - np.array([0, pause]))
        idle = spans.without(idle, spans.union(start - error - pause, end + error))
    return taking, idle


def _times(analysis: Analysis, queues: Iterable[int], kinds: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Yield for each queue (index in scan.queues) start and end [ns] of its events of some kinds, and how
    many packets were taken in each: an array of three rows."""
    found = {queue: [np.empty((3, 0), np.int64)] for queue in queues}
    for columns, _ in TraceReader(analysis.path).chunks():
        for queue, parts in found.items():
            at = _belonging(analysis.scan.queues[queue], columns)
            at = at[np.isin(columns["kind"][at], kinds)]
            ts, took, packets = (columns[name][at].astype(np.int64) for name in ("ts", "dur", "packets"))
            parts.append(np.stack([ts - took, ts, packets]))
    yield from (np.concatenate(parts, axis=1) for parts in found.values())


def _belonging(queue: Queue, columns: Columns) -> NDArray[np.intp]:
    """Return the rows of the events that are about a queue."""
    number = columns["queue"]
    mine = (number == queue.queue) | (number == ALL_QUEUES)
    mine &= columns["ifindex"] == queue.ifindex
    mine &= columns["driver"] == queue.driver
    return np.flatnonzero(mine)


def _sentence(found: Mapping[str, Any], began: int, said: Mapping[str, str]) -> str:
    """Say what the comparison found.

    :param began: when the trace did [ns].
    :param said: kind of a driver's own event -> why nothing was heard while it lasted.
    """
    unseen, unexplained = len(found["stalls_without_gap"]), len(found["gaps_without_stall"])
    if not found["agrees"]:
        parts = []
        if unseen:
            parts.append(
                f"{count(unseen, 'stall')} {'was' if unseen == 1 else 'were'} not seen in full: up to "
                f"{found['largest_difference_ns'] / 1e9:.3f} s of one is in no gap"
            )
        if unexplained:
            longest = max(found["gaps_without_stall"], key=lambda gap: int(gap["duration_ns"]))
            parts.append(
                f"{count(unexplained, 'gap')} of {BACKGROUND_NS / 1e9:g} s or more "
                f"{'is' if unexplained == 1 else 'are'} in no stall, "
                f"{'' if unexplained == 1 else 'the longest '}"
                f"{longest['duration_ns'] / 1e9:.3f} s from {(longest['start_ns'] - began) / 1e9:.3f} s on"
            )
        verdict = f"The witness disagrees: {', and '.join(parts)}."
    elif found["stalls_compared"]:
        verdict = (
            f"The witness agrees about the stalls: at most {found['largest_difference_ns'] / 1e6:.1f} ms of "
            f"one were not seen as a gap ({found['allowed_ns'] / 1e6:.0f} ms are allowed)."
        )
    else:
        verdict = "The witness agrees: it saw no gap that calls for a stall."
    if doubtful := len(found["silences_without_gap"]):
        verdict += (
            f" {count(doubtful, 'silence')} outside of stalls {'was' if doubtful == 1 else 'were'} not seen."
        )
    if found["away_ns"]:
        verdict += f" The sender itself did not run for {found['away_ns'] / 1e9:.3f} s, and saw nothing then."
    if not found["refused_ns"]:
        return verdict
    spent = {"in stalls": found["in_stalls_ns"]}
    spent |= {f"in {state}": much for state, much in found["in_silences_ns"].items()}
    spent |= {said[name]: much for name, much in found["in_events_ns"].items()}
    spent["while the clock of the queue's CPU did not tick"] = found["no_ticks_ns"]
    spent["while frames were taken all the time"] = found["served_ns"]
    spent["while NAPI was not scheduled"] = found["idle_ns"]
    spent["while buffers were posted but no poll ended"] = found["while_busy_ns"]
    listed = [f"{much / 1e9:.3f} s {where}" for where, much in spent.items() if much or where == "in stalls"]
    listed.append(f"{found['unexplained_ns'] / 1e9:.3f} s unexplained")
    return f"{verdict} It saw gaps of {found['refused_ns'] / 1e9:.3f} s in all: {', '.join(listed)}."


def _gaps(gaps: NDArray[np.int64]) -> list[dict[str, int]]:
    """Return gaps, of which start, end [ns] and refused frames are given, as JSON objects."""
    return [
        {"start_ns": start, "duration_ns": end - start, "refused": refused}
        for start, end, refused in gaps.tolist()
    ]
