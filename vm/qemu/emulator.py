# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU that runs the machines: the system's, or a newer one from Debian's packages, kept in the cache.

An emulated CPU of an older QEMU crashes when probes are put on or off under traffic (vm/README.md has
numbers), and vfio-user-pci came with QEMU 10.1. The unpacked QEMU brings its own C library, so it runs on an
older system too, as any user: its dynamic loader is called by name, and nothing is installed.
"""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import cmd
from vm.image import debian
from vm.machines import ARCHITECTURES
from vm.paths import cache

#: The system's.
BINARY = "qemu-system-x86_64"
#: By architecture, as Debian calls it: the packages that emulate it.
PACKAGES = {"amd64": "qemu-system-x86", "arm64": "qemu-system-arm,qemu-user"}
#: The first with vfio-user-pci, and one that survives probes.
NEEDED = (10, 1)
#: Where a newer one comes from: a release of Debian, and the suite that is laid over it.
RELEASE, BACKPORTS = "trixie", "trixie-backports"

_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def ensure(
    architecture: str = "amd64", *, copy: Path | None = None, say: debian.Say = debian.stderr
) -> list[str]:
    """Return the words that start a QEMU; where the system's is too old, a newer one is unpacked first.

    :param architecture: of the machines that it runs; what is not amd64 is never the system's QEMU.
    :param copy: where a QEMU of the cache is copied to first, for another user, who may not enter the cache.
    :param say: is told of progress, a line at a time.
    :return: the program, with all that goes before the machine's own arguments.
    :raises UserError: if it cannot be built.
    """
    if architecture == "amd64" and _version([BINARY]) >= NEEDED:
        return [BINARY]
    directory = _tree(architecture, say)
    if copy is None:
        return _inside(directory, architecture)
    if not copy.exists():
        cmd(["cp", "--archive", "--reflink=auto", directory, copy])
        _shadow(copy)
    return _inside(copy, architecture)


def user(architecture: str, *, say: debian.Say = debian.stderr) -> Path:
    """Return a QEMU that runs single programs of another architecture; it needs no library.

    :param say: is told of progress, a line at a time.
    :raises UserError: if it cannot be built.
    """
    return _tree(architecture, say) / f"usr/bin/qemu-{ARCHITECTURES[architecture]}"


def _tree(architecture: str, say: debian.Say) -> Path:
    """Return the tree of an unpacked QEMU."""
    words = _packages(architecture)
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]
    directory = cache() / "qemu" / f"{RELEASE}-{key}"
    debian.once(
        directory,
        lambda work: _unpack(words, architecture, work, say),
        what=f"a QEMU of {NEEDED[0]}.{NEEDED[1]} or newer for {architecture}",
        force=False,
        say=say,
    )
    return directory


def _shadow(tree: Path) -> None:
    """Stand in the way of the system's modules, as a libvirt that asks for all of them would find those.

    QEMU looks for what the tree lacks in the system's directory, and ends when a module is of another build.
    """
    for module in (Path("/") / _LIBRARIES / "qemu").glob("*.so"):
        own = tree / _LIBRARIES / "qemu" / module.name
        if own.parent.is_dir() and not own.exists():
            own.touch()


def _packages(architecture: str) -> list[str]:
    """Return mmdebstrap's arguments, but for those that follow from where the packages come."""
    return [
        "--variant=extract",
        "--format=tar",
        f"--include={PACKAGES[architecture]}",
        f'--aptopt=APT::Default-Release "{BACKPORTS}"',
        debian.laid_over(RELEASE, BACKPORTS),
        RELEASE,
    ]


def _unpack(words: Sequence[str], architecture: str, work: Path, say: debian.Say) -> None:
    tar = work / "tar"
    archive = debian.archives().get("Debian")
    sources = [f"deb {archive} {RELEASE} main"] if archive else []
    debian.mmdebstrap([*words, str(tar), *sources], say)
    # Devices need root, and are of no use here.
    cmd(["tar", "--extract", "--file", tar, "--directory", work, "--no-same-owner", "--exclude=./dev/*"])
    tar.unlink()
    work.chmod(0o755)
    if _version(_inside(work, architecture)) < NEEDED:
        raise UserError(f"the QEMU of {BACKPORTS} is too old, or does not run here.")


def _inside(tree: Path, architecture: str) -> list[str]:
    """Return the words that start the QEMU of a tree."""
    libraries = tree / _LIBRARIES
    binary = f"{tree}/usr/bin/qemu-system-{ARCHITECTURES[architecture]}"
    words = ["env", f"QEMU_MODULE_DIR={libraries}/qemu", f"{tree}/usr/lib64/ld-linux-x86-64.so.2"]
    words += ["--library-path", str(libraries), binary]
    for data in ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"):
        words += ["-L", str(tree / data)]
    return words


def _version(words: Sequence[str]) -> tuple[int, int]:
    """Return the version of a QEMU; 0.0 if it does not say."""
    if shutil.which(words[0]) is None:
        return 0, 0
    done = subprocess.run([*words, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    found = re.search(r"version (\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
