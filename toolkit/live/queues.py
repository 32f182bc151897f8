# SPDX-License-Identifier: GPL-2.0-only
"""The queues of a trace that is still running: how often they stalled, and for how long so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.driver import Driver
from toolkit.event import ALL_QUEUES, KIND, NOBODY, NOT_KNOWN
from toolkit.stalls import rules, slow, spans
from toolkit.stalls.marks import Marks, QueueTable, joined, marks_of, queue_table, turns
from toolkit.stalls.marks import Queue as Whose
from toolkit.trace.reader import Columns
from toolkit.trace.schema import EVENT, Events

_KEPT = 1000
"""So many stalls and silences of a queue are kept, to tell what a later silence is outside of."""


class Change(NamedTuple):
    """A stall began, in a state; or it ended; or a silence outside of stalls did.

    Attributes: `at` [ns], when; `ifindex` and `queue`, whose; `state` that began the stall or ended last, or
    that of the silence (slow.STATES); `lasted` [ns], None where a stall begins; `tid`, the thread that had
    the CPU while a poll was waited for, None if there is none or it is not known.
    """

    at: int
    ifindex: int
    queue: int
    state: str
    lasted: int | None = None
    tid: int | None = None


@dataclass
class Queue:
    """What one queue did since the trace began.

    Attributes: `driver`, its name; `stalls` that began; `failed` refills; `packets`; `posted` [buffers],
    None before somebody looked, and the `most` that were; `states` that it is in now, and since when
    [ns]; `began` [ns], when its last stall did; `begun`, how often each state began; `silences` outside of
    stalls, and `silent` [ns], how long they were in all: by state of slow.STATES.
    """

    driver: str
    stalls: int = 0
    failed: int = 0
    packets: int = 0
    posted: int | None = None
    most: int = 0
    states: dict[str, int] = field(default_factory=dict)
    began: int = 0
    begun: dict[str, int] = field(default_factory=dict)
    silences: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(slow.STATES), np.int64))
    silent: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(slow.STATES), np.int64))
    _ended_ns: int = 0
    _in_state_ns: dict[str, int] = field(default_factory=dict)
    _past: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def stalled_ns(self, now: int) -> int:
        """Return the time in stalls [ns], until `now` (CLOCK_MONOTONIC) if one has not ended."""
        return self._ended_ns + (max(now - self.began, 0) if self.states else 0)

    def state_ns(self, state: str, now: int) -> int:
        """Return the time in a state [ns], until `now` (CLOCK_MONOTONIC) if it has not ended."""
        since = max(now - self.states[state], 0) if state in self.states else 0
        return self._in_state_ns.get(state, 0) + since

    def begin(self, state: str, at: int) -> None:
        """Begin a state at a moment [ns]; and a stall, if the queue was in no state."""
        if not self.states:
            self.stalls += 1
            self.began = at
        if state not in self.states:
            self.states[state] = at
            self.begun[state] = self.begun.get(state, 0) + 1

    def end(self, state: str, at: int) -> None:
        """End a state, if it began before a moment [ns]; and the stall, if it was the last state."""
        if self.states.get(state, at) < at:
            began = self.states.pop(state)
            self._in_state_ns[state] = self._in_state_ns.get(state, 0) + at - began
            if not self.states:
                self._ended_ns += at - self.began
                self._past.append((self.began, at))

    def be_silent(self, state: int, times: spans.Spans) -> spans.Spans:
        """Count slow refills, slow polls or waits, as far as they are outside of stalls and other silences.

        :param state: place in slow.STATES.
        :return: what was counted; each part is SLOW_NS long at least.
        """
        still = [(self.began, np.iinfo(np.int64).max)] if self.states else []
        taken = np.array([*self._past, *still], np.int64).reshape(-1, 2)
        parts = spans.without(spans.union(*times.T), spans.union(*taken.T))
        lengths = parts[:, 1] - parts[:, 0]
        parts, lengths = parts[lengths >= slow.SLOW_NS], lengths[lengths >= slow.SLOW_NS]
        self.silences[state] += len(parts)
        self.silent[state] += lengths.sum()
        self._past.extend((begin, end) for begin, end in parts.tolist())
        return parts


class Live:
    """The queues of the devices, by interface index and number; others are added when an event names them.

    For the display and for metrics: events are sorted only among those that are drained together. What a
    trace shows exactly, `toolkit analyze` says. `changes` are the last stalls that began or ended, for
    somebody who takes them out. A silence is known when it ends.
    """

    def __init__(self, drivers: Sequence[Driver], devices: Sequence[Mapping[str, Any]]) -> None:
        self._drivers = drivers
        self.queues: dict[tuple[int, int], Queue] = {
            (device["ifindex"], queue["queue"]): Queue(device["driver"])
            for device in devices
            for queue in device["queues"]
        }
        self.changes: deque[Change] = deque(maxlen=1000)

    @property
    def stalls(self) -> int:
        """Return how many stalls began, of all queues."""
        return sum(queue.stalls for queue in list(self.queues.values()))

    @property
    def silences(self) -> int:
        """Return how many silences there were outside of stalls, of all queues."""
        return sum(int(queue.silences.sum()) for queue in list(self.queues.values()))

    def states_of(self, driver: str) -> list[str]:
        """Return the states of stalls that a driver's queues can be in."""
        return [state.name for known in self._drivers if known.name == driver for state in known.states]

    def has_napi(self, driver: str) -> bool:
        """Tell whether a driver has polls of NAPI, and so silences outside of stalls."""
        return any(known.name == driver and known.by_napi for known in self._drivers)

    def take(self, events: Events) -> None:
        """Count some more events."""
        for number, driver in enumerate(self._drivers):
            own = events[events["driver"] == number]
            if not len(own):
                continue
            columns = {name: own[name] for name in EVENT.names or ()}
            self._count(driver, columns)
            keys = list(self.queues)
            for at, begins, state, queue in self._moves(number, driver, columns):
                self._move(keys[queue], at, begins, state)
            if driver.by_napi:
                self._listen(columns)

    def lose_sight(self, at: int) -> None:
        """End all states at a moment [ns] after which events are missing: they may have gone on, or not."""
        for queue in list(self.queues.values()):
            for state in list(queue.states):
                queue.end(state, at)

    def _listen(self, columns: Columns) -> None:
        """Count the silences that events tell of; the stalls that they begin or end are known already."""
        at = slow.rows(columns)
        at = at[columns["queue"][at] != ALL_QUEUES]
        if not len(at):
            return
        states, ends = slow.states(columns, at), columns["ts"][at].astype(np.int64)
        late = columns["kind"][at] == KIND["late"]
        tids = np.where(late, columns["tid"][at], NOBODY)
        times = np.column_stack([ends - columns["dur"][at].astype(np.int64), ends])
        codes = columns["ifindex"][at].astype(np.int64) << 16 | columns["queue"][at]
        order = np.lexsort((states, codes))
        changes = np.flatnonzero(np.diff(codes[order] * len(slow.STATES) + states[order])) + 1
        for rows in np.split(order, changes):
            ifindex, number = int(codes[rows[0]]) >> 16, int(codes[rows[0]]) & 0xFFFF
            state = int(states[rows[0]])
            whose = dict(zip(ends[rows].tolist(), tids[rows].tolist(), strict=True))
            for begin, end in self.queues[ifindex, number].be_silent(state, times[rows]).tolist():
                tid = whose.get(end, NOBODY)
                known = None if tid == NOBODY else tid
                self.changes.append(Change(end, ifindex, number, slow.STATES[state], end - begin, known))

    def _count(self, driver: Driver, columns: Columns) -> None:
        """Add up packets and failed refills, and keep what was last seen posted."""
        codes, place = np.unique(
            columns["ifindex"].astype(np.int64) << 16 | columns["queue"], return_inverse=True
        )
        packets, failed = (np.bincount(place, columns[name], len(codes)) for name in ("packets", "failed"))
        last = np.full(len(codes), NOT_KNOWN)
        looked = np.flatnonzero(columns["posted_after"] != NOT_KNOWN)
        last[place[looked]] = columns["posted_after"][looked]
        for code, more, worse, posted in zip(codes, packets, failed, last, strict=True):
            if code & 0xFFFF == ALL_QUEUES:
                continue
            queue = self.queues.setdefault((int(code) >> 16, int(code) & 0xFFFF), Queue(driver.name))
            queue.packets += int(more)
            queue.failed += int(worse)
            if posted != NOT_KNOWN:
                queue.posted, queue.most = int(posted), max(queue.most, int(posted))

    def _move(self, key: tuple[int, int], at: int, begins: bool, state: str) -> None:
        """Begin or end a state of a queue; note the change if a stall begins or ends with it."""
        queue = self.queues[key]
        deaf = bool(queue.states)
        (queue.begin if begins else queue.end)(state, at)
        if deaf != bool(queue.states):
            self.changes.append(Change(at, *key, state, at - queue.began if deaf else None))

    def _moves(self, number: int, driver: Driver, columns: Columns) -> list[tuple[int, bool, str, int]]:
        """Return when a state of a queue may end or begin [ns]; whether it begins; which; and whose it is.

        As in the analysis of a file (stalls.states), an end comes before a begin of the same moment; but
        where a state ends and begins at once, it just goes on. A state that goes on since an earlier batch
        began then: an event of that time or before, which may come late, does not end it.
        """
        found: list[tuple[int, bool, str, int]] = []
        on = {state for queue in self.queues.values() for state in queue.states}
        kinds = np.flatnonzero(np.bincount(columns["kind"])).tolist()
        begun = [(state, rules.rows(rules.of_kinds(state.begin, kinds), columns)) for state in driver.states]
        begun = [(state, at) for state, at in begun if len(at) or state.name in on]
        if not begun:
            return found
        table = self._table(number, columns)
        moments = rules.moments(columns)
        for state, at in begun:
            begins = joined([self._since(state.name), marks_of(at, columns, moments, table)])
            ends = marks_of(rules.rows(state.end, columns), columns, moments, table)
            (queue, moment), begin = turns(begins, ends)
            same = queue[1:] == queue[:-1]
            # An end that is the first of its queue ends nothing.
            ended = ~begin
            ended[:1] = False
            ended[1:] &= same
            goes_on = np.zeros(len(queue) + 1, np.bool_)
            goes_on[1:-1] = same & (moment[1:] == moment[:-1]) & begin[1:] & ended[:-1]
            kept = ~(goes_on[:-1] | goes_on[1:])
            names = [state.name] * int(kept.sum())
            found += zip(
                moment[kept].tolist(), begin[kept].tolist(), names, queue[kept].tolist(), strict=True
            )
        return sorted(found)

    def _since(self, state: str) -> Marks:
        """Return since when each queue is in a state, of those that are."""
        since = [
            (place, queue.states[state])
            for place, queue in enumerate(self.queues.values())
            if state in queue.states
        ]
        places, moments = np.array(since, np.int64).reshape(-1, 2).T
        return Marks(places.astype(np.intp), moments)

    def _table(self, number: int, columns: Columns) -> QueueTable:
        """Return the table of all queues, as queues of a driver; each has its place among `queues`.

        :param columns: of events that may be about a whole device.
        """
        whole = sorted(set(columns["ifindex"][columns["queue"] == ALL_QUEUES].tolist()))
        keys = [*self.queues, *((ifindex, ALL_QUEUES) for ifindex in whole)]
        return queue_table([Whose(number, *key) for key in keys])
