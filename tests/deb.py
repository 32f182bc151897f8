# SPDX-License-Identifier: GPL-2.0-only
"""Prove a Debian package on a fresh tree of a release: `python -m tests.deb PACKAGE RELEASE`."""

import hashlib
import platform
import re
import shlex
import sys
import tempfile
from pathlib import Path

from toolkit.errors import one_sentence
from vm.cmd import cmd
from vm.image import debian
from vm.paths import CHECKOUT, cache

TRACE = CHECKOUT / "tests/data/virtio_net_pressure/trace.rxt"


def release() -> str:
    """Return the release of Debian that this is, and that a package is built for here; "" if it is none."""
    system = platform.freedesktop_os_release()
    return system.get("VERSION_CODENAME", "") if system["ID"] == "debian" else ""


def ensure(say: debian.Say) -> Path:
    """Build the package of this checkout for this release, unless the cache has it.

    :param say: is told of progress.
    :raises UserError: if it cannot be built.
    """
    recipe = CHECKOUT / "debian/build"
    names = re.search(r"^sources=\((.+)\)$", recipe.read_text(), re.MULTILINE)
    assert names
    digest = hashlib.sha256(release().encode())
    for name in names[1].split():
        path = CHECKOUT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(CHECKOUT)}\0".encode() + file.read_bytes())

    def build(work: Path) -> None:
        cmd([recipe, work])

    directory = cache() / "packages" / f"rx-stall-toolkit-{digest.hexdigest()[:12]}"
    debian.once(directory, build, what="the Debian package of the toolkit", force=False, say=say)
    (package,) = directory.glob("*.deb")
    return package


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
