# SPDX-License-Identifier: GPL-2.0-only
"""The packages of the kernels that are promised, of any architecture: fetched by apt, and never installed."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import cmd
from vm.image import debian
from vm.machines import Kernel
from vm.paths import cache

#: The packages that a kernel of one version is made of.
_PART = re.compile(r"linux-(?:image|binary|modules)-\d[^\s,]*")


def fetch(kernel: Kernel, architecture: str, say: debian.Say) -> Path:
    """Fetch the packages of the newest kernel of a suite; those that are in the cache are not fetched again.

    :param architecture: as Debian calls it; it need not be this machine's.
    :param say: is told of progress, a line at a time.
    :return: the directory that has them, and no others.
    :raises UserError: if this system's apt has no archive of Debian, or no such kernel is there.
    """
    home = cache() / "packages" / f"{kernel.suite}-{architecture}"
    with _alone(home, say):
        return _fetch(home, kernel, architecture, say)


def _fetch(home: Path, kernel: Kernel, architecture: str, say: debian.Say) -> Path:
    apt = _apt(home, kernel, architecture)
    say(f"looking for the kernel of {kernel.suite} for {architecture}")
    cmd([*apt, "apt-get", "--quiet", "update"])
    files: dict[str, str] = {}
    todo = [f"linux-image-{architecture}"]
    while todo:
        name = todo.pop()
        about = cmd([*apt, "apt-cache", "show", "--no-all-versions", name]).stdout
        fields = dict(re.findall(r"^(Version|Architecture|Depends): (.*)$", about, re.MULTILINE))
        if _PART.fullmatch(name):
            # apt escapes the colon of an epoch in a file's name.
            files[name] = f"{name}_{fields['Version'].replace(':', '%3a')}_{fields['Architecture']}.deb"
        todo += sorted({*_PART.findall(fields.get("Depends", ""))} - {*files, *todo})
    if not files:
        raise UserError(f"the suite {kernel.suite} has no kernel for {architecture}.")
    cmd([*apt, "apt-get", "--quiet", "download", *files])
    for old in home.glob("*.deb"):
        if old.name not in files.values():
            old.unlink()
    return home


def source(kernel: Kernel, say: debian.Say) -> Path:
    """Unpack the newest kernel source of a suite; a source that is in the cache is not fetched again.

    :param say: is told of progress, a line at a time.
    :return: its root, which has the name and the version of Debian's package.
    :raises UserError: if this system's apt has no archive of Debian, or the suite has no such package.
    """
    home = cache() / "packages" / f"{kernel.suite}-source"
    with _alone(home, say):
        return _source(home, kernel, say)


def _source(home: Path, kernel: Kernel, say: debian.Say) -> Path:
    # The package is for all architectures; apt has to be told of one.
    apt = _apt(home, kernel, "amd64")
    say(f"looking for the kernel source of {kernel.suite}")
    cmd([*apt, "apt-get", "--quiet", "update"])
    about = cmd([*apt, "apt-cache", "show", "--no-all-versions", "linux-source"], check=False).stdout
    depends = re.search(r"^Depends: (linux-source-\S+) \(= (\S+)\)", about, re.MULTILINE)
    if not depends:
        raise UserError(f"the suite {kernel.suite} has no package linux-source.")
    package, version = depends.groups()
    root = cache() / "sources" / f"{package}_{version}"

    def unpack(work: Path) -> None:
        cmd([*apt, "apt-get", "--quiet", "download", package])
        (package_file,) = home.glob(f"{package}_*.deb")
        inside = work / ".package"
        cmd(["dpkg-deb", "--extract", package_file, inside])
        package_file.unlink()
        (archive,) = inside.glob("usr/src/*.tar.xz")
        words: list[str | Path] = ["tar", "--extract", "--file", archive, "--directory", work]
        cmd([*words, "--strip-components=1", "--no-same-owner"])
        shutil.rmtree(inside)

    debian.once(root, unpack, what=f"the source {root.name} (1.6 GB)", force=False, say=say)
    return root


@contextmanager
def _alone(home: Path, say: debian.Say) -> Iterator[None]:
    """Wait until no other command uses the apt of a directory, and keep others out meanwhile.

    apt itself does not wait for its lock.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    with debian.lock(home, say):
        yield


def _apt(home: Path, kernel: Kernel, architecture: str) -> list[str]:
    """Return the words before a command of apt, which then knows this suite and this architecture only."""
    sources = debian.sources(kernel.release)
    if not sources:
        raise UserError("this system's apt has no archive of Debian, from which kernel packages are fetched.")
    if kernel.kernel:
        sources.append(sources[0].replace(f" {kernel.release} ", f" {kernel.kernel} "))
    state = home / "apt"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text("\n".join([*sources, ""]))
    (state / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{state}/sources.list";\n'
        'Dir::Etc::SourceParts "/dev/null";\n'
        f'Dir::State "{state}/state";\n'
        f'Dir::State::status "{state}/status";\n'
        f'Dir::Cache "{state}/cache";\n'
        f'APT::Architecture "{architecture}";\n'
        f'APT::Architectures {{ "{architecture}"; }};\n'
        # Of a release itself, updates and security are newer, and have to count as much.
        + (f'APT::Default-Release "{kernel.kernel}";\n' if kernel.kernel else "")
        + 'Acquire::Languages "none";\n'
    )
    return ["env", f"--chdir={home}", f"APT_CONFIG={state}/apt.conf"]
