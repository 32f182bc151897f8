# SPDX-License-Identifier: GPL-2.0-only
"""How often probes can be put on and off under traffic before an emulated machine dies.

    python -m bench.attach virtio-net --cycles 200

All hooks of the machine's driver, again and again, 0.2 s on and 0.1 s off, at 6,000 frames a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from vm import guest, trial
from vm.cmd import cmd
from vm.paths import CHECKOUT
from vm.qemu import emulator

CYCLES = """
import sys, time
from toolkit.capture import loader, maps, program, start
from toolkit.drivers import load

drivers = [load(sys.argv[1])]
bpf, functions = start.load(drivers, 1 << 20)
for cycle in range(int(sys.argv[2])):
    program.attach(bpf, program.hooks(drivers), functions)
    maps.arm(bpf, True)
    time.sleep(0.2)
    maps.arm(bpf, False)
    loader.detach(bpf)
    time.sleep(0.1)
    print(cycle + 1, flush=True)
"""


def survived(machine: guest.Guest, cycles: int) -> int:
    """Return how many cycles a machine lived through."""
    done = 0
    traffic = trial.Traffic()
    words = [sys.executable, "-m", "vm.wire", "--socket", str(machine.wire(0)), "--rate", str(traffic.rate)]
    words += ["--size", str(traffic.size), "--duration", "86400"]
    with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.DEVNULL) as sender:
        command = f"{guest.PYTHON} - {machine.machine.driver} {cycles}"
        with machine.popen(command, stderr=subprocess.DEVNULL) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(CYCLES)
            process.stdin.close()
            for line in process.stdout:
                done = int(line)
                print(f"\r{done} of {cycles}", end="", file=sys.stderr)
        sender.terminate()
    print(file=sys.stderr)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", help="a machine with a wire")
    parser.add_argument("--cycles", type=int, default=200)
    arguments = parser.parse_args()
    version = cmd([*emulator.ensure(), "--version"]).stdout.splitlines()[0]
    with guest.machine(arguments.kind) as machine:
        began = time.monotonic()
        kernel = machine.ssh("uname -r", check=True).stdout.strip()
        done = survived(machine, arguments.cycles)
        found = {"qemu": version, "kernel": kernel, "cycles": done, "alive": machine.alive()}
        print(json.dumps(found | {"seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
