# SPDX-License-Identifier: GPL-2.0-only
"""What each kind of probe adds to a call of a kernel function, in a machine.

    python -m bench.hooks

A program that does nothing is attached in each way to a function that getppid(2) calls, which a loop calls.
The ways take turns, and `bare` is without a program. Numbers are the medians of the rounds [ns a call], less
those of `bare`; a ratio is to a kprobe, the usual way. A kretprobe is there beside a kprobe, as where the
begin and the end of a function are traced.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from vm import guest

_LOOP = """
import json, os, sys, time
from toolkit.capture import btf, loader
from toolkit.capture.compiled import Compiled

AT, CALLS = "__task_pid_nr_ns", int(sys.argv[1])
#: r0 = 0; exit
NOTHING = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0]) + bytes([0x95]) + bytes(7)
BOTH = ["kprobe", "kretprobe"]
WAYS = {"bare": [], "fentry": ["fentry"], "kprobe": ["kprobe"], "kprobe and kretprobe": BOTH}

with btf.kernel_btf() as types:
    entry = types.function(AT)
found = {}
for way, kinds in WAYS.items():
    bpf = loader.load(Compiled("", "GPL", [], {"nothing": NOTHING, "nothing_after": NOTHING}), {})
    for kind in kinds:
        if kind == "fentry":
            loader.enter(bpf, entry, "nothing")
        else:
            loader.attach(bpf, kind, AT, "nothing_after" if kind == "kretprobe" else "nothing")
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        os.getppid()
    found[way] = (time.perf_counter_ns() - began) / CALLS
    loader.detach(bpf)
    loader.unload(bpf)
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--kind", default="virtio-net", help="a machine of amd64")
    arguments = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with guest.machine(arguments.kind) as machine:
        for number in range(arguments.rounds):
            command = f"{guest.PYTHON} - {arguments.calls}"
            rounds.append(json.loads(machine.ssh(command, check=True, stdin=_LOOP).stdout))
            print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr)
    added = {
        way: statistics.median(each[way] - each["bare"] for each in rounds)
        for way in rounds[0]
        if way != "bare"
    }
    bare = statistics.median(each["bare"] for each in rounds)
    ratios = {way: round(ns / added["kprobe"], 2) for way, ns in added.items()}
    print(
        json.dumps(
            {
                "bare_ns": round(bare),
                "added_ns": {way: round(ns) for way, ns in added.items()},
                "of_a_kprobe": ratios,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
