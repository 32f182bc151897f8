# SPDX-License-Identifier: GPL-2.0-only
"""How long each BPF program of a trace runs, by the kernel's own account, beside those of bcc's netqtop.

    python -m bench.programs

The kernel adds up how often each program ran and for how long (kernel.bpf_stats_enabled). It counts the
program itself: what a kprobe or a tracepoint costs around it is in `bench.overhead`. An emulated CPU is slow,
and so are its clocks: compare the numbers of one run with each other only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.tracers import Runs, netqtop, probes
from vm import guest, trial

#: Prints the sums over all programs of a process.
_SUMS = (
    "sudo sh -c 'cat /proc/$(pgrep -n -f \"[n]etqtop-bpfcc -n\")/fdinfo/*' 2>/dev/null | "
    "awk '/^run_cnt/ {count += $2} /^run_time_ns/ {time += $2} END {print count, time}'"
)


def received(machine: guest.Guest) -> int:
    """Return how many frames the NIC under test has received."""
    return int(machine.ssh("cat /sys/class/net/eth1/statistics/rx_packets", check=True).stdout)


def while_traffic(
    machine: guest.Guest, ask: Callable[[], Runs], rate: int, seconds: float
) -> tuple[int, Runs]:
    """Return how many frames came in some seconds, and how often programs ran meanwhile, and for how long."""
    offered = trial.Traffic(rate=rate, size=60)
    with TemporaryDirectory() as scratch, trial.wire(machine, offered, Path(scratch, "witness.json")):
        before, frames = ask(), received(machine)
        time.sleep(seconds)
        after, frames = ask(), received(machine) - frames
    grown = {name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after}
    return frames, {name: runs for name, runs in grown.items() if runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=20_000, help="frames a second to offer")
    parser.add_argument("--kind", default="virtio-net", help="a machine with a wire")
    arguments = parser.parse_args()
    with guest.machine(arguments.kind) as machine:
        machine.ssh("sudo sysctl -q kernel.bpf_stats_enabled=1", check=True)
        with probes(machine) as ask:
            frames, runs = while_traffic(machine, ask, arguments.rate, arguments.seconds)
        with netqtop(machine):

            def sums() -> Runs:
                count, took = machine.ssh(_SUMS, check=True).stdout.split()
                return {"all": (int(count), int(took))}

            their_frames, theirs = while_traffic(machine, sums, arguments.rate, arguments.seconds)
    ours = sum(took for _, took in runs.values()) / frames
    per_frame = sum(took for _, took in theirs.values()) / their_frames
    print(
        json.dumps(
            {
                "programs": {
                    name: {"runs_per_s": round(count / arguments.seconds), "ns_per_run": round(took / count)}
                    for name, (count, took) in sorted(runs.items(), key=lambda each: -each[1][1])
                },
                "frames_per_s": round(frames / arguments.seconds),
                "ns_per_frame": {"toolkit": round(ours), "netqtop": round(per_frame)},
                "ratio": round(ours / per_frame, 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
