# SPDX-License-Identifier: GPL-2.0-only
"""Send frames at a rate without ever waiting for the receiver, and remember when frames were refused."""

from __future__ import annotations

import errno
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from vm.qemu import tap

#: A sender that was not scheduled for longer than this skips frames instead of sending them in a burst (s).
CATCH_UP = 0.005
_REFUSED = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED})


@dataclass
class Account:
    """The account of the frames; times are CLOCK_MONOTONIC of the sender, ns."""

    size: int
    rate: float
    started_ns: int = 0
    ended_ns: int = 0
    sent: int = 0
    skipped: int = 0
    refused: array[int] = field(default_factory=lambda: array("q"))
    gaps: list[dict[str, Any]] = field(default_factory=list)
    away: list[dict[str, int]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return {sent, refused, skipped, rate, size, started_ns, ended_ns, gaps, away}."""
        return {
            "sent": self.sent,
            "refused": len(self.refused),
            "skipped": self.skipped,
            "rate": self.rate,
            "size": self.size,
            "started_ns": self.started_ns,
            "ended_ns": self.ended_ns,
            "gaps": self.gaps,
            "away": self.away,
        }


def connect(path: Path) -> socket.socket:
    """A socket that sends frames to a NIC: a unix datagram socket, or that of a tap (:mod:`vm.qemu.tap`).

    :raises UserError: if nobody listens there.
    """
    try:
        wire = tap.connect(path) if tap.is_wire(path) else _datagrams(path)
    except OSError as error:
        raise UserError(f"no NIC takes frames at {path}: {error.strerror}; is the machine up?") from None
    wire.setblocking(False)
    return wire


def _datagrams(path: Path) -> socket.socket:
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        wire.connect(str(path))
    except OSError:
        wire.close()
        raise
    return wire


def send(
    wire: socket.socket,
    frames: Sequence[bytes],
    *,
    rate: float,
    count: int | None = None,
    duration: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    show: Callable[[Account], None] | None = None,
) -> Account:
    """Send frames in turn until `count` are sent, `duration` seconds are over or `stop` says so.

    A gap is a run of refused frames: it begins with the first of them and ends with the next frame that is
    taken. The sender is away while it does not run and so skips frames. If a frame is taken as soon as it is
    back, the gap before ends where it left: what became of the ring meanwhile, nobody saw.

    :param rate: frames a second.
    :param show: is called about twice a second.
    """
    account = Account(len(frames[0]), rate)
    interval = 1 / rate
    began = time.monotonic()
    account.started_ns = time.monotonic_ns()
    number = 0
    gap_start = gap_refused = 0
    shown = looked = began
    while True:
        left, looked = looked, time.monotonic()
        now = looked
        elapsed = now - began
        if (
            (count is not None and number >= count)
            or (duration is not None and elapsed >= duration)
            or stop()
        ):
            break
        if show and now - shown >= 0.5:
            shown = now
            show(account)
        due = int(elapsed * rate)
        if count is not None:
            due = min(due, count)
        if number >= due:
            time.sleep(min(max(began + (number + 1) * interval - now, 0.0), 0.1))
            continue
        away = 0
        if late := max(0, due - number - max(1, int(CATCH_UP * rate))):
            account.skipped += late
            number += late
            if now - left >= CATCH_UP:
                away = max([int(left * 1e9), *account.refused[-1:]])
                account.away.append({"start_ns": away, "duration_ns": int(now * 1e9) - away})
        try:
            wire.send(frames[number % len(frames)])
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            at = time.monotonic_ns()
            account.refused.append(at)
            if not gap_refused:
                gap_start = at
            gap_refused += 1
        else:
            account.sent += 1
            if gap_refused:
                account.gaps.append(_gap(gap_start, away or time.monotonic_ns(), gap_refused))
                gap_refused = 0
        number += 1
    account.ended_ns = time.monotonic_ns()
    if gap_refused:
        account.gaps.append(_gap(gap_start, account.ended_ns, gap_refused) | {"open": True})
    return account


def _gap(start: int, end: int, refused: int) -> dict[str, Any]:
    return {"start_ns": start, "duration_ns": end - start, "refused": refused}
