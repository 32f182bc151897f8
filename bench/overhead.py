# SPDX-License-Identifier: GPL-2.0-only
"""Frames that a machine receives untraced, under `toolkit trace`, and under bcc's netqtop.

    python -m bench.overhead

The toolkit traces by virtio_net's own probes, and by those for any driver; `probes alone` are virtio_net's,
and nobody takes or writes what they send. The sender offers more than the machine can take, so what arrives
is what the machine's CPUs are good for: it is told by the second, and by the second of CPU time that the host
gave to the machine. They take turns and each round has all of them, so that a slow minute is shared. A ratio
is the median of the rounds, with the interval that holds the true median in 95 % of such experiments (order
statistics: of ten rounds, the second and the ninth). Before that: how much of a CPU `toolkit trace` takes
when nothing comes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from bench.tracers import netqtop, probes
from vm import guest, trial
from vm.paths import CHECKOUT

SETTLED_S = 6.0
"""So long after a tracer is ready it is measured: what its first seconds cost is a part of its start."""

TRACERS = ("toolkit", "any driver", "probes alone", "netqtop")

PER = ("second", "CPU second")
"""Of the clock, and of the CPU time that the host gave to a machine."""


def cpu_s(machine: guest.Guest) -> float:
    """Return the CPU time that the host gave to a machine since it began [s]."""
    times = Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()
    user, system = 11, 12
    return (int(times[user]) + int(times[system])) / os.sysconf("SC_CLK_TCK")


def frames_per_s(machine: guest.Guest, rate: int, seconds: float, size: int = 60) -> float:
    """Return the NIC's own count while the sender offers `rate` frames of `size` bytes a second."""
    return frames_per(machine, rate, seconds, size)[PER[0]]


def frames_per(machine: guest.Guest, rate: int, seconds: float, size: int = 60) -> dict[str, float]:
    """Return the NIC's own count while the sender offers frames, by PER."""
    words = [sys.executable, "-m", "vm.wire", "--socket", str(machine.wire(0)), "--rate", str(rate)]
    words += ["--size", str(size), "--duration", str(seconds + 3)]
    counter = "date +%s.%N; cat /sys/class/net/eth1/statistics/rx_packets"
    with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.DEVNULL):
        time.sleep(1)
        used = cpu_s(machine)
        said = machine.ssh(f"{counter}; sleep {seconds}; {counter}", check=True).stdout.split()
        used = cpu_s(machine) - used
    began, before, ended, after = map(float, said)
    return {PER[0]: (after - before) / (ended - began), PER[1]: (after - before) / used}


def idle(machine: guest.Guest, pid_file: str, seconds: float) -> float:
    """Return how much of a CPU a process takes, with all its threads, in some seconds without traffic."""
    ask = f"getconf CLK_TCK; for i in 1 2; do date +%s.%N; cut -d ' ' -f 14,15 /proc/$(cat {pid_file})/stat; "
    said = machine.ssh(f"{ask} test $i = 2 || sleep {seconds}; done", check=True).stdout.split()
    ticks, began, user, system, ended, user_then, system_then = map(float, said)
    return (user_then + system_then - user - system) / ticks / (ended - began)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return two of the values between which the median lies with 95 % confidence; None if they are too few.

    The k-th smallest and the k-th largest of n: the median is outside if fewer than k of n fair coins fall on
    one side (H. A. David, Order Statistics, 1970, section 2.5).
    """
    n, outside, k = len(values), 0.0, 0
    while (outside := outside + 2 * math.comb(n, k) / 2**n) <= 0.05:
        k += 1
    return (sorted(values)[k - 1], sorted(values)[n - k]) if k else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rate", type=int, default=150_000, help="frames a second to offer")
    parser.add_argument(
        "--tracers",
        nargs="+",
        choices=TRACERS,
        default=TRACERS,
        help="beside untraced; netqtop compiles for a minute in each round",
    )
    arguments = parser.parse_args()
    with guest.machine("virtio-net") as machine:
        log = Path("/dev/null").open("w")  # noqa: SIM115
        tracers: dict[str, Callable[[], AbstractContextManager[object]]] = {
            "toolkit": lambda: trial.tracing(
                machine, "virtio_net", "/var/tmp/o.rxt", options=["--force"], log=log.write
            ),
            "any driver": lambda: trial.tracing(
                machine, "generic", "/var/tmp/g.rxt", options=["--force", "-d", "eth1"], log=log.write
            ),
            "probes alone": lambda: probes(machine),
            "netqtop": lambda: netqtop(machine),
        }
        kinds = {"untraced": nullcontext} | {name: tracers[name] for name in arguments.tracers}
        with tracers["toolkit"]():
            time.sleep(2)
            idle_share = idle(machine, "/var/tmp/o.rxt.pid", 20)
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(arguments.rounds):
            found = {}
            for name, tracer in kinds.items():
                with tracer():
                    time.sleep(SETTLED_S)
                    found[name] = frames_per(machine, arguments.rate, arguments.seconds)
            rounds.append(found)
            print(f"round {number + 1}: {found}", file=sys.stderr)
    said: dict[str, object] = {"idle_cpu": round(idle_share, 4)}
    for per in PER:
        frames = {name: round(statistics.median(each[name][per] for each in rounds)) for name in kinds}
        ratios = {
            name: [each[name][per] / each["untraced"][per] for each in rounds]
            for name in kinds
            if name != "untraced"
        }
        said[f"frames per {per}"] = frames
        said[f"of untraced, per {per}"] = {
            name: {
                "median": round(statistics.median(values), 3),
                "interval": (between := interval(values)) and [round(each, 3) for each in between],
            }
            for name, values in ratios.items()
        }
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
