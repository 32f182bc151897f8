# SPDX-License-Identifier: GPL-2.0-only
"""Starts and stops machines, and reaches into a running one.

A machine is a QEMU process in the background and a run directory; nothing else remembers it.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

from toolkit.errors import UserError
from vm import emulator, machines, qemu, tap
from vm.cmd import cmd
from vm.image import image
from vm.models import model
from vm.paths import CHECKOUT, of_checkout

USER = "vagrant"
BOOT_SECONDS = 180
GRACE_SECONDS = 5.0
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
    :param accel: ``tcg`` or ``kvm``.
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
    def files(self) -> qemu.Files:
        return qemu.Files(run_directory(self.name))

    @property
    def machine(self) -> machines.Machine:
        return machines.find(self.kind)

    def ssh_argv(self, *options: str, alone: bool = False) -> list[str]:
        """The ssh command up to the host's name.

        :param options: more of ssh.
        :param alone: on a connection of its own, for what has a terminal: ssh writes to one and waits, and a
            terminal that is not read would hold up all that share the connection.
        """
        control = self.files.directory / "ssh"
        settings = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": "10",
            # The cheapest that both ends have: under software emulation the default takes a second longer.
            "KexAlgorithms": "curve25519-sha256",
            "PreferredAuthentications": "publickey",
            "ServerAliveInterval": "30",
            "ServerAliveCountMax": "20",
        }
        if not alone:
            settings |= {"ControlMaster": "auto", "ControlPersist": "yes", "ControlPath": str(control)}
        words = ["ssh", "-F", "none", "-i", str(_key()), "-p", str(self.port), "-l", USER]
        for name, value in settings.items():
            words += ["-o", f"{name}={value}"]
        return [*words, *options, "127.0.0.1"]

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
        self._rsync([str(source), f"{USER}@127.0.0.1:{target}"])

    def copy_from(self, source: str, target: Path | str) -> None:
        """Copy a file or directory out of the machine."""
        self._rsync([f"{USER}@127.0.0.1:{source}", str(target)])

    def _rsync(self, ends: list[str]) -> None:
        cmd(["rsync", "--archive", "--no-owner", "--no-group", "-e", shlex.join(self.ssh_argv()[:-1]), *ends])

    def sync(self) -> None:
        """Bring the checkout's code into the machine, to ``/opt/toolkit/src``."""
        pack = ["tar", "-C", str(CHECKOUT), "-cz", "--exclude=__pycache__"]
        pack += ["--mode=u+rw,go=rX", "--owner=0", "--group=0"]
        pack += [name for name in SYNCED if (CHECKOUT / name).exists()]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
            unpack = "sudo sh -c 'cd /opt/toolkit/src && rm -rf -- * && exec tar -xz'"
            done = subprocess.run(
                [*self.ssh_argv(), "--", unpack], stdin=tar.stdout, capture_output=True, text=True
            )
        if done.returncode or tar.returncode:
            raise UserError(f"{self.name}: the code could not be copied: {done.stderr.strip()}")

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
            _tell(self.files.qmp, "block_set_io_throttle", {"device": "swap", **limits})

    def clock_offset(self, rounds: int = 20) -> Clock:
        """Compare the machine's CLOCK_MONOTONIC with the host's.

        The quickest of some round trips counts: its half is the most that the estimate can be wrong.

        :param rounds: how many round trips.
        """
        echo = "import sys, time\nfor line in sys.stdin: print(time.monotonic_ns(), flush=True)"
        samples = []
        unread = UserError(f"{self.name}: the machine's clock cannot be read.")
        try:
            with self.popen(f"exec python3 -u -c {shlex.quote(echo)}", stderr=None) as there:
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


def run_directory(name: str) -> Path:
    """Where a machine of this checkout keeps its files while it runs."""
    return of_checkout() / "run" / name


def namespace(name: str) -> str:
    """The network namespace of a machine's taps, if it has any."""
    return f"rx-stall-{of_checkout().name}-{name}"


def known() -> list[Guest]:
    """The machines of this checkout that were started and not stopped; some may have died."""
    guests = (_read(path) for path in sorted((of_checkout() / "run").glob("*/state.json")))
    return [guest for guest in guests if guest is not None]


def running() -> list[Guest]:
    """The machines of this checkout that run now."""
    return [guest for guest in known() if guest.alive()]


def find(name: str) -> Guest:
    """The running machine of that name.

    :raises UserError: if there is none.
    """
    guest = _read(qemu.Files(run_directory(name)).state)
    if guest is None:
        raise UserError(f"{name} is not running: start it with `python -m vm up {name}`.")
    if not guest.alive():
        raise UserError(f"{name} has died; {_last_words(guest)}")
    return guest


