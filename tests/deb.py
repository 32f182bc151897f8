# SPDX-License-Identifier: GPL-2.0-only
"""Prove a Debian package on a fresh tree of a release: `python -m tests.deb PACKAGE RELEASE`."""

import shlex
import sys
import tempfile
from pathlib import Path

from toolkit.errors import one_sentence
from vm.image import debian
from vm.paths import CHECKOUT

TRACE = CHECKOUT / "tests/data/virtio_net_pressure/trace.rxt"


def prove(package: Path, release: str, say: debian.Say) -> str:
    """Install a package with apt, analyze a trace, and purge it (debian/prove).

    :param say: is told of progress, a line at a time.
    :return: what was said there.
    :raises UserError: if something failed, with the reason.
    """
    with tempfile.TemporaryDirectory() as name:
        said = Path(name) / "said"
        files = shlex.join(str(path) for path in (package.resolve(), TRACE, CHECKOUT / "debian/prove"))
        inside = f"/tmp/prove.sh /tmp/{package.name} /tmp/{TRACE.name}"
        hooks = [
            f"copy-in {files} /tmp",
            f'mv "$1"/tmp/prove "$1"/tmp/prove.sh && chroot "$1" {inside} >{shlex.quote(str(said))}',
        ]
        words = ["--variant=apt", "--format=null", *(f"--customize-hook={hook}" for hook in hooks)]
        debian.mmdebstrap([*words, release, "-", *debian.sources(release)], say)
        return said.read_text()


@one_sentence("tests.deb")
def main() -> int:
    """Prove the package that is named."""
    print(prove(Path(sys.argv[1]), sys.argv[2], debian.stderr), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
