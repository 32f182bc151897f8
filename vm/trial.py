# SPDX-License-Identifier: GPL-2.0-only
"""One trial: a scenario in a machine under traffic, its trace, and the witnesses of it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from vm.guest import PYTHON, Guest
from vm.inside.testbed import MISSED
from vm.paths import CHECKOUT
from vm.qemu.command import mac

#: How long a trace may take to compile and attach (s): half a minute where the machine is busy.
ATTACH_SECONDS = 240
#: How long a trace may take to begin a new file (s).
CUT_SECONDS = 60
#: Where a scenario's sockets listen (vm/inside/scenarios/pressure.py).
PORTS = "9000-9047"

_THERE = "/var/tmp/trial"

#: What the kernel says of a process that it has ended.
_ENDED = "segfault|general protection|traps:|Killed process"


@dataclass(frozen=True)
class Traffic:
    """Frames for a NIC under test: which one, how many a second, of how many bytes, to which UDP ports."""

    nic: int = 0
    rate: int = 6000
    size: int = 1500
    ports: str = PORTS


@dataclass(frozen=True)
class Files:
    """What a trial leaves; `phases` is missing where there was no scenario."""

    trace: Path
    witness: Path
    phases: Path
    log: Path


class NoShortageError(UserError):
    """A scenario ran, and the shortage that it was to make did not come about: it may be run again."""


class Tracing:
    """`sudo toolkit trace` that runs in a machine.

    :param guest: the machine.
    :param pid: its process there.
    :param path: the trace's first file there.
    :param lines: what the command has printed so far; another thread adds to it.
    """

    def __init__(self, guest: Guest, pid: str, path: str, lines: list[str]) -> None:
        self.guest = guest
        self.pid = pid
        self._current = path
        self._lines = lines
        self._seen = len(lines)

    def cut(self) -> str:
        """End the file that is being written; the trace goes on in another.

        :return: the name in the machine of the file that was ended.
        :raises UserError: if the trace says nothing of it.
        """
        self.guest.ssh(f"sudo kill -USR1 {self.pid}", check=True, timeout=CUT_SECONDS)
        deadline = time.monotonic() + CUT_SECONDS
        while time.monotonic() < deadline:
            for line in self._lines[self._seen :]:
                self._seen += 1
                if moved := re.fullmatch(r"(\S+) is ended; the trace goes on in (\S+)\.", line):
                    ended, self._current = moved.groups()
                    return ended
            time.sleep(0.05)
        raise UserError(f"{self.guest.name}: the trace began no new file within {CUT_SECONDS} s.")


def run(
    guest: Guest,
    driver: str,
    out: Path,
    *,
    scenario: Sequence[str] = (),
    seconds: float = 0.0,
    traffic: Traffic | Mapping[Path, Traffic] | None = None,
    options: Sequence[str] = (),
    running: Tracing | None = None,
    then: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Files:
    """Traces a driver in a machine while a scenario runs there and frames arrive.

    :param driver: to trace.
    :param out: the directory for what the trial leaves; it is made.
    :param scenario: module under vm.inside.scenarios and its options; none: just wait for `seconds`.
    :param traffic: frames for one NIC; or file of the sender's account -> frames for a NIC; None: no frames.
    :param options: more of `toolkit trace`.
    :param running: a trace that runs already, of which the trial is a file.
    :param then: is called when the scenario is over and no frames are sent, while the trace goes on.
    :raises UserError: if the trace does not start or the scenario fails.
    :raises NoShortageError: if the scenario says that its shortage did not come about.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = Files(out / "trace.rxt", out / "witness.json", out / "phases.json", out / "trial.log")
    before = running.cut() if running else ""
    guest.ssh(f"sudo rm -rf {_THERE} {before} && mkdir {_THERE}", check=True, timeout=60)
    move = ""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(files.log.open("w"))
        path = f"{_THERE}/trace.rxt"
        own = tracing(guest, driver, path, options=options, log=log.write)
        with contextlib.nullcontext() if running else own:
            say(f"tracing {driver} in {guest.name}")
            # What has no wire has its traffic from the scenario, and the witness, too.
            sent = {files.witness: traffic} if isinstance(traffic, Traffic) else traffic
            with wires(guest, sent) if sent and _has_wire(guest) else contextlib.nullcontext():
                if scenario:
                    say(f"scenario {' '.join(scenario)}")
                    _scenario(guest, scenario)
                time.sleep(seconds)
                # All is over: what was swapped out is to come back soon.
                stack.callback(guest.limit_swap, True)
                guest.limit_swap(False)
            then()
            if running:
                move = f"mv {running.cut()} {path} && "
        say("trace written")
    # One way into the machine and one out of it: each takes an emulated CPU up to a second.
    guest.ssh(f"sudo sh -c '{move}rm -f {path}.pid && chown -R '$(id -u)' {_THERE}'", check=True, timeout=120)
    guest.copy_from(f"{_THERE}/", out)
    return files


def _has_wire(guest: Guest) -> bool:
    return any(not nic.hub for nic in guest.machine.nics)


