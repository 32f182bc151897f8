# SPDX-License-Identifier: GPL-2.0-only
"""What is made of Debian packages and kept in the cache: made once, whole or not at all."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import cmd

Say = Callable[[str], None]

#: What a shell does first in :func:`own_mounts`.
PRIVATE = "mount --make-rprivate / 2>/dev/null; "

# Runs a command in a tree. The kernel's objtool reads its limits in /proc, and fails without.
_ENTER = PRIVATE + (
    'for each in dev proc; do mount --rbind "/$each" "$0/$each" || exit; done; '
    '[ -z "$1" ] || mount --bind "$1" "$0/src" || exit; shift; exec chroot "$0" "$@"'
)


def once(directory: Path, make: Callable[[Path], None], *, what: str, force: bool, say: Say) -> None:
    """Build a directory of the cache unless it exists. Concurrent callers wait for the first.

    :param make: is given an empty directory to fill, which then takes the directory's place.
    :param what: it is, in words.
    :param force: make it anew.
    :param say: is told of progress, a line at a time.
    """
    if directory.exists() and not force:
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with lock(directory, say):
        if directory.exists() and not force:
            return
        began = time.monotonic()
        say(f"building {what}; this takes a while and is done once")
        work = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            make(work)
            shutil.rmtree(directory, ignore_errors=True)
            work.rename(directory)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        say(f"built {what} in {time.monotonic() - began:.0f} s")


def enter(root: Path, source: Path | None = None) -> list[str]:
    """Return the words before a command that runs in a tree, as root or in a user namespace.

    :param root: the tree, unpacked.
    :param source: a directory that is its /src meanwhile.
    """
    return [*own_mounts(), "sh", "-c", _ENTER, str(root), str(source or "")]


def own_mounts() -> list[str]:
    """Return the words before a command whose mounts are its own, as root or in a user namespace.

    The command makes them private itself (PRIVATE): unshare would fail in a chroot, whose root is no mount
    point.
    """
    words = ["unshare", "--mount", "--propagation", "unchanged"]
    return [*words, "--map-root-user"] if os.geteuid() else words


def archives() -> dict[str, str]:
    """Return the URI of each archive of this system's apt sources, by its label; none without apt."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages"]
    uris: dict[str, str] = {}
    if shutil.which(words[0]):
        for line in cmd(words, check=False).stdout.splitlines():
            uri, _, label = line.partition(" ")
            uris.setdefault(label, uri)
    return {
        label: uris[f"Debian {label}"] for label in ("Debian", "Debian-Security") if f"Debian {label}" in uris
    }


def sources(release: str) -> list[str]:
    """Return this system's apt sources of Debian, spelled for a release; none if it has none."""
    uris = archives()
    archive, security = uris.get("Debian"), uris.get("Debian-Security")
    if archive is None or security is None:
        return []
    return [
        f"deb {archive} {release} main",
        f"deb {archive} {release}-updates main",
        f"deb {security} {release}-security main",
    ]


def laid_over(release: str, suite: str) -> str:
    """Return a setup hook of mmdebstrap that tells apt of another suite of a release's archive."""
    # The line that says where it is is made from the one that is there.
    lines = f"sed -n 's/ {release} main/ {suite} main/p' \"$1\"/etc/apt/sources.list"
    return f'--setup-hook={lines} >"$1"/etc/apt/sources.list.d/backports.list'


def mmdebstrap(
    words: Sequence[str], say: Say, *, cwd: Path | None = None, before: Sequence[str] = ()
) -> None:
    """Run mmdebstrap, as root or in a user namespace.

    :param say: is told of progress.
    :param before: words before the command.
    :raises UserError: if it fails, with what it said last.
    """
    mode = "root" if os.geteuid() == 0 else "unshare"
    run([*before, "mmdebstrap", f"--mode={mode}", *words], say, cwd=cwd)


def run(argv: Sequence[str], say: Say, *, cwd: Path | None = None) -> None:
    """Run a program that speaks as mmdebstrap does, and pass its lines on."""
    last: deque[str] = deque(maxlen=5)
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError:
        raise UserError(f"{argv[0]} is not installed: run `make setup`.") from None
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(("I: ", "W: ", "E: ")) and "running --" not in line:
                say(line[3:].strip())
            if line.strip() and not line.startswith(("I: ", "W: ")):
                last.append(line.strip())
    if process.returncode:
        raise UserError(f"{argv[0]} failed with status {process.returncode}: {' | '.join(last)}")


def stderr(line: str) -> None:
    """Tell a person what takes so long."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def lock(directory: Path, say: Say) -> Iterator[None]:
    """Keep others who build a directory of the cache out, for the length of the block."""
    with directory.with_name(f"{directory.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another command that uses {directory.name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
