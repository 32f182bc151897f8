# SPDX-License-Identifier: GPL-2.0-only
"""A loaded program whose ring, ledger and queues' map are files in memory, and what its events go to."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any, Self

from tests.toolkit.capture.ring_memory import PAGE, KernelRing, Ledger, Queues
from toolkit import drivers
from toolkit.capture import kernel
from toolkit.capture.drain import Drain, Progress, Sink
from toolkit.capture.kernel import Functions
from toolkit.event import KIND
from toolkit.trace.schema import Events

VIRTIO_NET = drivers.load("virtio_net")
CPUS = 4
KINDS = max(KIND.values()) + 1
RING_PAGES = 4


class Kept:
    """A sink that keeps copies of what it is given."""

    def __init__(self, before_each: Callable[[], object] = lambda: None) -> None:
        self.batches: list[Events] = []
        self.notes: list[Mapping[str, Any]] = []
        self.end: Mapping[str, Any] = {}
        self._before_each = before_each

    def write(self, events: Events, note: Mapping[str, Any]) -> None:
        self._before_each()
        self.batches.append(events.copy())
        self.notes.append(note)

    def close(self, note: Mapping[str, Any]) -> None:
        self.end = note

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    def moments(self) -> list[int]:
        return [int(ts) for batch in self.batches for ts in batch["ts"]]


BLUE, RED = 4026532177, 4026532178
FAR, FARTHER = 1 << 31 | 7, 1 << 31 | 8
NAMES = {5: (kernel.netns(), "eth9"), FAR: (BLUE, "eth2"), FARTHER: (RED, "eth2")}


class Machine:
    """The maps of a loaded program, and what drains them."""

    def __init__(self) -> None:
        self.ring = KernelRing(RING_PAGES * PAGE)
        self.ledger = Ledger(CPUS, KINDS)
        self.queues = Queues()
        self.asked: SimpleQueue[bool] = SimpleQueue()
        self.progress = Progress(reason="duration")
        self.observe: Callable[[Events], object] = lambda _: None
        self.skipped: Iterator[dict[str, int] | None] = itertools.repeat(None)

    def drain(self, *sinks: Sink, flush: float = 0.01) -> Drain:
        maps = {"events": self.ring, "ledger": self.ledger, "queues": self.queues}
        following = iter(sinks)
        ring = RING_PAGES * PAGE
        return Drain(
            maps,
            ring,
            lambda: next(following),
            lambda events: self.observe(events),
            lambda: next(self.skipped),
            [VIRTIO_NET],
            Functions(
                b"ffffffff81000000 T clear_page_orig\n"
                b"ffffffff81001000 T prep_new_page\n"
                b"ffffffff81002000 B _end\n"
            ),
            self.asked,
            self.progress,
            flush,
        )
