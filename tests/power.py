# SPDX-License-Identifier: GPL-2.0-only
"""Cut the power of a machine that records under traffic, at random moments; see what is left each time.

    python -m tests.power [--cuts 20] [--seed 1] [--machine virtio-net]

The machine has a disk of its own that goes on from one boot to the next. Its QEMU is killed: the memory is
gone, and of the disk what QEMU itself held back, as a real disk's cache. Then the machine boots again, the
segments are brought here, and the next recorder starts beside them. Each segment has to be readable to its
last whole batch, and the last of them has to reach within `--sync` of the moment of the cut.
"""

import argparse
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from toolkit.errors import UserError, one_sentence
from toolkit.live.segments import SUFFIX
from toolkit.trace.reader import TraceReader
from vm import guest, machines
from vm.image import image
from vm.paths import CHECKOUT
from vm.qemu.command import mac
from vm.trial import ATTACH_SECONDS

LONGEST_S = 30.0
"""The power is cut at the latest so long after the recorder has begun."""
SYNC_S = 5.0
"""As `--sync` is by default."""
LATE_S = 5.0
"""So much later than that an emulated machine may have synced, on a host that has other work."""

_CLOCK = "import sys, time\nfor line in sys.stdin: print(time.monotonic_ns(), flush=True)"
_THERE, _PID = "/var/lib/rx-stall", "/run/record.pid"


@dataclass
class Found:
    """What was left after all power cuts.

    Attributes: `cuts`; `segments` that were read, over all of these; `cut_off` and `damaged`, how many of
    them had no end, or something behind it; `unborn`, those of which not even the beginning was on the disk;
    `lost_s`, for each cut, how long before it the last batch was drained that is there; `wrong`, a sentence
    for each thing that should not be.
    """

    cuts: int = 0
    segments: int = 0
    cut_off: int = 0
    damaged: int = 0
    unborn: int = 0
    lost_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cut:
    """A moment of the machine's CLOCK_MONOTONIC [ns], how long the recorder had run, and the newest segment
    of the recorder before."""

    at_ns: int
    recorded_s: float
    before: str


def run(kind: str, cuts: int, seed: int, scratch: Path) -> Found:
    """Boot a machine, record, cut its power, so many times, on one disk; then look once more."""
    found, chance = Found(), random.Random(seed)
    disk = scratch / "disk.qcow2"
    image.layer(image.ensure(machines.find(kind)), disk)
    cut: Cut | None = None
    for number in range(cuts + 1):
        machine = guest.up(f"power-{os.getpid()}", kind, disk=disk)
        try:
            segments = _bring(machine, scratch / str(number))
            if cut:
                lost = _look(segments, cut, found)
                print(
                    f"cut {found.cuts}: {cut.recorded_s:.1f} s recorded, the last {lost:.1f} s of them lost; "
                    f"so far {found.segments} segments read, {len(found.wrong)} wrong",
                    flush=True,
                )
            with _recorder(machine) as (process, lines):
                said = any("did not end by itself" in line for line in lines)
                if cut and segments and not said:
                    found.wrong.append("the next recorder took the one before for one that had ended.")
                if number == cuts:
                    machine.ssh(f"sudo kill -TERM $(cat {_PID})", check=True)
                    if process.wait(timeout=120):
                        found.wrong.append("the last recorder did not end well.")
                    break
                cut = _cut(machine, chance.uniform(0, LONGEST_S), segments)
        finally:
            if machine.alive():
                guest.down(machine)
    return found


def _cut(machine: guest.Guest, seconds: float, segments: list[Path]) -> Cut:
    """Let the recorder run for so long under traffic, then kill the machine."""
    # The clock of an emulated machine may go faster or slower than the host's: it is asked, not reckoned.
    with machine.popen(f"exec python3 -u -c {shlex.quote(_CLOCK)}") as clock, _traffic(machine):
        began = _time(clock)
        time.sleep(seconds)
        now = _time(clock)
        os.kill(machine.pid, signal.SIGKILL)
    before = segments[-1].name if segments else ""
    while machine.alive():
        time.sleep(0.05)
    return Cut(now, (now - began) / 1e9, before)


