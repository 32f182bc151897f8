# SPDX-License-Identifier: GPL-2.0-only
"""What the segments of `toolkit record` cost a disk and a CPU, by policy of syncing.

    sudo python -m bench.segments [--seconds 120]

Each policy has an ext4 of its own in a loop device, whose writes the kernel counts, the journal's with them.
All policies get the same batches at the same time, two a second: of a machine in which nothing happens (what
the probes see when they look at eight queues), then of a busy one (100 windows a second of each queue). The
peer is memory alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from toolkit.event import KIND
from toolkit.live import segments
from toolkit.live.recent import Recent
from toolkit.live.segments import Room, Segments
from toolkit.trace.schema import EVENT, Events

POLICIES = {"memory alone": None, "0": 0.0, "30s": 30.0, "5s": 5.0, "1s": 1.0, "100ms": 0.1}
QUEUES = 8
BATCHES_PER_S = 2


def mount(folder: Path) -> tuple[Path, Path]:
    """Make an ext4 and mount it.

    :return: where it is, and what the kernel counts of its device.
    """
    image, place = folder / "image", folder / "disk"
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(1 << 30)
    # Without lazy initialization, nothing but the recorder makes it write.
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mkfs.ext4", "-q", "-E", lazy, str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    device = os.stat(place).st_dev  # noqa: PTH116
    return place, Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")


def batch(number: int, count: int) -> Events:
    """Return windows such as a NIC under light traffic makes."""
    chance = np.random.default_rng(number)
    events = np.zeros(count, EVENT)
    events["ts"] = time.monotonic_ns() - chance.integers(0, 500_000_000, count)
    events["kind"], events["ifindex"], events["queue"] = KIND["window"], 2, np.arange(count) % QUEUES
    events["dur"], events["packets"] = chance.integers(1, 10_000_000, count), chance.integers(0, 60, count)
    events["polls"] = events["irqs"] = chance.integers(0, 30, count)
    events["posted_before"] = events["posted_after"] = chance.integers(200, 256, count)
    return events


def record(folder: Path, sync_s: float | None, windows: int, seconds: float) -> dict[str, float]:
    """Write batches for some seconds.

    :param windows: so many a second.
    :return: what was written in an hour [MB], and the share of a CPU [%]; with syncing, its times [ms].
    """
    place, counts = mount(folder)
    took: list[float] = []

    def sync(path: Path) -> None:
        began = time.perf_counter()
        _sync(path)
        took.append((time.perf_counter() - began) * 1e3)

    _sync = segments.sync
    segments.sync = sync
    clock = {"monotonic_ns": time.monotonic_ns(), "realtime_ns": time.time_ns(), "boottime_ns": 0}
    meta: dict[str, Any] = {"clock": clock, "devices": [], "drivers": [{"name": "generic"}]}
    recent = Recent(meta)
    room = Room(600 * 10**9, 256 << 20, sync_s or 0.0)
    sink = recent if sync_s is None else Segments(place, [], room, meta, recent, print)
    before, cpu, began, count = _written(counts), time.process_time(), time.monotonic(), 0
    for number in range(round(seconds * BATCHES_PER_S)):
        time.sleep(max(0, began + number / BATCHES_PER_S - time.monotonic()))
        events = batch(number, max(windows // BATCHES_PER_S, 1))
        count += len(events)
        ledger = {name: [count] for name in ("attempted", "delivered")} | {"dropped": [0]}
        sink.write(events, {"now_ns": time.monotonic_ns(), "ledger": {"window": ledger}})
    hours = (time.monotonic() - began) / 3600
    cpu, syncs = time.process_time() - cpu, took.copy()
    sink.close({"end": {"reason": "duration"}})
    # What the kernel would write later belongs to it, too.
    subprocess.run(["sync", "-f", str(place)], check=True)
    size = sum(path.stat().st_size for path in place.glob("*.segment"))
    found = {
        "segments_MB_per_h": round(size / 1e6 / hours, 1),
        "disk_MB_per_h": round((_written(counts) - before) / 1e6 / hours, 1),
        "cpu_percent": round(cpu / hours / 36, 2),
    }
    if syncs:
        found |= {"sync_ms": round(statistics.median(syncs), 1), "longest_sync_ms": round(max(syncs), 1)}
    subprocess.run(["umount", str(place)], check=True)
    return found


def _written(counts: Path) -> int:
    return int(counts.read_text().split()[6]) * 512


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0)
    arguments = parser.parse_args()
    found = {}
    for name, windows in (("idle", QUEUES * BATCHES_PER_S), ("busy", QUEUES * 100)):
        with TemporaryDirectory(dir="/var/tmp") as scratch, multiprocessing.Pool(len(POLICIES)) as pool:
            running = {
                policy: pool.apply_async(
                    record, (Path(scratch, policy.replace(" ", "-")), sync_s, windows, arguments.seconds)
                )
                for policy, sync_s in POLICIES.items()
            }
            found[name] = {policy: result.get() for policy, result in running.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
