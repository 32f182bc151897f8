# SPDX-License-Identifier: GPL-2.0-only
"""Deterministic: for a set time the kernel keeps nearly all free memory back, so atomic allocations fail.

GFP_ATOMIC may go down to about 3/8 of the min watermark, so what fails is an allocation with less free memory
than that (mm/page_alloc.c, __zone_watermark_ok: min - min/2 - a quarter of that).

A driver with a page pool (virtio_net of Linux 7.3) uses pages again which nobody keeps, and asks for none.
With --buffer what arrives stays in sockets that nobody reads. A packet whose skb gets no memory would still
be dropped, and its page would go back to the ring; so every second socket is closed before the hold, which
leaves skbs free in slabs that the other sockets keep. With --keep none is closed: then skbs fail. igb needs
that: it may take its pages from the reserves (__GFP_MEMALLOC), which the knob does not touch.
"""

from __future__ import annotations

import argparse
import mmap
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from vm.inside import testbed
from vm.inside.testbed import MIB

#: How long filling the memory may take; a machine that was starved before swaps meanwhile.
FILL_SECONDS = 120


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--hold", type=float, default=1.0, help="seconds for which memory is kept back")
    parser.add_argument("--times", type=int, default=1, help="how often")
    parser.add_argument("--free", type=int, default=110, help="MiB to leave free before the hold")
    parser.add_argument("--min-free", type=int, default=480_000, help="vm.min_free_kbytes during the hold")
    parser.add_argument(
        "--settle", type=float, default=2.0, help="seconds of rest before and after each hold"
    )
    parser.add_argument("--after", type=float, default=0.0, help="seconds to go on after the last hold")
    testbed.receiver_options(parser)
    parser.add_argument("--buffer", type=int, default=0, help="MiB that each socket may hold; 0: no sockets")
    parser.add_argument("--keep", action="store_true", help="close no socket before the hold: no skb is free")
    arguments = parser.parse_args()

    log = testbed.begin("knob", arguments)
    no_sockets: AbstractContextManager[Sequence[socket.socket]] = nullcontext(())
    short: list[bool] = []
    try:
        for _ in range(arguments.times):
            with testbed.child(lambda: _fill(arguments.free * MIB)):
                with log.phase("fill memory"):
                    # Page cache would be given back at once and soften the shortage.
                    Path("/proc/sys/vm/drop_caches").write_text("1")
                    _wait_for(arguments.free + 2)
                testbed.stay()
                with _unread(arguments) if arguments.buffer else no_sockets as sockets:
                    with log.phase("rest"):
                        time.sleep(arguments.settle)
                    for each in () if arguments.keep else sockets[::2]:
                        each.close()
                    with (
                        testbed.free_memory() as free,
                        testbed.without_zone_dma(),
                        log.phase("hold", shortage=True),
                        testbed.sysctl("vm.min_free_kbytes", str(arguments.min_free)),
                    ):
                        time.sleep(arguments.hold)
                        short.append(free() < _atomic_floor(arguments.min_free * 1024))
                with log.phase("recover"):
                    time.sleep(arguments.settle)
        if arguments.after:
            with log.phase("after"):
                time.sleep(arguments.after)
    finally:
        log.write(arguments.output)
    if not all(short):
        testbed.missed("knob: memory was not short to the end: more was reclaimed than was kept back.")


def _atomic_floor(minimum: int) -> int:
    """Return the free bytes below which GFP_ATOMIC fails, for a min watermark of so many bytes."""
    return minimum * 3 // 8


@contextmanager
def _unread(arguments: argparse.Namespace) -> Iterator[Sequence[socket.socket]]:
    """What arrives is kept by sockets that nobody reads."""
    with (
        testbed.address(arguments.device, arguments.address),
        testbed.unread(arguments.ports, arguments.buffer * MIB) as sockets,
    ):
        yield sockets


def _spare() -> int:
    """Return the bytes that are free, or would be at once: what swap holds already needs no writing.

    What is still being written there counts as swap's, too.
    """
    written = max(testbed.meminfo("SwapCached") - testbed.meminfo("Writeback"), 0)
    return testbed.meminfo("MemFree") + written


def _wait_for(free: int) -> None:
    """Return when no more than `free` MiB are spare."""
    deadline = time.monotonic() + FILL_SECONDS
    while _spare() > free * MIB:
        if time.monotonic() > deadline:
            sys.exit(f"reclaim keeps more than {free} MiB free; give --free a larger number.")
        time.sleep(0.1)


def _fill(free: int) -> None:
    """Take and keep anonymous memory, which may be swapped out, until at most `free` bytes are spare."""
    taken = []
    while True:
        spare = _spare() - free
        if spare < MIB:
            time.sleep(0.05)
            continue
        memory = mmap.mmap(-1, min(spare, 16 * MIB) & -mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for offset in range(0, len(memory), mmap.PAGESIZE):
            memory[offset] = 1
        taken.append(memory)


if __name__ == "__main__":
    main()
