# SPDX-License-Identifier: GPL-2.0-only
"""What all that runs in a testbed machine shares: refusal elsewhere, the log of phases, and cleaning up."""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from toolkit.errors import UserError

_MCL_CURRENT, _MCL_FUTURE = 1, 2  # include/uapi/asm-generic/mman.h
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
MIB = 1 << 20

#: EX_TEMPFAIL of sysexits.h.
MISSED = 75

MARKER = Path("/etc/rx-stall-testbed")


def options(description: str) -> argparse.ArgumentParser:
    """A parser with what every scenario takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="write the phases to this file, as JSON")
    return parser


def pressure_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a scenario that receives while :func:`pressure` lasts."""
    parser.add_argument("--duration", type=float, default=40.0, help="seconds of pressure")
    parser.add_argument("--dirty", type=int, default=750, help="MiB that are written over and over")
    parser.add_argument("--min-free", type=int, default=4096, help="vm.min_free_kbytes meanwhile")
    receiver_options(parser)
    parser.add_argument("--buffer", type=int, default=6, help="MiB that each socket may hold")


def receiver_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a scenario receives."""
    parser.add_argument("--device", default="eth1", help="the device that receives")
    parser.add_argument("--address", default="192.0.2.1/24", help="its address meanwhile")
    parser.add_argument("--ports", type=_ports, default="9000-9047", help="ports to receive on")


def _ports(text: str) -> range:
    """Return the ports of FIRST-LAST, or the one given."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def only_here(what: str) -> None:
    """Make sure that this is a testbed machine, whose `what` may be touched.

    :raises UserError: if it is not.
    """
    if not MARKER.exists():
        raise UserError(f"this is no testbed machine ({MARKER} is missing): its {what} are left alone.")


def begin(scenario: str, arguments: argparse.Namespace) -> Phases:
    """Make sure that this is a machine made to be starved, and that a signal still puts everything back.

    :param arguments: of the scenario: they stay in the log, for who compares runs.
    :return: an empty log of phases.
    """
    if not MARKER.exists():
        _refuse(
            f"{scenario} starves the machine that it runs on; "
            f"this is no testbed machine ({MARKER} is missing), so it does not."
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # The scenario must outlive the shortage that it makes.
    Path("/proc/self/oom_score_adj").write_text("-1000")
    parameters = {
        name: value if isinstance(value, int | float | str | None) else str(value)
        for name, value in sorted(vars(arguments).items())
        if name != "output"
    }
    return Phases(scenario, parameters)


class Phases:
    """What the scenario did when, on the clock of the traces (CLOCK_MONOTONIC, ns)."""

    def __init__(self, scenario: str, parameters: Mapping[str, int | float | str | None]) -> None:
        self.scenario = scenario
        self.parameters = parameters
        self.done: list[dict[str, str | int | bool]] = []

    @contextmanager
    def phase(self, name: str, *, shortage: bool = False) -> Iterator[None]:
        """Logs a phase, also one that is cut short.

        :param shortage: whether memory is kept short in it: recovery counts from its end.
        """
        start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        print(f"{self.scenario}: {name}", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            end = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            self.done.append({"name": name, "start_ns": start, "end_ns": end, "shortage": shortage})

    def write(self, output: Path | None) -> None:
        """Write {scenario, parameters: {option: value}, phases: [{name, start_ns, end_ns, shortage}]}.

        :param output: a file; None: standard output.
        """
        found = {"scenario": self.scenario, "parameters": self.parameters, "phases": self.done}
        text = json.dumps(found, indent=1)
        if output:
            output.write_text(text + "\n")
        else:
            print(text)


@contextmanager
def between(log: Phases, arguments: argparse.Namespace) -> Iterator[None]:
    """Rest before the block, for --before seconds, and after it, for --after: each is a phase."""
    with log.phase("before"):
        time.sleep(arguments.before)
    yield
    with log.phase("after"):
        time.sleep(arguments.after)


@contextmanager
def sysctl(name: str, value: str) -> Iterator[None]:
    """Set a kernel parameter for the length of the block, then put the old value back."""
    path = Path("/proc/sys", name.replace(".", "/"))
    old = path.read_bytes()
    # Opened before: the way back must not need memory that may not be there then.
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, value.encode())
        yield
    finally:
        os.pwrite(file, old, 0)
        os.close(file)


@contextmanager
def without_zone_dma() -> Iterator[None]:
    """Keep ZONE_DMA for those who ask for it: its 15 MiB are enough for a ring that only turns over.

    A zone's pages are kept from requests for higher zones by their size over this ratio
    (setup_per_zone_lowmem_reserve in mm/page_alloc.c).
    """
    _, others = Path("/proc/sys/vm/lowmem_reserve_ratio").read_text().split(maxsplit=1)
    with sysctl("vm.lowmem_reserve_ratio", f"1 {others}"):
        yield


@contextmanager
def pressure(dirty: int, min_free: int) -> Iterator[None]:
    """Memory that is dirtied faster than it can be swapped, for the length of the block.

    :param dirty: bytes that are written over and over.
    :param min_free: vm.min_free_kbytes meanwhile. The kernel's own formula (calculate_min_free_kbytes,
        mm/page_alloc.c) gives some 4000 for 1 GiB, and khugepaged raises that tenfold.
    """
    with without_zone_dma(), sysctl("vm.min_free_kbytes", str(min_free)), child(lambda: _dirty(dirty)):
        yield


def _dirty(size: int) -> None:
    """Write to random pages of `size` bytes, for ever."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages = size // mmap.PAGESIZE
    while True:
        memory[random.randrange(pages) * mmap.PAGESIZE] = random.randrange(256)


@contextmanager
def address(device: str, network: str) -> Iterator[None]:
    """Give a device an address for the time of the scenario."""
    subprocess.run(["ip", "address", "replace", network, "dev", device], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "address", "del", network, "dev", device], check=False)


@contextmanager
def unread(ports: range, size: int) -> Iterator[list[socket.socket]]:
    """UDP sockets that take `size` bytes each, and that nobody reads, for the length of the block."""
    sockets = []
    with ExitStack() as stack:
        for port in ports:
            found = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
            found.bind(("", port))
            sockets.append(found)
        yield sockets


def meminfo(name: str) -> int:
    """A value of /proc/meminfo, in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, value, *_ = line.split()
        if key == f"{name}:":
            return int(value) * 1024
    raise KeyError(name)


@contextmanager
def free_memory() -> Iterator[Callable[[], int]]:
    """Look at how many bytes are free. A look takes no memory: where that is short, it would not return."""
    # MemTotal and MemFree are the first two lines.
    text = bytearray(64)
    with Path("/proc/meminfo").open("rb", buffering=0) as file:

        def free() -> int:
            os.preadv(file.fileno(), [text], 0)
            start = text.index(b"MemFree:") + 8
            return int(text[start : text.index(b"kB", start)]) * 1024

        free()
        yield free


def missed(sentence: str) -> NoReturn:
    """End a scenario whose shortage did not come about: it may be run again."""
    print(sentence, file=sys.stderr)
    sys.exit(MISSED)


@contextmanager
def child(run: Callable[[], None]) -> Iterator[int]:
    """Run a function in a child process, which may be swapped out, until the end.

    :return: its process id.
    :raises SystemExit: if it did not live as long as the block.
    """
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            run()
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        yield pid
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            sys.exit("a process of the scenario ended too early.")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def stay() -> None:
    """Keep this process in memory: one that has to read its own code from the disk cannot end a shortage."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        raise OSError(ctypes.get_errno(), "mlockall")


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(1)
