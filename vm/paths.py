# SPDX-License-Identifier: GPL-2.0-only
"""Where the testbed keeps its files."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def cache() -> Path:
    """The cache that all checkouts of this user share: ``$XDG_CACHE_HOME/rx-stall``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "rx-stall"
    path.mkdir(parents=True, exist_ok=True)
    return path


def of_checkout() -> Path:
    """What belongs to this checkout alone: its key and its running machines."""
    name = hashlib.sha256(os.fsencode(CHECKOUT)).hexdigest()[:8]
    path = cache() / "checkouts" / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def run_directory(name: str) -> Path:
    """Where a machine of this checkout keeps its files while it runs."""
    return of_checkout() / "run" / name


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other commands of this checkout out, for the length of the block."""
    directory = of_checkout() / "locks"
    directory.mkdir(exist_ok=True)
    with (directory / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
