# SPDX-License-Identifier: GPL-2.0-only
"""Frames that a machine receives untraced, under `toolkit trace`, and under bcc's netqtop.

    python -m bench.overhead

The toolkit traces by virtio_net's own probes, and by those for any driver; `probes alone` are virtio_net's,
and nobody takes or writes what they send.

QEMU counts the instructions of this machine, and 4 ns of its clock pass with each, whichever of its CPUs
executes it (vm.qemu.command): a second is 250 million instructions. So the speed of the host is no part of
what is measured, and what a thread of the tracer takes on one CPU is lost to the other. The sender has to
offer more than the machine can take, for which the host has to be quiet. Whether it did is measured, too: how
much of its time the CPU that takes the frames had nothing to do.

They take turns. A ratio is the median of the rounds, with the interval that holds the true median in 95 % of
such experiments (order statistics: of ten rounds, the second and the ninth). Before that: how much of a CPU
`toolkit trace` takes when nothing comes.
"""

from __future__ import annotations

import argparse
import json
import math
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


def received(machine: guest.Guest, rate: int, seconds: float, size: int = 60) -> tuple[float, float]:
    """Return the NIC's own count for each second while the sender offers `rate` frames of `size` bytes a
    second; and which part of its time the CPU was idle that took the frames: that in softirqs most."""
    words = [sys.executable, "-m", "vm.wire", "--socket", str(machine.wire(0)), "--rate", str(rate)]
    # An emulated second may take longer than one of the sender's.
    words += ["--size", str(size), "--duration", str(10 * seconds + 3)]
    counters = "date +%s.%N; cat /sys/class/net/eth1/statistics/rx_packets; grep '^cpu[0-9]' /proc/stat"
    with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.DEVNULL) as sender:
        time.sleep(1)
        said = machine.ssh(f"{counters}; sleep {seconds}; {counters}", check=True).stdout.splitlines()
        sender.terminate()
    (began, before, *cpus), (ended, after, *cpus_then) = said[: len(said) // 2], said[len(said) // 2 :]
    return (float(after) - float(before)) / (float(ended) - float(began)), _idle(cpus, cpus_then)


def _idle(before: Sequence[str], after: Sequence[str]) -> float:
    """Return the idle part of the time of the CPU that was in softirqs most, of lines of /proc/stat."""
    idle, softirq = 3, 6
    both = zip(before, after, strict=True)
    spent = [[int(b) - int(a) for a, b in zip(x.split()[1:], y.split()[1:], strict=True)] for x, y in both]
    busiest = max(spent, key=lambda each: each[softirq])
    return busiest[idle] / sum(busiest)


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
    parser.add_argument("--seconds", type=float, default=5.0, help="of which each has one batch of a trace")
    parser.add_argument("--rate", type=int, default=150_000, help="frames a second to offer")
    parser.add_argument(
        "--tracers",
        nargs="+",
        choices=TRACERS,
        default=TRACERS,
        help="beside untraced; netqtop compiles for a minute in each round",
    )
    arguments = parser.parse_args()
    with guest.machine("virtio-net", accel="icount") as machine:
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
        rounds: list[dict[str, float]] = []
        idles: list[float] = []
        for number in range(arguments.rounds):
            found = {}
            for name, tracer in kinds.items():
                with tracer():
                    time.sleep(SETTLED_S)
                    found[name], idle_part = received(machine, arguments.rate, arguments.seconds)
                    idles.append(idle_part)
            rounds.append(found)
            print(f"round {number + 1}: {found}, idle at most {max(idles):.3f}", file=sys.stderr)
    ratios = {name: [each[name] / each["untraced"] for each in rounds] for name in arguments.tracers}
    said = {
        "idle_cpu": round(idle_share, 4),
        "frames_per_s": {name: round(statistics.median(each[name] for each in rounds)) for name in kinds},
        "of_untraced": {
            name: {
                "median": round(statistics.median(values), 3),
                "interval": (between := interval(values)) and [round(each, 3) for each in between],
            }
            for name, values in ratios.items()
        },
        "receiving_cpu_idle_at_most": round(max(idles), 3),
    }
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
