# SPDX-License-Identifier: GPL-2.0-only
"""A real-time thread that keeps a CPU to itself, while NAPI's own thread of a device is bound to that CPU.

With --softirqs NAPI has no thread: the CPU takes the device's interrupts. Before Linux 6.5, softirqs are left
to ksoftirqd as soon as that is to run (ksoftirqd_running in kernel/softirq.c), and it does not get the CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vm.inside import testbed

_SPIN = """
with open("/proc/self/comm", "w") as name:
    name.write("hog")
while True:
    pass
"""


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--device", default="eth1", help="the device that receives")
    parser.add_argument("--cpu", type=int, default=1, help="the CPU that is taken")
    parser.add_argument("--softirqs", action="store_true", help="leave NAPI to softirqs of that CPU")
    parser.add_argument("--hold", type=float, default=2.0, help="seconds for which it is taken")
    parser.add_argument("--before", type=float, default=2.0, help="seconds before that")
    parser.add_argument("--after", type=float, default=2.0, help="seconds to go on after that")
    arguments = parser.parse_args()

    log = testbed.begin("hog", arguments)
    try:
        with ExitStack() as stack:
            with log.phase("prepare"):
                stack.enter_context(testbed.sysctl("kernel.sched_rt_runtime_us", "-1"))
                poll_on = interrupted if arguments.softirqs else threaded
                stack.enter_context(poll_on(arguments.device, arguments.cpu))
            with testbed.between(log, arguments), log.phase("hog"):
                spin(arguments.cpu, arguments.hold)
    finally:
        log.write(arguments.output)


@contextmanager
def threaded(device: str, cpu: int) -> Iterator[None]:
    """Have NAPI poll a device in threads of its own, all of them on one CPU."""
    switch = Path("/sys/class/net", device, "threaded")
    switch.write_text("1")
    try:
        for thread in napi_threads(device):
            os.sched_setaffinity(thread, {cpu})
        yield
    finally:
        switch.write_text("0")


@contextmanager
def interrupted(device: str, cpu: int) -> Iterator[None]:
    """Have one CPU take all interrupts of a virtio device."""
    places = [Path("/proc/irq", number, "smp_affinity_list") for number in irqs(device)]
    before = [place.read_text() for place in places]
    for place in places:
        place.write_text(str(cpu))
    try:
        yield
    finally:
        for place, usual in zip(places, before, strict=True):
            place.write_text(usual)


def irqs(device: str, sys: Path = Path("/sys")) -> list[str]:
    """Return the numbers of the interrupts of a virtio network device: those of its PCI device."""
    pci = (sys / "class/net" / device / "device").resolve().parent
    return sorted(path.name for path in (pci / "msi_irqs").iterdir())


def napi_threads(device: str, proc: Path = Path("/proc")) -> list[int]:
    """Return the ids of the kernel's threads that poll a device: napi/DEVICE-NUMBER, cut to 15 characters."""
    names = ((path.parent, path.read_text().strip()) for path in proc.glob("[0-9]*/comm"))
    return sorted(int(path.name) for path, name in names if name.startswith(f"napi/{device}"))


def spin(cpu: int, seconds: float) -> None:
    """Keep a CPU busy with a SCHED_FIFO process of priority 50, which no ordinary thread interrupts."""
    busy = subprocess.Popen(
        ["taskset", "-c", str(cpu), "chrt", "-f", "50", sys.executable, "-c", _SPIN],
    )
    try:
        time.sleep(seconds)
    finally:
        busy.kill()
        busy.wait()


if __name__ == "__main__":
    main()
