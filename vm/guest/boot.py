# SPDX-License-Identifier: GPL-2.0-only
"""Start machines, and wait until they answer."""

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import cast, get_args

from toolkit.errors import UserError
from vm import machines
from vm.guest import programs, ssh
from vm.guest.guest import Guest, namespace
from vm.guest.lifecycle import down, forget, last_words, read, stop
from vm.image import image
from vm.models import model
from vm.paths import locked, run_directory
from vm.qemu import command, emulator, tap
from vm.qemu.accel import Accel, choose_accel
from vm.qemu.files import Files

BOOT_SECONDS = 180


class NoAnswerError(UserError):
    """A machine was started, lives, and does not answer."""


def up(name: str, kind: str | None = None, *, accel: str | None = None, disk: Path | None = None) -> Guest:
    """Start a machine, wait until ssh answers, and bring the code into it.

    One that hangs is started once more: of the boots of an emulated 7.x kernel with two CPUs one of four did,
    without a word on its console.

    :param name: what it runs under.
    :param kind: its entry in ``machines.yaml``; the name itself by default.
    :param accel: one of :data:`vm.qemu.accel.Accel`; chosen by a trial boot by default.
    :param disk: a layer over the image's disk (image.layer), for a machine that goes on with what it has
        written before.
    :return: the running machine.
    :raises UserError: if it runs already, or does not come up.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", name):
        raise UserError(
            f"{name!r} is no name for a machine: letters, digits, dots and dashes, at most 41 of them."
        )
    machine = machines.find(kind or name)
    try:
        return _up(name, machine, accel, disk)
    except NoAnswerError as error:
        _say(f"{error}\n{name}: starting it once more")
        return _up(name, machine, accel, disk)


def command_line(name: str, kind: str, accel: str | None = None) -> list[str]:
    """The QEMU command that :func:`up` would run; nothing is started, and only a missing image is built."""
    machine = machines.find(kind)
    built = image.ensure(machine)
    files = Files(run_directory(name))
    program = emulator.ensure(machine.architecture)
    return command.argv(
        machine,
        built,
        files,
        accel=_accel(accel, machine, built, program),
        port=ssh.free_port(),
        key=ssh.public_key(),
        taps={},
        program=program,
    )


@contextmanager
def machine(kind: str, *, name: str | None = None, accel: str | None = None) -> Iterator[Guest]:
    """A machine for the length of a ``with`` block.

    :param kind: its entry in ``machines.yaml``.
    :param name: what it runs under; a fresh name by default, so that it meets no other.
    :param accel: one of :data:`vm.qemu.accel.Accel`; chosen by a trial boot by default.
    """
    guest = up(name or f"{kind}.{secrets.token_hex(3)}", kind, accel=accel)
    try:
        yield guest
    finally:
        down(guest)


def _up(name: str, machine: machines.Machine, accel: str | None, disk: Path | None) -> Guest:
    built = image.ensure(machine)
    program = emulator.ensure(machine.architecture)
    chosen = _accel(accel, machine, built, program)
    with ExitStack() as stack:
        stack.enter_context(locked(name))
        files = Files(run_directory(name))
        old = read(files.state)
        if old is not None and old.alive():
            raise UserError(f"{name} is already running; stop it with `python -m vm down {name}`.")
        if old is not None:
            stop(old)
        forget(name)
        files.directory.mkdir(mode=0o700, parents=True)
        if machine.swap:
            with files.swap.open("wb") as swap:
                swap.truncate(machine.swap.gib << 30)
        taps = _taps(name, machine)
        port = ssh.free_port()
        words = command.argv(
            machine,
            built,
            files,
            accel=chosen,
            port=port,
            key=ssh.public_key(),
            taps=taps,
            program=program,
            disk=disk,
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
        failed.callback(stop, guest)
        files.state.write_text(json.dumps(asdict(guest)))
        _wait_for_ssh(guest, process)
        guest.sync()
        programs.bring(guest)
        _start(guest)
        failed.pop_all()
        _say(f"{name}: up after {time.monotonic() - began:.0f} s")
    return guest


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
            raise UserError(f"{guest.name} died while it started; {last_words(guest)}")
        if ssh.answers(guest.port):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if guest.ssh("true", timeout=60).returncode == 0:
                    return
        if time.monotonic() > deadline:
            raise NoAnswerError(f"{guest.name} did not answer within {BOOT_SECONDS} s; {last_words(guest)}")
        if time.monotonic() - told > 10:
            told = time.monotonic()
            _say(f"{guest.name}: waiting for ssh, {BOOT_SECONDS - (deadline - told):.0f} s")
        time.sleep(0.1)


def _start(guest: Guest) -> None:
    """Start what a machine has running in it."""
    for words in guest.machine.start:
        _say(f"{guest.name}: {words}")
        guest.module(words)


def _accel(
    wanted: str | None, machine: machines.Machine, built: image.Image, program: Sequence[str]
) -> Accel:
    if wanted is None and machine.foreign:
        return "tcg"
    if wanted is None:
        return choose_accel(built, _say, program)
    if wanted in get_args(Accel):
        return cast(Accel, wanted)
    raise UserError(f"{wanted} is no accelerator; {', '.join(get_args(Accel))} are.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
