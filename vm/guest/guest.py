# SPDX-License-Identifier: GPL-2.0-only
"""A running machine, and how one reaches into it."""

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from vm import machines
from vm.cmd import cmd
from vm.guest import ssh
from vm.models import model
from vm.paths import CHECKOUT, of_checkout, run_directory
from vm.qemu import monitor, tap
from vm.qemu.files import Files

SYNCED = ("toolkit", "probes", "vm")
#: The checkout's Python in a machine, as root: for its shell, with what it is to run behind it.
PYTHON = "cd /opt/toolkit/src && exec sudo /opt/toolkit/venv/bin/python"


@dataclass(frozen=True)
class Clock:
    """The machine's CLOCK_MONOTONIC minus the host's.

    :param offset_ns: add it to a time of the host to get the machine's.
    :param error_ns: the true offset is at most this far away.
    """

    offset_ns: int
    error_ns: int


@dataclass(frozen=True)
class Guest:
    """A running machine.

    :param name: what it runs under.
    :param kind: its entry in ``machines.yaml``.
    :param pid: its QEMU.
    :param port: the port of 127.0.0.1 that leads to its ssh.
    :param accel: how it is run (vm.qemu.accel).
    :param started: seconds since the epoch.
    :param models: the processes that are NICs of its own.
    """

    name: str
    kind: str
    pid: int
    port: int
    accel: str
    started: float
    models: tuple[int, ...] = ()

    @property
    def files(self) -> Files:
        return Files(run_directory(self.name))

    @property
    def machine(self) -> machines.Machine:
        return machines.find(self.kind)

    def ssh_argv(self, *options: str, alone: bool = False) -> list[str]:
        """The ssh command up to the host's name.

        :param options: more of ssh.
        :param alone: on a connection of its own, for what has a terminal: ssh writes to one and waits, and a
            terminal that is not read would hold up all that share the connection.
        """
        control = None if alone else self.files.directory / "ssh"
        return ssh.argv(self.port, control, *options)

    def ssh(
        self, command: str, *, check: bool = False, stdin: str | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the machine as its user, who may use sudo without a password.

        :param command: for the machine's shell.
        :param check: raise when the exit status is not 0.
        :param stdin: text for its standard input.
        :param timeout: seconds.
        :raises UserError: with ``check``, if the command failed.
        """
        done = cmd([*self.ssh_argv(), "--", command], check=False, stdin=stdin, timeout=timeout)
        if check and done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:] or ["no message"]
            raise UserError(
                f"{self.name}: `{command}` failed with status {done.returncode}: {' | '.join(said)}"
            )
        return done

    def module(self, words: str, *, timeout: float | None = None) -> str:
        """Run a module of the checkout in the machine, as root.

        :param words: its name, and its arguments for the machine's shell.
        :param timeout: seconds.
        :return: what it prints.
        :raises UserError: if it fails.
        """
        return self.ssh(f"{PYTHON} -m {words}", check=True, timeout=timeout).stdout

    def popen(self, command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a shell command in the machine; its input and output are pipes of text unless told otherwise.

        Ending it here closes the connection only: a command that should die with it reads its input, or has a
        terminal.
        """
        pipes: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return subprocess.Popen([*self.ssh_argv(), "--", command], text=True, **{**pipes, **options})

    def copy_to(self, source: Path | str, target: str) -> None:
        """Copy a file or directory into the machine."""
        self._rsync([str(source), f"{ssh.USER}@127.0.0.1:{target}"])

    def copy_from(self, source: str, target: Path | str) -> None:
        """Copy a file or directory out of the machine."""
        self._rsync([f"{ssh.USER}@127.0.0.1:{source}", str(target)])

    def _rsync(self, ends: list[str]) -> None:
        cmd(["rsync", "--archive", "--no-owner", "--no-group", "-e", shlex.join(self.ssh_argv()[:-1]), *ends])

    def sync(self) -> None:
        """Bring the checkout's code into the machine, to ``/opt/toolkit/src``."""
        pack = ["tar", "-C", str(CHECKOUT), "-cz", "--exclude=__pycache__"]
        pack += ["--mode=u+rw,go=rX", "--owner=0", "--group=0"]
        pack += [name for name in SYNCED if (CHECKOUT / name).exists()]
        self.unpack(pack, "cd /opt/toolkit/src && rm -rf -- * && exec tar -xz")

    def unpack(self, pack: Sequence[str], unpack: str) -> None:
        """Hand what a command here writes to a shell command of root's in the machine.

        :raises UserError: if one of them fails.
        """
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
            words = [*self.ssh_argv(), "--", f"sudo sh -c '{unpack}'"]
            done = subprocess.run(words, stdin=tar.stdout, capture_output=True, text=True)
        if done.returncode or tar.returncode:
            raise UserError(f"{self.name}: files could not be copied: {done.stderr.strip()}")

    def wire(self, number: int = 0) -> Path:
        """Where frames for a NIC under test go in, for :func:`vm.wire.sender.connect`.

        :param number: which, from 0.
        :return: a unix datagram socket; a tap, if the NIC has more than one queue.
        :raises UserError: if the machine has no such NIC, or it is on a hub.
        """
        if not 0 <= number < len(self.machine.nics):
            raise UserError(f"{self.name} has no NIC {number}; it has {len(self.machine.nics)}.")
        if self.machine.nics[number].hub:
            raise UserError(f"NIC {number} of {self.name} takes frames of its hub only.")
        if self.machine.nics[number].queues > 1:
            return tap.wire(namespace(self.name), number)
        return self.files.nic(number)

    def ask(self, *words: str, nic: int = 0) -> dict[str, Any]:
        """Ask a NIC of our own for its counts (``stats``), or tell it something (``link down``): vm/models.

        :param nic: which, from 0.
        :raises UserError: if there is no such NIC, or it knows no such words.
        """
        return model.ask(self.files, nic, *words)

    def limit_swap(self, limited: bool) -> None:
        """Let the disk that the machine swaps to be as slow as vm/machines.yaml says, or as fast as it can.

        :raises UserError: if QEMU does not do it.
        """
        if self.machine.swap:
            limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
            limits["bps"] = self.machine.swap.bytes_per_second if limited else 0
            monitor.tell(self.files.qmp, "block_set_io_throttle", {"device": "swap", **limits})

    def clock_offset(self, rounds: int = 20) -> Clock:
        """Compare the machine's CLOCK_MONOTONIC with the host's.

        The quickest of some round trips counts: its half is the most that the estimate can be wrong.

        :param rounds: how many round trips.
        """
        echo = "import sys, time\nfor line in sys.stdin: print(time.monotonic_ns(), flush=True)"
        samples = []
        unread = UserError(f"{self.name}: the machine's clock cannot be read.")
        try:
            with self.popen(f"exec python3 -I -S -u -c {shlex.quote(echo)}", stderr=None) as there:
                assert there.stdin is not None and there.stdout is not None
                for _ in range(rounds + 1):
                    before = time.monotonic_ns()
                    there.stdin.write("\n")
                    there.stdin.flush()
                    answer = there.stdout.readline()
                    after = time.monotonic_ns()
                    if not answer:
                        raise unread
                    samples.append((after - before, int(answer) - (before + after) // 2))
        except BrokenPipeError:
            raise unread from None
        trip, offset = min(samples[1:])
        return Clock(offset, (trip + 1) // 2)

    def alive(self) -> bool:
        """Whether its QEMU still runs."""
        return _is_qemu(self.pid, self.files)


def join(one: Guest, other: Guest) -> None:
    """Plug the first NIC under test of one machine into that of another."""
    for here, there in ((one, other), (other, one)):
        here.files.peer(0).unlink(missing_ok=True)
        here.files.peer(0).symlink_to(there.wire(0))


def namespace(name: str) -> str:
    """The network namespace of a machine's taps, if it has any."""
    return f"rx-stall-{of_checkout().name}-{name}"


def _is_qemu(pid: int, files: Files) -> bool:
    """Whether the process is the QEMU of that run directory, not another of the same number, nor a zombie."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(files.pid) in words
