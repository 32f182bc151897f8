# SPDX-License-Identifier: GPL-2.0-only
"""The last time of a trace, kept in memory, which may become a file."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.trace.schema import Events
from toolkit.trace.writer import TraceWriter

KEPT_NS = 60 * 10**9
MOST_EVENTS = 1 << 20
"""The most events that are kept (64 MiB), even if they are of less than that time."""


class Recent:
    """A sink of batches, as TraceWriter is, that keeps the last minute and forgets what is older.

    :param meta: the JSON object of the whole trace.
    :param heard: is called with the events of each batch.
    :param kept_ns: how much is kept [ns], a minute by default; at most `most_events`.
    """

    def __init__(
        self,
        meta: dict[str, Any],
        heard: Callable[[Events], None] = lambda _: None,
        kept_ns: int = KEPT_NS,
        most_events: int = MOST_EVENTS,
    ) -> None:
        self._kept_ns, self._most_events = kept_ns, most_events
        self._meta = meta
        self._heard = heard
        self._lock = threading.Lock()
        self._batches: deque[tuple[Events, Mapping[str, Any]]] = deque()
        self._before: Mapping[str, Any] = {"now_ns": meta["clock"]["monotonic_ns"], "ledger": {}}

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
                count -= len(gone)

    def close(self, note: Mapping[str, Any]) -> None:
        """Do nothing: no file is open."""

    def save(self, path: Path) -> None:
        """Write the batches that are kept as a trace, which begins with the first of them.

        :raises UserError: if the file exists or cannot be written.
        """
        with self._lock:
            batches, before = list(self._batches), self._before
        later = before["now_ns"] - self._meta["clock"]["monotonic_ns"]
        clock = {name: value + later for name, value in self._meta["clock"].items()}
        last: dict[str, Any] = {"now_ns": before["now_ns"], "ledger": {}}
        with TraceWriter(path, self._meta | {"clock": clock}) as writer:
            for events, note in batches:
                last = {**note, "ledger": _since(note["ledger"], before["ledger"])}
                writer.write(events, last)
            writer.close(last | {"end": {"reason": "saved"}})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _since(ledger: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Return the counts of a ledger minus those of an earlier one."""
    return {
        kind: {
            count: [
                now - then for now, then in zip(each, _counts(before, kind, count, len(each)), strict=True)
            ]
            for count, each in counts.items()
        }
        for kind, counts in ledger.items()
    }


def _counts(ledger: Mapping[str, Any], kind: str, count: str, cpus: int) -> list[int]:
    return list(ledger[kind][count]) if kind in ledger else [0] * cpus
