# SPDX-License-Identifier: GPL-2.0-only
"""What the benchmarks trace a machine with, beside `toolkit trace`."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vm import guest

#: Attaches all hooks of a driver; for each line of its input it prints each program's runs, and their time.
_TRACER = """
import json, sys
from toolkit.capture import maps, program, start
from toolkit.drivers import load

drivers = [load(sys.argv[1])]
bpf, functions = start.load(drivers, 8 << 20)
program.attach(bpf, program.hooks(drivers), functions)
maps.arm(bpf, True)

def ran(descriptor):
    about = dict(line.split(":", 1) for line in open(f"/proc/self/fdinfo/{descriptor}"))
    return int(about["run_cnt"]), int(about["run_time_ns"])

print("{}", flush=True)
for _ in sys.stdin:
    print(json.dumps({name: ran(descriptor) for name, descriptor in bpf.functions.items()}), flush=True)
"""
Runs = dict[str, tuple[int, int]]
"""Program -> how often it ran, and for how long [ns]."""


@contextmanager
def probes(machine: guest.Guest) -> Iterator[Callable[[], Runs]]:
    """Attach all programs of a trace; gives a function that asks for their runs."""
    command = f"{guest.PYTHON} -u -c {shlex.quote(_TRACER)} {machine.machine.driver}"
    with machine.popen(command, stderr=None) as process:
        there, said = process.stdin, process.stdout
        assert there is not None and said is not None
        said.readline()

        def ask() -> Runs:
            there.write("\n")
            there.flush()
            return {name: (count, took) for name, (count, took) in json.loads(said.readline()).items()}

        yield ask
        there.close()


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
