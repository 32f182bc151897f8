# SPDX-License-Identifier: GPL-2.0-only
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm.image import debian, kernels
from vm.machines import Kernel

BACKPORTS = Kernel("trixie", ("amd64", "arm64"), "trixie-backports")
VERSION = "Version: 1:7.3.4-1~bpo13+1\nArchitecture: arm64\n"
ABOUT = {
    "linux-image-arm64": VERSION
    + "Depends: linux-base-arm64 (= 7.3), linux-image-7.3.4+deb13-arm64 (= 7.3)\n",
    "linux-image-7.3.4+deb13-arm64": VERSION + "Depends: dracut | initramfs-tools, "
    "linux-binary-7.3.4+deb13-arm64 (= 7.3), linux-modules-7.3.4+deb13-arm64 (= 7.3)\n",
    "linux-binary-7.3.4+deb13-arm64": VERSION,
    "linux-modules-7.3.4+deb13-arm64": VERSION,
}
PARTS = ("binary", "image", "modules")
FILES = {f"linux-{part}-7.3.4+deb13-arm64_1%3a7.3.4-1~bpo13+1_arm64.deb" for part in PARTS}

NEEDS_PACKAGES = pytest.mark.skipif(
    not all(map(shutil.which, ("dpkg-deb", "xz"))), reason="dpkg or xz-utils is not installed"
)


def _patch(monkeypatch: pytest.MonkeyPatch, cache: Path, answer: Callable[..., object]) -> None:
    """Have commands answered, with a cache of its own and Debian's archive under a name of its own."""
    monkeypatch.setattr(kernels, "cmd", answer)
    monkeypatch.setattr(kernels, "cache", lambda: cache)
    monkeypatch.setattr(
        debian, "archives", lambda: {"Debian": "file:/archive", "Debian-Security": "file:/security"}
    )


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """An archive that has one kernel; gives the commands of apt, without the words before them."""
    commands: list[list[str]] = []

    def answer(words: Sequence[str | Path], **_words: object) -> subprocess.CompletedProcess[str]:
        env, directory, _conf, *command = map(str, words)
        assert env == "env"
        commands.append(command)
        said = ""
        if "download" in command:
            for name in command[command.index("download") + 1 :]:
                Path(directory.removeprefix("--chdir="), f"{name}_1%3a7.3.4-1~bpo13+1_arm64.deb").touch()
        elif "show" in command:
            said = ABOUT.get(command[-1], "")
        return subprocess.CompletedProcess(command, 0, said, "")

    _patch(monkeypatch, tmp_path, answer)
    return commands


def test_all_packages_of_a_kernel_are_fetched_and_older_ones_deleted(
    apt: list[list[str]], tmp_path: Path
) -> None:
    home = tmp_path / "packages/trixie-backports-arm64"
    home.mkdir(parents=True)
    (home / "linux-image-7.3.4+deb13-arm64_1%3a7.3.4-0_arm64.deb").touch()
    said: list[str] = []
    for _ in ("fetched", "there already"):
        assert kernels.fetch(BACKPORTS, "arm64", said.append) == home
        assert {path.name for path in home.glob("*.deb")} == FILES
    assert apt[0][-1] == "update"
    assert said == ["looking for the kernel of trixie-backports for arm64"] * 2


@pytest.mark.usefixtures("apt")
def test_apt_knows_the_suite_and_the_architecture_only(tmp_path: Path) -> None:
    kernels.fetch(BACKPORTS, "arm64", lambda _: None)
    state = tmp_path / "packages/trixie-backports-arm64/apt"
    assert (state / "sources.list").read_text().splitlines() == [
        "deb file:/archive trixie main",
        "deb file:/archive trixie-updates main",
        "deb file:/security trixie-security main",
        "deb file:/archive trixie-backports main",
    ]
    configuration = (state / "apt.conf").read_text()
    assert 'APT::Architectures { "arm64"; };' in configuration
    assert 'APT::Default-Release "trixie-backports";' in configuration
    kernels.fetch(Kernel("trixie", ("arm64",)), "arm64", lambda _: None)
    # Security's packages have to count as much as those of the release.
    assert "Default-Release" not in (tmp_path / "packages/trixie-arm64/apt/apt.conf").read_text()


@pytest.mark.usefixtures("apt")
def test_suite_without_a_kernel_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="trixie-backports has no kernel for riscv64"):
        kernels.fetch(BACKPORTS, "riscv64", lambda _: None)
    monkeypatch.setattr(debian, "archives", dict)
    with pytest.raises(UserError, match="apt has no archive of Debian"):
        kernels.fetch(BACKPORTS, "arm64", lambda _: None)


@pytest.fixture
def source_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """An archive whose linux-source is a small package; gives the commands of apt. Unpacking is real."""
    tree = tmp_path / "made/linux-source-7.3"
    tree.mkdir(parents=True)
    (tree / "Makefile").write_text("VERSION = 7\n")
    package = tmp_path / "package"
    for name in ("usr/src", "DEBIAN"):
        (package / name).mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: linux-source-7.3\nVersion: 7.3.4-1\nArchitecture: all\nMaintainer: A <a@example.org>\n"
        "Description: a source\n"
    )
    words: list[str | Path] = ["tar", "--create", "--xz", "--directory", tree.parent, tree.name, "--file"]
    subprocess.run([*words, package / "usr/src/linux-source-7.3.tar.xz"], check=True)
    commands: list[list[str]] = []

    def answer(words: Sequence[str | Path], **_words: object) -> subprocess.CompletedProcess[str]:
        if words[0] != "env":
            return subprocess.run(words, check=True, capture_output=True, text=True)
        _, directory, _, *command = map(str, words)
        commands.append(command)
        if "download" in command:
            home = Path(directory.removeprefix("--chdir="))
            subprocess.run(["dpkg-deb", "--build", package, home], check=True, stdout=subprocess.DEVNULL)
        said = "Depends: linux-source-7.3 (= 7.3.4-1~bpo13+1)\n" if "show" in command else ""
        return subprocess.CompletedProcess(command, 0, said, "")

    _patch(monkeypatch, tmp_path, answer)
    return commands


@NEEDS_PACKAGES
def test_newest_source_is_unpacked_once(source_package: list[list[str]], tmp_path: Path) -> None:
    for _ in ("fetched", "there already"):
        root = kernels.source(BACKPORTS, lambda _: None)
        assert root == tmp_path / "sources/linux-source-7.3_7.3.4-1~bpo13+1"
        assert [path.name for path in root.iterdir()] == ["Makefile"]
    assert [command[-1] for command in source_package] == [
        *("update", "linux-source", "linux-source-7.3"),
        *("update", "linux-source"),
    ]
    assert not list((tmp_path / "packages").rglob("*.deb"))


@NEEDS_PACKAGES
def test_one_who_looks_for_a_source_waits_for_another(
    source_package: list[list[str]], tmp_path: Path
) -> None:
    said: list[str] = []
    waits = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waits.set()

    (tmp_path / "packages").mkdir()
    with ThreadPoolExecutor() as pool:
        with debian.lock(tmp_path / "packages/trixie-backports-source", lambda _: None):
            root = pool.submit(kernels.source, BACKPORTS, say)
            assert waits.wait(30)
            assert said == ["waiting for another command that uses trixie-backports-source"]
            assert source_package == []
        assert (root.result(60) / "Makefile").is_file()


@pytest.mark.usefixtures("apt")
def test_suite_without_a_source_is_one_sentence() -> None:
    with pytest.raises(UserError, match="trixie-backports has no package linux-source"):
        kernels.source(BACKPORTS, lambda _: None)
