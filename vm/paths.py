# SPDX-License-Identifier: GPL-2.0-only
"""Where the testbed keeps its files."""

import hashlib
import os
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
