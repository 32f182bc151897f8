# SPDX-License-Identifier: GPL-2.0-only
"""Debian's promtool, which checks rules and counters as Prometheus reads them: `python -m tests.promtool`.

The package is unpacked into the cache and not installed, since it would start a server.
"""

import re
import sys
from pathlib import Path

from toolkit.errors import UserError, one_sentence
from vm.cmd import cmd
from vm.image.debian import once, stderr
from vm.paths import cache


def promtool() -> Path:
    """Return the program; fetch the newest version that apt knows, unless it is in the cache.

    :raises UserError: if apt knows no package prometheus.
    """
    about = cmd(["apt-cache", "show", "--no-all-versions", "prometheus"], check=False).stdout
    version = re.search(r"^Version: (.+)$", about, re.MULTILINE)
    if not version:
        raise UserError("apt knows no package prometheus, which has promtool: run `apt-get update`.")
    directory = cache() / "packages" / f"prometheus-{version[1]}"
    once(directory, _unpack, what="promtool", force=False, say=stderr)
    return directory / "usr/bin/promtool"


def _unpack(directory: Path) -> None:
    cmd(["env", f"--chdir={directory}", "apt-get", "--quiet", "download", "prometheus"])
    (package,) = directory.glob("*.deb")
    cmd(["dpkg-deb", "--extract", str(package), str(directory)])
    package.unlink()


@one_sentence("tests.promtool")
def main() -> int:
    """Fetch promtool."""
    print(promtool())
    return 0


if __name__ == "__main__":
    sys.exit(main())