def command_line(name: str, kind: str, accel: str | None = None) -> list[str]:
    """The QEMU command that :func:`up` would run; nothing is started, and only a missing image is built."""
    machine = machines.find(kind)
    built = image.ensure(machine)
    files = qemu.Files(run_directory(name))
    program = emulator.ensure()
    return qemu.argv(
        machine,
        built,
        files,
        accel=_accel(accel, built, program),
        port=_free_port(),
        key=_public_key(),
        taps={},
        emulator=program,
    )


class NoAnswerError(UserError):
    """A machine was started, lives, and does not answer."""


def up(name: str, kind: str | None = None, *, accel: str | None = None) -> Guest:
    """Start a machine, wait until ssh answers, and bring the code into it.

    One that hangs is started once more: of the boots of an emulated 7.x kernel with two CPUs one of four did,
    without a word on its console.

    :param name: what it runs under.
    :param kind: its entry in ``machines.yaml``; the name itself by default.
    :param accel: ``tcg`` or ``kvm``; chosen by a trial boot by default.
    :return: the running machine.
    :raises UserError: if it runs already, or does not come up.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", name):
        raise UserError(
            f"{name!r} is no name for a machine: letters, digits, dots and dashes, at most 41 of them."
        )
    machine = machines.find(kind or name)
    try:
        return _up(name, machine, accel)
    except NoAnswerError as error:
        _say(f"{error}\n{name}: starting it once more")
        return _up(name, machine, accel)


def _up(name: str, machine: machines.Machine, accel: str | None) -> Guest:
    built = image.ensure(machine)
    program = emulator.ensure()
    chosen = _accel(accel, built, program)
    with ExitStack() as stack:
        stack.enter_context(_lock(name))
        files = qemu.Files(run_directory(name))
        old = _read(files.state)
        if old is not None and old.alive():
            raise UserError(f"{name} is already running; stop it with `python -m vm down {name}`.")
        if old is not None:
            _stop(old)
        _forget(name)
        files.directory.mkdir(mode=0o700, parents=True)
        if machine.swap:
            with files.swap.open("wb") as swap:
                swap.truncate(machine.swap.gib << 30)
        taps = _taps(name, machine)
        port = _free_port()
        words = qemu.argv(
            machine, built, files, accel=chosen, port=port, key=_public_key(), taps=taps, emulator=program
        )
        began = time.monotonic()
        _say(f"{name}: starting with {chosen}")
        failed = stack.enter_context(ExitStack())
        models = []
        for number, nic in enumerate(machine.nics):
            if nic.ours:
                models.append(model.start(number, nic, files))
                failed.callback(model.stop, models[-1], files)
        passed = [descriptor for queues in taps.values() for descriptor in queues]
        with files.log.open("wb") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=passed,
            )
        for descriptor in passed:
            os.close(descriptor)
        guest = Guest(name, machine.name, process.pid, port, chosen, time.time(), tuple(models))
        failed.callback(_stop, guest)
        files.state.write_text(json.dumps(asdict(guest)))
        _wait_for_ssh(guest, process)
        guest.sync()
        _start(guest)
        failed.pop_all()
        _say(f"{name}: up after {time.monotonic() - began:.0f} s")
    return guest


def down(guest: Guest) -> None:
    """Stop a machine and forget it."""
    with _lock(guest.name):
        _stop(guest)
        _forget(guest.name)


@contextmanager
def machine(kind: str, *, name: str | None = None, accel: str | None = None) -> Iterator[Guest]:
    """A machine for the length of a ``with`` block.

    :param kind: its entry in ``machines.yaml``.
    :param name: what it runs under; a fresh name by default, so that it meets no other.
    :param accel: ``tcg`` or ``kvm``; chosen by a trial boot by default.
    """
    guest = up(name or f"{kind}.{secrets.token_hex(3)}", kind, accel=accel)
    try:
        yield guest
    finally:
        down(guest)


def _forget(name: str) -> None:
    tap.delete_namespace(namespace(name))
    shutil.rmtree(run_directory(name), ignore_errors=True)


def _taps(name: str, machine: machines.Machine) -> dict[int, list[int]]:
    """Make the taps of a machine.

    :return: the descriptors of its queues by the number of the NIC.
    """
    several = {number: nic.queues for number, nic in enumerate(machine.nics) if nic.queues > 1}
    if several:
        tap.create_namespace(namespace(name))
    return {
        number: tap.open_queues(tap.wire(namespace(name), number), queues)
        for number, queues in several.items()
    }


def _wait_for_ssh(guest: Guest, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    told = time.monotonic()
    while True:
        if process.poll() is not None:
            raise UserError(f"{guest.name} died while it started; {_last_words(guest)}")
        if _answers(guest.port):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if guest.ssh("true", timeout=60).returncode == 0:
                    return
        if time.monotonic() > deadline:
            raise NoAnswerError(f"{guest.name} did not answer within {BOOT_SECONDS} s; {_last_words(guest)}")
        if time.monotonic() - told > 10:
            told = time.monotonic()
            _say(f"{guest.name}: waiting for ssh, {BOOT_SECONDS - (deadline - told):.0f} s")
        time.sleep(0.1)


def _start(guest: Guest) -> None:
    """Start what a machine has running in it."""
    for words in guest.machine.start:
        _say(f"{guest.name}: {words}")
        guest.module(words)


def _answers(port: int) -> bool:
    # QEMU accepts at once, and closes again while nobody listens in the guest: only the banner is proof.
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        return connection.recv(4) == b"SSH-"
    return False


def _last_words(guest: Guest) -> str:
    lines = []
    files = guest.files
    for path in (*map(files.model, range(len(guest.models))), files.log, files.console):
        with contextlib.suppress(OSError):
            said = path.read_text(errors="replace").strip().splitlines()
            # What follows the reason is a page of registers.
            lines += [line for line in said[:-6] if "Kernel panic" in line or "BUG:" in line] + said[-6:]
    return f"its last words were (see {guest.files.console}):\n  " + "\n  ".join(lines or ["(none)"])


def _stop(guest: Guest) -> None:
    """End exactly this QEMU, by its monitor, then by signals; and after it the NICs that are our own."""
    files = guest.files
    _close_ssh(guest)
    ends: list[Callable[[], None]] = [
        lambda: _quit(files.qmp),
        lambda: _kill(guest, signal.SIGTERM),
        lambda: _kill(guest, signal.SIGKILL),
    ]
    for end in ends:
        if not guest.alive():
            break
        end()
        deadline = time.monotonic() + GRACE_SECONDS
        while guest.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
    if guest.alive():
        raise UserError(f"{guest.name} cannot be stopped (pid {guest.pid}).")
    for pid in guest.models:
        model.stop(pid, files)


def _close_ssh(guest: Guest) -> None:
    if (guest.files.directory / "ssh").exists():
        cmd(guest.ssh_argv("-O", "exit"), check=False, timeout=10)


def _quit(path: Path) -> None:
    with contextlib.suppress(OSError, UserError):
        _tell(path, "quit", {})


def _tell(path: Path, command: str, arguments: Mapping[str, Any]) -> None:
    """Tell QEMU something, in its machine protocol (QMP).

    :raises OSError: if it cannot be reached.
    :raises UserError: if it refuses, or ends.
    """
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(10)
        monitor.connect(str(path))
        with monitor.makefile("rw") as lines:
            for number, (name, given) in enumerate((("qmp_capabilities", {}), (command, arguments))):
                lines.write(json.dumps({"execute": name, "arguments": given, "id": number}) + "\n")
                lines.flush()
                # It says other things, too: a greeting, and events.
                answer = next((said for said in map(json.loads, lines) if said.get("id") == number), None)
                if answer is None or "error" in answer:
                    raise UserError(f"QEMU does not {name}: {answer and answer['error']['desc']}")


def _kill(guest: Guest, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(guest.pid, number)


def _is_qemu(pid: int, files: qemu.Files) -> bool:
    """Whether the process is the QEMU of that run directory, not another of the same number, nor a zombie."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(files.pid) in words


def _read(state: Path) -> Guest | None:
    try:
        found = json.loads(state.read_text())
        return Guest(**{**found, "models": tuple(found.get("models", ()))})
    except (OSError, ValueError, TypeError):
        return None


def _accel(wanted: str | None, built: image.Image, program: Sequence[str]) -> qemu.Accel:
    if wanted is None:
        return qemu.choose_accel(built, _say, program)
    if wanted in get_args(qemu.Accel):
        return cast(qemu.Accel, wanted)
    raise UserError(f"{wanted} is no accelerator; tcg and kvm are.")


def _key() -> Path:
    path = of_checkout() / "key"
    if not path.exists():
        with _lock(".key"):
            if not path.exists():
                cmd(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rx-stall testbed", "-f", path])
    return path


def _public_key() -> str:
    return _key().with_suffix(".pub").read_text().strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _lock(name: str) -> Iterator[None]:
    directory = of_checkout() / "locks"
    directory.mkdir(exist_ok=True)
    with (directory / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
