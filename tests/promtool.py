# SPDX-License-Identifier: GPL-2.0-only
"""Debian's Prometheus and promtool, which checks rules and counters as Prometheus reads them.

The packages are unpacked into the cache and not installed, since each would start a server:
`python -m tests.promtool` does it.
"""

import re
import sys
from functools import partial
from pathlib import Path

from toolkit.errors import UserError, one_sentence
from vm.cmd import cmd
from vm.image.debian import once, stderr
from vm.paths import cache

PACKAGES = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")


def promtool() -> Path:
    """Return promtool, as `program` does."""
    return program("prometheus", "promtool")


def program(package: str, name: str = "") -> Path:
    """Return a program of a package; fetch the newest version that apt knows, unless it is in the cache.

    :param name: of the program, by default that of the package.
    :raises UserError: if apt knows no such package.
    """
    about = cmd(["apt-cache", "show", "--no-all-versions", package], check=False).stdout
    version = re.search(r"^Version: (.+)$", about, re.MULTILINE)
    if not version:
        raise UserError(f"apt knows no package {package}: run `apt-get update`.")
    directory = cache() / "packages" / f"{package}-{version[1]}"
    once(directory, partial(_unpack, package), what=package, force=False, say=stderr)
    return directory / "usr/bin" / (name or package)


def _unpack(package: str, directory: Path) -> None:
    cmd(["env", f"--chdir={directory}", "apt-get", "--quiet", "download", package])
    (file,) = directory.glob("*.deb")
    cmd(["dpkg-deb", "--extract", str(file), str(directory)])
    file.unlink()


@one_sentence("tests.promtool")
def main() -> int:
    """Fetch what tests need."""
    for package in PACKAGES:
        print(program(package))
    return 0


if __name__ == "__main__":
    sys.exit(main())
