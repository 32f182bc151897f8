# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.live.configuration import read

REPEATED = {"files": False, "keep": True, "when": True}


def _read(tmp_path: Path, text: str) -> dict[str, str | list[str]]:
    (tmp_path / "record.toml").write_text(text)
    return read(tmp_path / "record.toml", REPEATED)


def test_options_are_read_as_on_the_command_line(tmp_path: Path) -> None:
    assert _read(tmp_path, 'files = 7\nwhen = ["stall > 1s"]\nkeep = "10m"  # and no more') == {
        "files": "7",
        "when": ["stall > 1s"],
        "keep": ["10m"],
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("files = ", "record.toml is not TOML: "),
        ("kept = 1", "record.toml: there is no option 'kept'; there is: files, keep, when."),
        ("[when]\nx = 1", "record.toml: when has to be a text or a number, or a list of these."),
        ("files = true", "record.toml: files has to be a text or a number."),
        ("files = [1]", "record.toml: files has to be a text or a number."),
    ],
)
def test_a_file_with_something_else_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        _read(tmp_path, text)
    assert sentence in str(refused.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^cannot read .*none\.toml: No such file or directory\.$"):
        read(tmp_path / "none.toml", REPEATED)
