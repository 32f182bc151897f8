# SPDX-License-Identifier: GPL-2.0-only
"""What is beside a machine that libvirt starts: a directory, a QEMU that is new enough, and its own NICs."""

import os
import shlex
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from toolkit.errors import UserError
from vm.machines import Machine
from vm.models import model
from vm.paths import of_checkout
from vm.qemu import emulator
from vm.qemu.files import Files


def files(name: str) -> Files:
    """Return where a machine keeps its sockets and console: libvirt's QEMU may not enter a home."""
    return Files(Path(f"/tmp/rx-stall-{os.getuid()}") / of_checkout().name / name)


def prepare(files: Files) -> None:
    """Make a machine's directory: others may pass to its sockets, but list and change nothing of the user's.

    :raises UserError: if one above it is somebody else's.
    """
    for path in (files.directory.parent.parent, files.directory.parent):
        with suppress(FileExistsError):
            path.mkdir(mode=0o711)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise UserError(f"{path} is not a directory of yours.")
        path.chmod(0o711)
    files.directory.mkdir(exist_ok=True)
    # The group of the sockets is then the user's, and QEMU makes them writable for it.
    files.directory.chmod(0o3777)


def up(machine: Machine, files: Files) -> None:
    """Leave ``qemu``, a command that starts a QEMU new enough for a machine, and start its own NICs.

    Does nothing while they run.
    """
    if any(model.runs(pid, files) for pid in _started(files)):
        return
    words = emulator.ensure(copy=files.directory / "tree")
    program = shutil.which(words[0]) or words[0]
    wrapper = files.directory / "qemu"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join([program, *words[1:]])} "$@"\n')
    wrapper.chmod(0o755)
    pids = {number: model.start(number, nic, files) for number, nic in enumerate(machine.nics) if nic.ours}
    (files.directory / "models").write_text(" ".join(map(str, pids.values())))
    for number in pids:
        # libvirt's QEMU is another user.
        files.device(number).chmod(0o666)


def down(files: Files) -> None:
    """End the NICs that :func:`up` started, unless they have ended with their machine, and leave nothing."""
    for pid in _started(files):
        model.stop(pid, files)
    shutil.rmtree(files.directory, ignore_errors=True)


def _started(files: Files) -> list[int]:
    try:
        return [int(pid) for pid in (files.directory / "models").read_text().split()]
    except FileNotFoundError:
        return []
