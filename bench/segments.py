# SPDX-License-Identifier: GPL-2.0-only
"""What `toolkit record` writes to the disk while nothing happens, and under traffic, by policy of syncing.

    python -m bench.segments

A machine is started for it. The recorder runs once for each policy, with and without traffic. Counted are the
bytes of its segments, what the disk was made to write (the kernel's own count, the journal with it), and the
CPU time of the recorder. The peer is the same recorder that keeps nothing on disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from vm import guest, trial

POLICIES = {
    "memory alone": "--keep 0",
    "never": "--sync 0",
    "30 s": "--sync 30s",
    "5 s": "--sync 5s",
    "1 s": "--sync 1s",
}
KEPT = "/var/tmp/kept"
LOOK = """
import pathlib, time
proc = pathlib.Path("/proc", pathlib.Path("/var/tmp/record.pid").read_text().strip())
sizes = [path.stat().st_size for path in pathlib.Path("/var/tmp/kept/ring").glob("*.segment")]
sectors = pathlib.Path("/sys/block/vda/stat").read_text().split()[6]
ticks = proc.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
resident = next(line for line in proc.joinpath("status").open() if line.startswith("VmRSS"))
print(time.monotonic(), sum(sizes), sectors, sum(map(int, ticks)), resident.split()[1])
"""


def look(machine: guest.Guest) -> list[float]:
    """Return seconds, bytes of segments, sectors written, CPU time [10 ms] and memory [KiB]."""
    return [float(word) for word in machine.ssh("sudo python3 -", check=True, stdin=LOOK).stdout.split()]


def measure(machine: guest.Guest, options: str, rate: int, seconds: float) -> dict[str, float]:
    """Return what a recorder writes in an hour, and its share of a CPU.

    :param rate: frames a second that the machine gets meanwhile.
    """
    machine.ssh(f"sudo rm -rf {KEPT}; sync", check=True)
    command = f"toolkit record -d eth1 -o {KEPT} --when 'stall > 1h' {options}"
    start = f'exec sudo sh -c "echo \\$\\$ >/var/tmp/record.pid; exec {command}"'
    with machine.popen(start, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        for line in process.stderr or ():
            if line.startswith("recording "):
                break
        with TemporaryDirectory() as scratch:
            traffic = trial.Traffic(rate=rate)
            with trial.wire(machine, traffic, Path(scratch) / "witness.json") if rate else nullcontext():
                time.sleep(5)
                before = look(machine)
                time.sleep(seconds)
                # What the kernel would write later belongs to it, too.
                machine.ssh("sync", check=True)
                after = look(machine)
        machine.ssh("sudo kill -TERM $(cat /var/tmp/record.pid)", check=True)
        process.wait(timeout=120)
    took, size, sectors, ticks, _ = (now - then for now, then in zip(after, before, strict=True))
    return {
        "segments_MB_per_h": round(size * 3600 / took / 1e6, 1),
        "disk_MB_per_h": round(sectors * 512 * 3600 / took / 1e6, 1),
        "cpu_percent": round(ticks / took, 2),
        "resident_MiB": round(after[4] / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=6000, help="frames a second, where there is traffic")
    arguments = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    with guest.machine("virtio-net") as machine:
        for rate in (0, arguments.rate):
            for policy, options in POLICIES.items():
                each = measure(machine, options, rate, arguments.seconds)
                print(f"{rate} frames/s, sync {policy}: {each}", file=sys.stderr, flush=True)
                found.setdefault(f"{rate} frames/s", {})[policy] = each
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
