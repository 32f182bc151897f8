# SPDX-License-Identifier: GPL-2.0-only
"""A real-time thread that keeps a CPU to itself, while NAPI's own thread of a device is bound to that CPU.

With --softirqs NAPI has no thread: the CPU takes the device's interrupts. Before Linux 6.5, softirqs are left
to ksoftirqd as soon as that is to run (ksoftirqd_running in kernel/softirq.c), and it does not get the CPU.
It is chance when ksoftirqd is to run: the scenario waits until it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from vm.inside import testbed

PROC = Path("/proc")
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
                threads = stack.enter_context(poll_on(arguments.device, arguments.cpu))
            with testbed.between(log, arguments), busy(arguments.cpu):
                if not wait_for_any(threads):
                    testbed.missed("hog: no poll waited for the CPU; frames have to come meanwhile.")
                with log.phase("hog"):
                    time.sleep(arguments.hold)
    finally:
        log.write(arguments.output)


@contextmanager
def threaded(device: str, cpu: int) -> Iterator[list[int]]:
    """Have NAPI poll a device in threads of its own, all of them on one CPU; the value is their ids."""
    switch = Path("/sys/class/net", device, "threaded")
    switch.write_text("1")
    try:
        threads = threads_called(f"napi/{device}-*")
        for thread in threads:
            os.sched_setaffinity(thread, {cpu})
        yield threads
    finally:
        switch.write_text("0")


@contextmanager
def interrupted(device: str, cpu: int) -> Iterator[list[int]]:
    """Have one CPU take all interrupts of a virtio device; the value is the id of its ksoftirqd."""
    places = [Path("/proc/irq", number, "smp_affinity_list") for number in irqs(device)]
    before = [place.read_text() for place in places]
    for place in places:
        place.write_text(str(cpu))
    try:
        yield threads_called(f"ksoftirqd/{cpu}")
    finally:
        for place, usual in zip(places, before, strict=True):
            place.write_text(usual)


def irqs(device: str, sys: Path = Path("/sys")) -> list[str]:
    """Return the numbers of the interrupts of a virtio network device: those of its PCI device."""
    pci = (sys / "class/net" / device / "device").resolve().parent
    return sorted(path.name for path in (pci / "msi_irqs").iterdir())


def threads_called(name: str, proc: Path = PROC) -> list[int]:
    """Return the ids of the kernel's threads of a name, in which * stands for anything (fnmatch)."""
    names = ((path.parent, path.read_text().strip()) for path in proc.glob("[0-9]*/comm"))
    return sorted(int(path.name) for path, called in names if fnmatchcase(called, name))


@contextmanager
def busy(cpu: int) -> Iterator[None]:
    """Keep a CPU busy with a SCHED_FIFO process of priority 50, which no ordinary thread interrupts."""
    hog = subprocess.Popen(
        ["taskset", "-c", str(cpu), "chrt", "-f", "50", sys.executable, "-c", _SPIN],
    )
    try:
        while hog.poll() is None and (PROC / f"{hog.pid}/comm").read_text() != "hog\n":
            time.sleep(0.01)
        yield
    finally:
        hog.kill()
        hog.wait()


def wait_for_any(threads: list[int], proc: Path = PROC, seconds: float = 10.0) -> bool:
    """Wait until one of these threads is to run, and return whether one is."""
    deadline = time.monotonic() + seconds
    while not (found := any(state(thread, proc) == "R" for thread in threads)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return found


def state(thread: int, proc: Path = PROC) -> str:
    """Return the state of a thread: R, if it has a CPU or is to have one (man 5 proc_pid_stat)."""
    return (proc / str(thread) / "stat").read_text().rpartition(") ")[2][0]


if __name__ == "__main__":
    main()
