# SPDX-License-Identifier: GPL-2.0-only
"""How soon a trace begins in a machine, and how much memory it has, beside bcc's netqtop.

    python -m bench.start

From the command to the moment at which all probes are on: with the probes compiled before, and compiled anew.
netqtop, which bcc compiles each time, is timed to its first line: that comes after one second of counting.
The three take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from toolkit.capture.compiled import DIRECTORY
from vm import guest

#: Prints when it runs, and how much memory its parent has [kB].
_BEGUN = 'date +%s.%N; awk "/^VmRSS/ {print \\$2}" /proc/$PPID/status'
_TRACE = f"sudo toolkit trace virtio_net -d eth1 --force -o /var/tmp/s.rxt -- sh -c '{_BEGUN}' 2>/dev/null"
_FORGET = f"sudo rm -rf {DIRECTORY}"
#: The newest process of that name is netqtop; the others are sudo.
_NETQTOP = (
    "sudo sh -c 'exec netqtop-bpfcc -n eth1 -i 1' 2>/dev/null | { read line; date +%s.%N; "
    "awk '/^VmRSS/ {print $2}' /proc/$(pgrep -n -f '[n]etqtop-bpfcc -n')/status; "
    "sudo pkill -INT -f '[n]etqtop-bpfcc -n'; }"
)


def began(machine: guest.Guest, command: str) -> tuple[float, float]:
    """Return after how long a command had begun [s], and how much memory it had then [MiB]."""
    start, moment, memory = machine.ssh(f"date +%s.%N; {command}", check=True).stdout.split()
    return float(moment) - float(start), int(memory) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", default="virtio-net", help="a machine with virtio_net")
    arguments = parser.parse_args()
    with guest.machine(arguments.kind) as machine:
        began(machine, _TRACE)
        rounds = []
        for number in range(arguments.rounds):
            found = {"kept": began(machine, _TRACE), "netqtop": began(machine, _NETQTOP)}
            machine.ssh(_FORGET, check=True)
            found["compiled"] = began(machine, _TRACE)
            rounds.append(found)
            print(f"round {number + 1}: {found}", file=sys.stderr)
    print(
        json.dumps(
            {
                name: {
                    "seconds": round(statistics.median(each[name][0] for each in rounds), 1),
                    "mib": round(statistics.median(each[name][1] for each in rounds)),
                    "of_netqtop": round(
                        statistics.median(each[name][0] / each["netqtop"][0] for each in rounds), 2
                    ),
                }
                for name in ("kept", "compiled", "netqtop")
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
