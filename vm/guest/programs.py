# SPDX-License-Identifier: GPL-2.0-only
"""Programs that a machine has compiled, kept for the next machine of the same image.

A machine forgets what it had when it is stopped, and an emulated CPU compiles for a quarter of a minute.
"""

import contextlib
import subprocess
import tempfile
from pathlib import Path

from toolkit.capture.compiled import DIRECTORY, forget
from toolkit.errors import UserError
from vm.guest.guest import Guest
from vm.image import image
from vm.paths import cache

_TIMEOUT = 20
"""How long a machine may take that does not answer any more [s]."""


def bring(guest: Guest) -> None:
    """Bring the programs into a machine that were compiled in those before it."""
    directory = _directory(guest)
    if not any(directory.glob("*.json")):
        return
    pack = ["tar", "-C", str(directory), "-cz", "--owner=0", "--group=0", "."]
    # Another machine may forget one meanwhile; without programs, this one compiles.
    with contextlib.suppress(UserError):
        guest.unpack(pack, f"mkdir -p -m 0700 {DIRECTORY} && exec tar -C {DIRECTORY} -xz --no-overwrite-dir")


def take(guest: Guest) -> None:
    """Keep the programs that a machine has compiled; one that does not answer is left alone."""
    directory = _directory(guest)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    pack = f"test ! -d {DIRECTORY} || sudo tar -C {DIRECTORY} -cz ."
    with tempfile.TemporaryDirectory(dir=directory.parent) as there:
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run([*guest.ssh_argv(), "--", pack], capture_output=True, timeout=_TIMEOUT)
            subprocess.run(["tar", "-C", there, "-xz"], input=done.stdout, capture_output=True, check=False)
        # Another machine may read or write here at the same time.
        for path in Path(there).glob("*.json"):
            path.rename(directory / path.name)
    forget(directory)


def _directory(guest: Guest) -> Path:
    return cache() / "programs" / image.key(guest.machine)
