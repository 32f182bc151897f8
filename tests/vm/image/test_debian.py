# SPDX-License-Identifier: GPL-2.0-only
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm.image import debian


def test_a_tool_that_fails_is_quoted() -> None:
    said: list[str] = []
    with pytest.raises(UserError, match=r"sh failed with status 3: E: no space \| and more"):
        debian.run(
            ["sh", "-c", "echo I: begin >&2; echo E: no space >&2; echo and more >&2; exit 3"], said.append
        )
    assert said == ["begin", "no space"]
    with pytest.raises(UserError, match="make setup"):
        debian.run(["no-such-program"], said.append)


@pytest.mark.parametrize(
    ("listing", "found"),
    [
        ("", {}),
        ("file:/a Debian Debian\nfile:/b Debian Debian\n", {"Debian": "file:/a"}),
        (
            "file:/a Debian Debian\nfile:/s Debian Debian-Security\nfile:/x Other Debian\n",
            {"Debian": "file:/a", "Debian-Security": "file:/s"},
        ),
    ],
)
def test_the_archives_are_those_of_this_system(
    listing: str, found: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(words: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 0, listing, "")

    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr(debian, "cmd", answer)
    assert debian.archives() == found


def test_without_apt_there_are_no_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert debian.archives() == {}


def test_words_that_enter_a_tree_have_its_source() -> None:
    words = debian.enter(Path("/tree"), Path("/kernel"))
    assert words[:3] == ["unshare", "--mount", "--propagation"] and words[-2:] == ["/tree", "/kernel"]
    assert debian.enter(Path("/tree"))[-2:] == ["/tree", ""]
    assert ("--map-root-user" in words) == (os.geteuid() != 0)