def _scenario(guest: Guest, scenario: Sequence[str]) -> None:
    name, *options = scenario
    done = guest.ssh(f"{PYTHON} -m vm.inside.scenarios.{name} {' '.join(options)} -o {_THERE}/phases.json")
    if done.returncode == MISSED:
        raise NoShortageError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise UserError(f"{guest.name}: the scenario {name} failed: {done.stderr.strip()[-400:]}")


@contextmanager
def tracing(
    guest: Guest,
    driver: str,
    path: str,
    *,
    options: Sequence[str] = (),
    log: Callable[[str], object] = sys.stderr.write,
) -> Iterator[Tracing]:
    """Trace in a machine, from when everything is attached to the end of the block.

    :param path: the trace in the machine; PATH.pid holds the process while it runs.
    :param log: is given what the command prints.
    :raises UserError: if it does not start, or does not end well.
    """
    command = f"toolkit trace {driver} -o {path} {' '.join(options)}"
    with guest.popen(f"exec sudo sh -c 'echo $$ > {path}.pid; exec {command}'", stdout=None) as process:
        lines: list[str] = []
        ready = threading.Event()

        def listen() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                lines.append(line.rstrip())
                log(line)
                if line.startswith("tracing "):
                    ready.set()
            ready.set()

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        if (
            not ready.wait(ATTACH_SECONDS)
            or process.poll() is not None
            or not lines[-1].startswith("tracing ")
        ):
            process.kill()
            # A process that was killed, or went wrong, says nothing itself.
            kernel = guest.ssh(f"sudo dmesg | grep -E '{_ENDED}' | tail -n 2", timeout=60).stdout
            said = [*lines[-3:], f"status {process.wait()}", *kernel.splitlines()]
            raise UserError(f"{guest.name}: the trace did not start: {' | '.join(said)}.")
        number = guest.ssh(f"cat {path}.pid", check=True, timeout=120).stdout.strip()
        try:
            yield Tracing(guest, number, path, lines)
        finally:
            guest.ssh(f"sudo kill -INT {number}", timeout=300)
            if process.wait(timeout=600):
                raise UserError(f"{guest.name}: the trace failed: {' | '.join(lines[-3:])}")
            listener.join(10)


@contextmanager
def wire(guest: Guest, traffic: Traffic, witness: Path) -> Iterator[None]:
    """Frames into a NIC for the length of the block; then the sender's account, in the machine's time."""
    with wires(guest, {witness: traffic}):
        yield


@contextmanager
def wires(guest: Guest, traffic: Mapping[Path, Traffic]) -> Iterator[None]:
    """Frames into several NICs; the machine's clock is read once for all of them.

    :param traffic: file of the sender's account -> what it sends.
    """
    before = guest.clock_offset()
    with contextlib.ExitStack() as stack:
        senders = {
            witness: stack.enter_context(_sender(guest, each, witness)) for witness, each in traffic.items()
        }
        try:
            for sender in senders.values():
                # On a busy host it takes a while to begin. No line: it has ended, and says why.
                assert sender.stdout is not None
                sender.stdout.readline()
            yield
        finally:
            for sender in senders.values():
                sender.send_signal(signal.SIGINT)
            said = [sender.communicate(timeout=60)[1] for sender in senders.values()]
    for sender, words in zip(senders.values(), said, strict=True):
        if sender.returncode:
            raise UserError(f"the sender failed: {words.decode(errors='replace').strip()}")
    after = guest.clock_offset()
    better = min(before, after, key=lambda clock: clock.error_ns)
    for witness, each in traffic.items():
        account = json.loads(witness.read_text())
        if guest.machine.nics[each.nic].ours:
            account = _with_nic(account, guest.ask("stats", nic=each.nic))
        account["device"] = f"eth{each.nic + 1}"
        account["clock"] = asdict(better)
        witness.write_text(json.dumps(account, indent=1) + "\n")


def _sender(guest: Guest, traffic: Traffic, witness: Path) -> subprocess.Popen[bytes]:
    """Start a sender, which says a line when it begins and writes its account when it is interrupted."""
    words = [sys.executable, "-m", "vm.wire", "--socket", str(guest.wire(traffic.nic))]
    words += ["--size", str(traffic.size), "--rate", str(traffic.rate), "--duration", "86400"]
    words += ["--dst", mac(traffic.nic), "--ports", traffic.ports, "-o", str(witness)]
    return subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _with_nic(account: dict[str, Any], stats: dict[str, Any]) -> dict[str, Any]:
    """Add what a NIC of our own dropped for want of a buffer: its wire never refuses a frame.

    :param account: the sender's.
    :param stats: the NIC's counts (vm/models/qlge_nic), which stay in the account as `nic`.
    :return: the account; what was dropped is refused, and not sent.
    """
    gaps = [
        gap
        for ring in stats["rings"]
        for kind in ("gaps_lbq", "gaps_sbq")
        for gap in ring[kind]
        if gap["start_ns"] >= account["started_ns"]
    ]
    dropped = sum(gap["refused"] for gap in gaps)
    return {
        **account,
        "sent": account["sent"] - dropped,
        "refused": account["refused"] + dropped,
        "gaps": sorted([*account["gaps"], *gaps], key=lambda gap: int(gap["start_ns"])),
        "nic": stats,
    }
