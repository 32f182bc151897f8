# SPDX-License-Identifier: GPL-2.0-only
"""The counts of a ring's frames, and the times when it had no buffers."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)

#: Gaps shorter than this are not logged; the account has all (ns).
_GAP_TOLD = 10_000_000


@dataclass
class Starvation:
    """Frames that were dropped because a buffer queue was empty.

    A gap begins with the first dropped frame and ends with the next frame that finds a buffer there; times
    are CLOCK_MONOTONIC, ns. The latest thousand gaps are kept.
    """

    name: str
    dropped: int = 0
    forgotten: int = 0
    gaps: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=1000))
    began: int = 0
    before: int = 0

    def drop(self) -> None:
        if not self.began:
            self.began, self.before = time.monotonic_ns(), self.dropped
        self.dropped += 1

    def end(self) -> None:
        if not self.began:
            return
        self.forgotten += len(self.gaps) == self.gaps.maxlen
        self.gaps.append(self._gap(time.monotonic_ns()))
        self.began = 0
        if self.gaps[-1]["duration_ns"] >= _GAP_TOLD:
            last = self.gaps[-1]
            seconds = last["duration_ns"] / 1e9
            log.info("%s was empty for %.3f s: %d frames dropped", self.name, seconds, last["refused"])

    def as_json(self) -> list[dict[str, Any]]:
        """Return the gaps in the form of the wire's sender; a gap that has not ended is marked `open`."""
        now = time.monotonic_ns()
        return [*self.gaps, *([self._gap(now) | {"open": True}] if self.began else [])]

    def _gap(self, end: int) -> dict[str, Any]:
        return {
            "start_ns": self.began,
            "duration_ns": end - self.began,
            "refused": self.dropped - self.before,
        }


@dataclass
class RingCounts:
    """The counts of a ring's frames; they outlive the ring, since every ifup makes a new one."""

    ring: int
    accepted: int = 0
    dropped_cq_full: int = 0
    dropped_dma: int = 0
    lbq: Starvation = field(init=False)
    sbq: Starvation = field(init=False)

    def __post_init__(self) -> None:
        self.lbq, self.sbq = (Starvation(f"ring {self.ring}: {name}") for name in ("lbq", "sbq"))
