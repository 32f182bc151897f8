# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.vm.qemu.test_accel import script
from toolkit.errors import UserError
from vm.cmd import cmd as real_cmd
from vm.image import debian
from vm.qemu import emulator


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/rx-stall"


def system(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a QEMU of a version in the system's place."""
    script(tmp_path / "qemu", f"echo 'QEMU emulator version {version} (Debian)'")
    monkeypatch.setattr(emulator, "BINARY", str(tmp_path / "qemu"))


def unpacks(version: str, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Lets mmdebstrap make a tree with a QEMU of a version; what is returned holds its calls."""
    calls: list[list[str]] = []

    def make(words: Sequence[str], _: debian.Say) -> None:
        calls.append(list(words))
        Path(next(word for word in words if word.endswith("/tar"))).touch()

    def untar(words: Sequence[object]) -> None:
        loader = Path(str(words[5])) / "usr/lib64/ld-linux-x86-64.so.2"
        loader.parent.mkdir(parents=True)
        script(loader, f"echo 'QEMU emulator version {version}'")

    monkeypatch.setattr(debian, "archives", lambda: {"Debian": "file:/archive"})
    monkeypatch.setattr(debian, "mmdebstrap", make)
    monkeypatch.setattr(emulator, "cmd", untar)
    return calls


def test_a_system_qemu_that_is_new_enough_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system("10.1.0", tmp_path, monkeypatch)
    assert emulator.ensure() == [emulator.BINARY]


def test_a_newer_qemu_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    system("7.2.22", tmp_path, monkeypatch)
    calls = unpacks("11.1.3", monkeypatch)
    words = emulator.ensure(say=print)
    assert emulator.ensure(say=print) == words
    assert len(calls) == 1
    assert "deb file:/archive trixie main" in calls[0]
    assert words[0] == "env"
    assert words[2].startswith(str(cache / "qemu" / "trixie-"))
    assert not list((cache / "qemu").glob("*/tar"))


def test_emulator_of_another_architecture_is_never_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    system("11.0.0", tmp_path, monkeypatch)
    calls = unpacks("11.1.3", monkeypatch)
    words = emulator.ensure("arm64", say=print)
    assert next(word for word in words if "/bin/" in word).endswith("/usr/bin/qemu-system-aarch64")
    single = emulator.user("arm64", say=print)
    assert single.name == "qemu-aarch64" and single.is_relative_to(cache / "qemu")
    assert len(calls) == 1


def test_copy_of_the_emulator_needs_nothing_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    system("7.2.22", tmp_path, monkeypatch)
    unpacks("11.1.3", monkeypatch)
    emulator.ensure(say=print)
    monkeypatch.setattr(emulator, "cmd", real_cmd)
    words = emulator.ensure(copy=tmp_path / "copy", say=print)
    assert str(cache) not in " ".join(words)
    assert Path(words[2]).exists()


def test_unpacked_emulator_that_is_too_old_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    system("7.2.22", tmp_path, monkeypatch)
    unpacks("10.0.2", monkeypatch)
    with pytest.raises(UserError, match="is too old"):
        emulator.ensure(say=print)
    assert [path for path in (cache / "qemu").iterdir() if path.is_dir()] == []


def test_no_mirror_is_written_into_the_recipe() -> None:
    for architecture in emulator.PACKAGES:
        assert "://" not in " ".join(emulator._packages(architecture))
