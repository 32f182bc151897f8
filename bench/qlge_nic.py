# SPDX-License-Identifier: GPL-2.0-only
"""Frames a second that Debian's qlge receives from our model of its NIC, beside QEMU's own virtio-net.

    python -m bench.qlge_nic

Both machines receive the same frames from the same sender, one machine after the other, on one ring. The
sender offers more than either takes: what arrives is what model or QEMU can do, and the emulated CPU behind.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from bench.overhead import received
from vm import guest

SIZES = (60, 1000, 8000)


def measure(kind: str, rate: int, seconds: float, rounds: int) -> dict[int, float]:
    """Return, by size of the frames, the median of the frames that a machine received in a second."""
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    with guest.machine(kind) as machine:
        machine.ssh("sudo ip link set eth1 mtu 9000 && sleep 3", check=True)
        for _ in range(rounds):
            for size in SIZES:
                found[size].append(received(machine, rate, seconds, size)[0])
                print(f"{kind}, {size} bytes: {found[size][-1]:.0f} frames/s", file=sys.stderr, flush=True)
    return {size: statistics.median(each) for size, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=100_000, help="frames a second to offer")
    arguments = parser.parse_args()
    options = arguments.rate, arguments.seconds, arguments.rounds
    model, peer = measure("qlge", *options), measure("virtio-net", *options)
    found = {
        f"{size} bytes": {
            "qlge": round(model[size]),
            "virtio_net": round(peer[size]),
            "ratio": round(model[size] / peer[size], 2),
        }
        for size in SIZES
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
