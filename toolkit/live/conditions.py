# SPDX-License-Identifier: GPL-2.0-only
"""Conditions on a running trace, such as ``stall > 1s``: when they hold, and of which queue."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from toolkit import quantities
from toolkit.errors import UserError
from toolkit.live.queues import Change, Live
from toolkit.stalls import slow


class Seen(NamedTuple):
    """What is looked at.

    Attributes: `live`, the queues; `ended`, stalls and silences that ended since the last look; `now`,
    CLOCK_MONOTONIC [ns], and `since`, the time since the last look [ns]; `failed_before`, by queue, the
    refills that had failed then; `dropped`, events since then.
    """

    live: Live
    ended: list[Change]
    now: int
    since: int
    failed_before: Mapping[tuple[int, int], int]
    dropped: int


class Held(NamedTuple):
    """A condition held: for which `queue` (interface index and number; None: for the whole trace), and how
    much was `found` there."""

    queue: tuple[int, int] | None
    found: float


@dataclass(frozen=True)
class Condition:
    """A limit on one thing; `text` is as the user wrote it."""

    text: str
    what: str
    limit: float


def _stall(condition: Condition, seen: Seen) -> Held | None:
    """Return the longest stall [ns] above the limit, of those that ended and those that have not."""
    lengths = {key: seen.now - queue.began for key, queue in list(seen.live.queues.items()) if queue.states}
    for key, lasted in _ended(seen, silences=False):
        lengths[key] = max(lengths.get(key, 0), lasted)
    return _most(condition, lengths)


def _silence(condition: Condition, seen: Seen) -> Held | None:
    """Return the longest silence outside of stalls [ns] above the limit; each is known when it has ended."""
    lengths: dict[tuple[int, int], int] = {}
    for key, lasted in _ended(seen, silences=True):
        lengths[key] = max(lengths.get(key, 0), lasted)
    return _most(condition, lengths)


def _ended(seen: Seen, *, silences: bool) -> list[tuple[tuple[int, int], int]]:
    """Return queue and length [ns] of the stalls that ended since the last look, or of the silences."""
    return [
        ((change.ifindex, change.queue), change.lasted)
        for change in seen.ended
        if change.lasted is not None and (change.state in slow.STATES) == silences
    ]


def _failed(condition: Condition, seen: Seen) -> Held | None:
    """Return the queue in which most refills failed, if that is above the limit [1/s]."""
    if not seen.since:
        return None
    rates = {
        key: (queue.failed - seen.failed_before.get(key, 0)) * 1e9 / seen.since
        for key, queue in list(seen.live.queues.items())
    }
    return _most(condition, rates)


def _dropped(condition: Condition, seen: Seen) -> Held | None:
    return Held(None, seen.dropped) if seen.dropped > condition.limit else None


def _most(condition: Condition, found: Mapping[tuple[int, int], float]) -> Held | None:
    queue = max(found, key=found.__getitem__, default=None)
    return None if queue is None or found[queue] <= condition.limit else Held(queue, found[queue])


_KINDS: dict[str, Callable[[Condition, Seen], Held | None]] = {
    "stall": _stall,
    "silence": _silence,
    "failed": _failed,
    "dropped": _dropped,
}


_LASTING = frozenset({"stall", "silence"})
_UNITS = {"failed": "a rate such as 100/s", "dropped": "a number"}


def parse(text: str) -> Condition:
    """Read a condition: ``stall > 1s``, ``silence > 100ms``, ``failed > 100/s``, ``dropped > 0``.

    :raises UserError: if it is none; the sentence says what one looks like.
    """
    found = re.fullmatch(r"\s*(\w+)\s*>\s*(\S+)\s*", text)
    if not found or found[1] not in _KINDS:
        raise UserError(
            f"{text!r} is no condition: write 'stall > 1s', 'silence > 100ms' (outside of stalls), "
            "'failed > 100/s' (refills) or 'dropped > 0' (events)."
        )
    what, amount = found.groups()
    try:
        if what in _LASTING:
            limit: float = quantities.nanoseconds(amount)
        elif what == "failed":
            limit = float(amount.removesuffix("/s"))
        else:
            limit = int(amount)
    except ValueError:
        unit = "a time such as 1s" if what in _LASTING else _UNITS[what]
        raise UserError(f"{text!r}: {amount!r} is not {unit}.") from None
    return Condition(" ".join(text.split()), what, limit)


def held(condition: Condition, seen: Seen) -> Held | None:
    """Tell whether a condition holds now, and where it does most."""
    return _KINDS[condition.what](condition, seen)
