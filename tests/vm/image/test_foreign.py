# SPDX-License-Identifier: GPL-2.0-only
import os
import subprocess
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm.image import debian, foreign
from vm.qemu import emulator

#: The least ELF file of 64 bits of arm64 that a kernel looks at; its program has no segment.
PROGRAM = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\x02\0\xb7\0\1\0\0\0".ljust(48, b"\0")


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_KNOWN", tmp_path / "none")


def test_own_architecture_needs_no_words() -> None:
    assert foreign.words("amd64") == []


def test_kernel_that_knows_an_emulator_needs_no_words(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none/qemu-aarch64").touch()
    assert foreign.words("arm64") == []


def test_others_than_root_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="apt install qemu-user-static"):
        foreign.words("arm64")


@pytest.mark.skipif(
    os.geteuid() != 0 or "binfmt_misc" not in Path("/proc/filesystems").read_text(),
    reason="needs root, and a kernel with binfmt_misc",
)
def test_program_of_another_architecture_is_run_and_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel itself says what it starts a program of arm64 with, and what it knows later."""
    emulated = tmp_path / "qemu"
    emulated.write_text('#!/bin/sh\necho "emulated ${1##*/}"\nexit 7\n')
    program = tmp_path / "program"
    program.write_bytes(PROGRAM)
    for path in (emulated, program):
        path.chmod(0o755)
    monkeypatch.setattr(emulator, "user", lambda *_, **__: emulated)
    words = foreign.words("arm64", lambda _: None)
    done = subprocess.run([*words, str(program)], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("emulated program\n", 7), done.stderr
    there = "/proc/sys/fs/binfmt_misc"
    known = f"{debian.PRIVATE}mount -t binfmt_misc none {there} && ls {there}"
    left = subprocess.run(
        [*debian.own_mounts(), "sh", "-c", known], capture_output=True, text=True, check=True
    )
    assert f"rx-stall-arm64-{os.getpid()}" not in left.stdout
