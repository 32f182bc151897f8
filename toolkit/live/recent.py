# SPDX-License-Identifier: GPL-2.0-only
"""The last time of a trace, kept in memory, which may become a file."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.capture import kernel
from toolkit.trace.schema import Events
from toolkit.trace.writer import TraceWriter

Counts = Mapping[str, Mapping[str, Sequence[int]]]
"""The ledger of a batch as it is drained: kind of event -> attempted, delivered, dropped; by CPU."""

KEPT_NS = 60 * 10**9
MOST_EVENTS = 1 << 20
"""The most events that are kept (64 MiB), even if they are of less than that time."""


class Recent:
    """A sink of batches, as TraceWriter is, that keeps the last minute and forgets what is older.

    :param meta: the JSON object of the whole trace.
    :param heard: is called with the events of each batch.
    :param kept_ns: how much is kept [ns], a minute by default; at most `most_events`.
    :param clocks: returns the clocks [ns] of the traced machine at a moment of its monotonic one.
    """

    def __init__(
        self,
        meta: dict[str, Any],
        heard: Callable[[Events], None] = lambda _: None,
        kept_ns: int = KEPT_NS,
        most_events: int = MOST_EVENTS,
        clocks: Callable[[int], dict[str, int]] | None = None,
    ) -> None:
        self._clocks = clocks or clocks_at
        self._kept_ns, self._most_events = kept_ns, most_events
        self._meta = meta
        self._heard = heard
        self._lock = threading.Lock()
        self._batches: deque[tuple[Events, Mapping[str, Any]]] = deque()
        self._before: Mapping[str, Any] = {"now_ns": meta["clock"]["monotonic_ns"], "ledger": {}}
        self._devices = meta["devices"]

    def write(self, events: Events, note: Mapping[str, Any]) -> None:
        """Keep one batch."""
        self._heard(events)
        with self._lock:
            self._batches.append((events.copy(), note))
            count = sum(len(kept) for kept, _ in self._batches)
            oldest = note["now_ns"] - self._kept_ns
            while len(self._batches) > 1 and (
                count > self._most_events or self._batches[0][1]["now_ns"] < oldest
            ):
                gone, self._before = self._batches.popleft()
                self._devices = self._before.get("devices", self._devices)
                count -= len(gone)

    def close(self, note: Mapping[str, Any]) -> None:
        """Do nothing: no file is open."""

    def save(self, path: Path) -> None:
        """Write the batches that are kept as a trace, which begins with the first of them.

        :raises UserError: if the file exists or cannot be written.
        """
        with self._lock:
            batches, before, devices = list(self._batches), self._before, self._devices
        meta = self._meta | {"clock": self._clocks(before["now_ns"]), "devices": devices}
        last: dict[str, Any] = {"now_ns": before["now_ns"], "ledger": {}}
        with TraceWriter(path, meta) as writer:
            for events, note in batches:
                last = {**note, "ledger": since(note["ledger"], before["ledger"])}
                writer.write(events, last)
            writer.close(
                {"now_ns": last["now_ns"], "ledger": settled(last["ledger"]), "end": {"reason": "saved"}}
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def clocks_at(now_ns: int) -> dict[str, int]:
    """Return the clocks [ns] at a moment of the monotonic one, as they are set now.

    A machine may have been suspended, or its wall clock set, since the trace began.
    """
    clocks = kernel.clocks()
    later = now_ns - clocks["monotonic_ns"]
    return {name: value + later for name, value in clocks.items()}


def since(ledger: Counts, before: Counts) -> Counts:
    """Return the counts of a ledger minus those of an earlier one.

    What was attempted before and not yet delivered counts here, where it is delivered.
    """
    then = settled(before)
    return {kind: _less(counts, then.get(kind)) for kind, counts in ledger.items()}


def settled(ledger: Counts) -> Counts:
    """Return a ledger in which no event is on its way."""
    return {
        kind: {
            **counts,
            "attempted": [sum(each) for each in zip(counts["delivered"], counts["dropped"], strict=True)],
        }
        for kind, counts in ledger.items()
    }


def _less(
    counts: Mapping[str, Sequence[int]], before: Mapping[str, Sequence[int]] | None
) -> dict[str, list[int]]:
    if before is None:
        return {name: list(each) for name, each in counts.items()}
    return {
        # A ledger that was read has as many CPUs as have counted by then.
        name: [now - then for now, then in zip_longest(each, before[name], fillvalue=0)]
        for name, each in counts.items()
    }
