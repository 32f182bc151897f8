# SPDX-License-Identifier: GPL-2.0-only
"""Say which Debian packages an installed Python package needs, as a line of substvars.

`python debian/depends.py NAME EXTRA…`, in a virtual environment that sees Debian's own modules. What is in
the environment is packaged, so its requirements are followed; what is outside of it is Debian's.
"""

import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement


def debian_packages(name: str, extras: Iterable[str], seen: set[str]) -> set[str]:
    """Return the Debian packages that a Python package needs, itself if it is one of Debian's."""
    found = distribution(name)
    # Where the metadata is, importlib tells only so.
    path = Path(str(found._path))  # type: ignore[attr-defined]
    if not path.is_relative_to(sys.prefix):
        owner = subprocess.run(["dpkg", "-S", path], check=True, capture_output=True, text=True).stdout
        return {owner.split(":")[0]}
    packages: set[str] = set()
    for requirement in map(Requirement, found.requires or []):
        marker = requirement.marker
        is_wanted = not marker or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if is_wanted and str(requirement) not in seen:
            seen.add(str(requirement))
            packages |= debian_packages(requirement.name, requirement.extras, seen)
    return packages


if __name__ == "__main__":
    major, minor = sys.version_info[:2]
    python = [f"python3 (>= {major}.{minor})", f"python3 (<< {major}.{minor + 1})"]
    print("python:Depends=" + ", ".join(python + sorted(debian_packages(sys.argv[1], sys.argv[2:], set()))))
