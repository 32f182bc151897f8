# SPDX-License-Identifier: GPL-2.0-only
import os
import sys
from pathlib import Path

import pytest

from toolkit.capture import compiled
from toolkit.capture.compiled import Compiled, Map

PROGRAM = Compiled(
    headers="the kernel's BTF",
    license="GPL",
    maps=[Map("queues", 1, 8, 16, 4096, 0, "L", {"ifindex": "I", "name": ["c", 8]})],
    functions={"poll_in": bytes(range(16))},
)


def test_a_program_is_the_same_after_it_was_kept(tmp_path: Path) -> None:
    assert compiled.kept("a", tmp_path / "new") is None
    compiled.keep("a", PROGRAM, tmp_path / "new")
    assert compiled.kept("a", tmp_path / "new") == PROGRAM
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert compiled.kept("b", tmp_path / "new") is None


def test_no_parameters_are_known_of_another_architecture() -> None:
    with pytest.raises(OSError, match="not known where m68k has the parameters"):
        compiled.with_parameters(bytes(8), 1, "m68k")


def test_key_is_of_each_part() -> None:
    parts = ["int x;", ["-DA=1"], None]
    assert compiled.key(*parts) == compiled.key(*parts)
    assert len({compiled.key(*parts), compiled.key("int y;", *parts[1:]), compiled.key(*parts[:2], "")}) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"headers": 1}', "null", '{"functions": {"f": "%"}}'])
def test_a_damaged_file_is_no_program(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    tmp_path.chmod(0o700)
    assert compiled.kept("a", tmp_path) is None


def test_a_directory_in_which_others_may_write_is_not_used(tmp_path: Path) -> None:
    compiled.keep("a", PROGRAM, tmp_path / "kept")
    (tmp_path / "kept").chmod(0o770)
    assert compiled.kept("a", tmp_path / "kept") is None
    compiled.keep("b", PROGRAM, tmp_path / "kept")
    assert not (tmp_path / "kept/b.json").exists()


def test_what_cannot_be_written_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    compiled.keep("a", PROGRAM, tmp_path / "file")
    compiled.keep("a", PROGRAM, tmp_path / "file/below")
    assert compiled.kept("a", tmp_path / "file") is None


def test_the_one_whose_use_is_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "KEPT", 2)
    there = tmp_path / "kept"
    for age, name in ((300, "a"), (200, "b")):
        compiled.keep(name, PROGRAM, there)
        long_ago = (there / f"{name}.json").stat().st_mtime - age
        os.utime(there / f"{name}.json", (long_ago, long_ago))
    assert compiled.kept("a", there)
    compiled.keep("c", PROGRAM, there)
    assert sorted(path.name for path in there.iterdir()) == ["a.json", "c.json"]


def test_instructions_have_numbers_of_maps_in_the_place_of_descriptors() -> None:
    load_map = bytes([0x18, 0x11, 0, 0]) + (77).to_bytes(4, sys.byteorder) + bytes(8)
    # Loads a number that only looks like the descriptor; its second half looks like another load.
    load_number = bytes([0x18, 0x02, 0, 0]) + (77).to_bytes(4, sys.byteorder)
    second_half = bytes([0x18, 0x11, 0, 0]) + (77).to_bytes(4, sys.byteorder)
    leave = bytes([0x95]) + bytes(7)
    found = compiled.renumbered(load_number + second_half + load_map + leave, {77: 3})
    number = bytes([0x18, 0x11, 0, 0]) + (3).to_bytes(4, sys.byteorder) + bytes(8)
    assert found == load_number + second_half + number + leave
