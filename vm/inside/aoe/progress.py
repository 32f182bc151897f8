# SPDX-License-Identifier: GPL-2.0-only
"""The witness of a trace of aoe: what the block layer and the driver itself say of the disk, all the time."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from vm.inside import aoe

#: A time without a request that ends is a gap if requests waited, and it was as long (ns).
GAP_NS = 100_000_000
INTERVAL = 0.02
#: Places in /sys/block/DISK/stat (Documentation/block/stat.rst): reads, writes, in flight.
READS, WRITES, IN_FLIGHT = 0, 4, 8


@dataclass
class Looks:
    """When a look began and ended [ns]: requests that had ended, and were in flight; the driver's state."""

    began: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    states: list[aoe.State] = field(default_factory=list)


@contextmanager
def witness(output: Path | None) -> Iterator[dict[str, Any]]:
    """Look at the disk for the length of the block; then write witness.json beside the phases.

    :param output: of the scenario.
    :return: what more is to be in the account.
    """
    looks, more, stop = Looks(), dict[str, Any](), threading.Event()
    thread = threading.Thread(target=_look, args=(looks, stop))
    thread.start()
    try:
        yield more
    finally:
        stop.set()
        thread.join()
    if output:
        found = json.dumps({**account(looks), **more}, indent=1)
        output.with_name("witness.json").write_text(found + "\n")


def account(looks: Looks) -> dict[str, Any]:
    """Return the JSON object of a witness (docs/stalls.md): `sent` are requests that ended, `refused` those
    that did not. Besides, `frames` that the driver sent, and `pool`: [ns before the look, ns after it, skbs
    in the pool, frames out, the window, how often it found no frame] whenever one of these four changed.
    """
    states = [
        [began, ended, s.pool, s.out, s.window, s.kicked]
        for began, ended, s in zip(looks.began, looks.times, looks.states, strict=True)
    ]
    changed = [now for before, now in pairwise([[], *states]) if now[2:] != before[2:]]
    return {
        "device": aoe.INITIATOR,
        "sent": looks.ended[-1] - looks.ended[0],
        "refused": looks.waiting[-1],
        "gaps": gaps(looks.times, looks.ended, looks.waiting),
        # The clock is the trace's own; what happens is seen a look later, or two where the machine is busy.
        "clock": {"offset_ns": 0, "error_ns": round(2 * INTERVAL * 1e9)},
        "frames": looks.states[-1].sent - looks.states[0].sent,
        "pool": changed,
    }


def gaps(times: list[int], ended: list[int], waiting: list[int]) -> list[dict[str, Any]]:
    """Find when requests waited and none ended.

    :param times: [ns] of each look.
    :param ended: requests that had ended until then.
    :param waiting: requests that had not.
    :return: {start_ns, duration_ns, refused: requests that waited at its end} each; one that lasts to the
        last look is marked `open`.
    """
    found = []
    start = times[0]
    for before, now in pairwise(range(len(times))):
        last = now == len(times) - 1
        moved = ended[now] != ended[before] or not waiting[before]
        if (moved or last) and times[now] - start >= GAP_NS and waiting[before]:
            gap: dict[str, Any] = {
                "start_ns": start,
                "duration_ns": times[now] - start,
                "refused": waiting[before],
            }
            found.append(gap | ({} if moved else {"open": True}))
        if moved:
            start = times[now]
    return found


def _look(looks: Looks, stop: threading.Event) -> None:
    while not stop.wait(INTERVAL):
        began = time.monotonic_ns()
        words = aoe.STAT.read_text().split()
        state = aoe.state()
        looks.began.append(began)
        looks.times.append(time.monotonic_ns())
        looks.ended.append(int(words[READS]) + int(words[WRITES]))
        looks.waiting.append(int(words[IN_FLIGHT]))
        looks.states.append(state)
