# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from tests.vm.qemu.test_command import IMAGE
from vm.qemu import accel, emulator


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('for word; do case $word in file:*) echo "Linux version 6" > "${word#file:}";; esac; done', "kvm"),
        ('for word; do case $word in file:*) : > "${word#file:}";; esac; done', "tcg"),
        ("exit 1", "tcg"),
        ("exec sleep 60", "tcg"),
    ],
    ids=["boots", "is silent", "fails", "hangs"],
)
@pytest.mark.skipif(not Path("/dev/kvm").exists(), reason="there is no /dev/kvm to try")
def test_kvm_counts_only_if_it_boots_and_the_answer_is_kept(
    body: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary, calls = tmp_path / "qemu", tmp_path / "calls"
    version = f'[ "$1" = --version ] && echo "QEMU emulator version 1.2.3 (x)" && exit; echo >> {calls}'
    script(binary, f"{version}\n{body}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(emulator, "BINARY", str(binary))
    monkeypatch.setattr(accel, "TRIAL_SECONDS", 1)
    said: list[str] = []
    assert accel.choose_accel(IMAGE, said.append) == answer
    assert said
    assert accel.choose_accel(IMAGE, said.append) == answer
    assert calls.read_text().count("\n") == 1
