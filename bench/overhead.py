# SPDX-License-Identifier: GPL-2.0-only
"""Frames a second that a machine receives untraced, under `toolkit trace`, and under bcc's netqtop.

    python -m bench.overhead

The sender offers more than the machine can take, so what arrives is what the machine's CPUs are good for. The
three take turns and each round has all of them, so that a slow minute is shared; the ratio is the median of
the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from vm import guest, trial
from vm.paths import CHECKOUT


def frames_per_s(machine: guest.Guest, rate: int, seconds: float, size: int = 60) -> float:
    """Return the NIC's own count while the sender offers `rate` frames of `size` bytes a second."""
    words = [sys.executable, "-m", "vm.wire", "--socket", str(machine.wire(0)), "--rate", str(rate)]
    words += ["--size", str(size), "--duration", str(seconds + 3)]
    counter = "date +%s.%N; cat /sys/class/net/eth1/statistics/rx_packets"
    with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.DEVNULL):
        time.sleep(1)
        said = machine.ssh(f"{counter}; sleep {seconds}; {counter}", check=True).stdout.split()
    began, before, ended, after = map(float, said)
    return (after - before) / (ended - began)


@contextmanager
def netqtop(machine: guest.Guest) -> Iterator[None]:
    """Run bcc's netqtop on the same device, from its first line of output on."""
    start = "exec sudo sh -c 'echo $$ > /run/netqtop.pid; exec netqtop-bpfcc -n eth1 -i 1'"
    with machine.popen(start, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            machine.ssh("sudo kill -INT $(cat /run/netqtop.pid)")
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rate", type=int, default=60_000, help="frames a second to offer")
    arguments = parser.parse_args()
    with guest.machine("virtio-net") as machine:
        log = Path("/dev/null").open("w")  # noqa: SIM115
        kinds: dict[str, Callable[[], AbstractContextManager[object]]] = {
            "untraced": nullcontext,
            "toolkit": lambda: trial.tracing(
                machine, "virtio_net", "/var/tmp/o.rxt", options=["--force"], log=log.write
            ),
            "netqtop": lambda: netqtop(machine),
        }
        rounds: list[dict[str, float]] = []
        for number in range(arguments.rounds):
            found = {}
            for name, tracer in kinds.items():
                with tracer():
                    found[name] = frames_per_s(machine, arguments.rate, arguments.seconds)
            rounds.append(found)
            print(f"round {number + 1}: {found}", file=sys.stderr)
    print(
        json.dumps(
            {
                "frames_per_s": {
                    name: round(statistics.median(each[name] for each in rounds)) for name in kinds
                },
                "of_untraced": {
                    name: round(statistics.median(each[name] / each["untraced"] for each in rounds), 3)
                    for name in ("toolkit", "netqtop")
                },
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