def _time(clock: subprocess.Popen[str]) -> int:
    """Ask a machine's CLOCK_MONOTONIC [ns]."""
    assert clock.stdin and clock.stdout
    clock.stdin.write("\n")
    clock.stdin.flush()
    return int(clock.stdout.readline())


@contextmanager
def _traffic(machine: guest.Guest) -> Iterator[None]:
    """Frames into the NIC under test, until the end of the block; nobody asks what became of them."""
    words = [sys.executable, "-m", "vm.wire", "--socket", str(machine.wire(0)), "--rate", "3000"]
    words += ["--dst", mac(0), "--duration", "86400"]
    with subprocess.Popen(
        words, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as sender:
        try:
            yield
        finally:
            sender.terminate()


@contextmanager
def _recorder(machine: guest.Guest) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Start a recorder; give it with what it said until it was ready.

    :raises UserError: if it does not start.
    """
    command = f"echo $$ >{_PID}; exec toolkit record -d eth1 -o {_THERE} --sync {SYNC_S:g}s"
    with machine.popen(f"exec sudo sh -c '{command}'") as process:
        lines: list[str] = []
        deadline = time.monotonic() + ATTACH_SECONDS
        for line in process.stderr or ():
            lines.append(line.rstrip())
            if line.startswith("recording ") or time.monotonic() > deadline:
                break
        if not lines or not lines[-1].startswith("recording "):
            process.kill()
            raise UserError(f"the recorder did not start: {' | '.join(lines[-3:]) or 'no message'}")
        yield process, lines
        process.kill()


def _bring(machine: guest.Guest, target: Path) -> list[Path]:
    """Copy the segments out of the machine, as the power cut has left them."""
    target.mkdir()
    pack = f"test ! -d {_THERE}/ring || sudo tar -C {_THERE}/ring -c ."
    done = subprocess.run([*machine.ssh_argv(), "--", pack], capture_output=True, timeout=300)
    if done.stdout:
        subprocess.run(["tar", "-C", str(target), "-x", "--touch"], input=done.stdout, check=True)
    return sorted(target.glob(f"*{SUFFIX}"))


def _look(segments: list[Path], cut: Cut, found: Found) -> float:
    """Read every segment, as far as it is whole; return how much is missing before the cut [s]."""
    found.cuts += 1
    last = 0
    for path in segments:
        try:
            reader = TraceReader(path)
        except UserError as error:
            # The recorder removes it when it starts. A segment begins while another has what was before.
            found.unborn += 1
            if path != segments[-1]:
                found.wrong.append(f"{path.name}: {error}")
            continue
        found.segments += 1
        for batch in reader:
            if path.name > cut.before:
                last = batch.note["now_ns"]
        if reader.damage:
            found.cut_off += "cut off" in reader.damage
            found.damaged += "cut off" not in reader.damage
            if "cut off" not in reader.damage and "damaged" not in reader.damage:
                found.wrong.append(reader.damage)
    lost = (cut.at_ns - last) / 1e9 if last else cut.recorded_s
    found.lost_s.append(lost)
    if lost > SYNC_S + LATE_S:
        found.wrong.append(f"of {cut.recorded_s:.1f} s the last {lost:.1f} s are missing.")
    return lost


@one_sentence("tests.power")
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cuts", type=int, default=20, help="1 or more")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--machine", default="virtio-net", metavar="KIND")
    options = parser.parse_args()
    with TemporaryDirectory(dir="/var/tmp") as scratch:
        found = run(options.machine, options.cuts, options.seed, Path(scratch))
    for sentence in found.wrong:
        print(sentence)
    lost = f"{median(found.lost_s):.1f} s, at most {max(found.lost_s):.1f} s"
    print(
        f"{found.cuts} power cuts: {found.segments} segments read, {found.cut_off} of them without an end, "
        f"{found.damaged} with something behind it, {found.unborn} without a beginning; "
        f"lost before the cut (median): {lost}; {len(found.wrong)} wrong."
    )
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
