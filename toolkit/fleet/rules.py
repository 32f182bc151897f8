# SPDX-License-Identifier: GPL-2.0-only
"""The version of the rules by which traces are analyzed, which nobody can forget to raise."""

import hashlib
from functools import cache
from pathlib import Path

from toolkit.paths import PROBES
from toolkit.stalls.thresholds import Thresholds, options

_PACKAGE = Path(__file__).resolve().parent.parent
_CODE = ("trace/*.py", "stalls/*.py", "fleet/dataset.py", "fleet/rows.py", "driver*.py", "event.py")
"""The modules that make the rows of the dataset."""


def wanted(thresholds: Thresholds, host: str | None) -> str:
    """Return the version of the rules with what a run is told: rows of another one are not what it asks for.

    :param host: the pattern that finds the name of a host, if there is one.
    """
    return "+".join([version(), *options(thresholds), *([host] if host else [])])


@cache
def version() -> str:
    """Return a checksum of the code and of the drivers' rules that make rows of a trace.

    A change of a comment changes it, too: a trace that is analyzed in vain does less harm than one that is
    not analyzed again.
    """
    check = hashlib.sha256()
    modules = [file for pattern in _CODE for file in sorted(_PACKAGE.glob(pattern))]
    for file in [*modules, PROBES / "event.h", *sorted(PROBES.rglob("*.toml"))]:
        check.update(file.read_bytes())
    return check.hexdigest()[:16]
