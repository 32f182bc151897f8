# SPDX-License-Identifier: GPL-2.0-only
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Run, Trace, window
from toolkit.errors import UserError
from toolkit.outputs import LOCK, alone, create, is_locked, refuse_existing, refuse_inputs


def _hard(link: Path, file: Path) -> None:
    os.link(file, link)


def _soft(link: Path, file: Path) -> None:
    link.symlink_to(file)


def _by_another_name(link: Path, file: Path) -> None:
    link.symlink_to(file.parent)


LINKS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "hard link": (_hard, "link"),
    "symbolic link": (_soft, "link"),
    "linked directory": (_by_another_name, "link/a.rxt"),
}


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_to_an_input(kind: str, tmp_path: Path) -> None:
    make, name = LINKS[kind]
    (tmp_path / "a.rxt").write_text("precious")
    make(tmp_path / "link", tmp_path / "a.rxt")
    with pytest.raises(UserError, match=r"which is read: give another name"):
        refuse_inputs([None, tmp_path / name], [tmp_path / "b.rxt", tmp_path / "a.rxt"])


def test_an_input_itself_and_an_output_twice(tmp_path: Path) -> None:
    file = tmp_path / "a.rxt"
    with pytest.raises(UserError, match=r"a.rxt is read: give another name"):
        refuse_inputs([file], [file])
    with pytest.raises(UserError, match="would be written twice"):
        refuse_inputs([file, tmp_path / "." / "x" / ".." / "a.rxt"], [])


def test_other_files_may_be_written(tmp_path: Path) -> None:
    for name in ("a.rxt", "b.html"):
        (tmp_path / name).write_text("same text")
    refuse_inputs([tmp_path / "b.html", tmp_path / "new", None], [tmp_path / "a.rxt", None])
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refuse_inputs([tmp_path / "loop"], [tmp_path / "a.rxt"])


@pytest.mark.parametrize(
    "words",
    [
        ("analyze", "{trace}", "--html", "{link}"),
        ("analyze", "{trace}", "--notebook", "{trace}"),
        ("analyze", "{trace}", "-o", "{folder}"),
        ("analyze", "{trace}", "--html", "{folder}/witness.json"),
        ("export", "{trace}", "-o", "{link}"),
        ("export", "{trace}", "--format", "parquet", "-o", "{trace}"),
        ("export", "{trace}", "--perfetto", "-o", "{trace}"),
        ("export", "{trace}", "-o", "{folder}/witness.json"),
        ("compare", "{trace}", "{other}", "-o", "{folder}"),
    ],
)
def test_no_command_replaces_what_it_reads(
    words: tuple[str, ...], run: Run, make_trace: Trace, tmp_path: Path
) -> None:
    """The trace has the name of a file that analyze and compare write."""
    name = "runs.csv" if words[0] == "compare" else "stalls.csv"
    trace, link = make_trace([window(1)], name=name), tmp_path / "link"
    (tmp_path / "other").mkdir()
    other = make_trace([window(1)], name="other/b.rxt")
    (tmp_path / "witness.json").write_text(
        json.dumps({"device": "eth1", "gaps": [], "clock": {"offset_ns": 0}})
    )
    link.symlink_to(trace)
    before = {file: file.read_bytes() for file in (trace, other, tmp_path / "witness.json")}
    if "{folder}/witness.json" in words:
        trace = trace.rename(tmp_path / "t.rxt")
        before[trace] = before.pop(tmp_path / name)
    filled = [word.format(trace=trace, link=link, other=other, folder=tmp_path) for word in words]
    code, out, err = run(*filled, "--force")
    assert (code, out) == (1, "")
    assert "give another name" in err and err.count("\n") == 1
    assert {file: file.read_bytes() for file in before} == before


def test_existing_files_are_refused_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    files = [tmp_path / "stalls.csv", tmp_path / "timeline.svg"]
    refuse_existing(files)
    (tmp_path / "timeline.svg").write_text("mine")
    with pytest.raises(UserError, match=r"timeline.svg exists; .*--force"):
        refuse_existing(files)


def test_an_output_that_exists_is_kept_without_force(tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    file.write_text("precious")
    with pytest.raises(UserError, match="--force"), create(file, force=False):
        pass
    assert file.read_text() == "precious"
    with create(file, force=True) as opened:
        opened.write(b"new")
    assert file.read_text() == "new"


def test_an_output_that_fails_half_way_is_removed(tmp_path: Path) -> None:
    with pytest.raises(UserError), create(tmp_path / "a.csv", force=False) as opened:
        opened.write(b"half")
        raise UserError("the other half cannot be read")
    assert list(tmp_path.iterdir()) == []


def test_whether_somebody_has_a_directory_is_known_to_all_who_look(tmp_path: Path) -> None:
    with alone(tmp_path, "busy"):
        with (tmp_path / LOCK).open("rb") as file, (tmp_path / LOCK).open("rb") as another:
            assert is_locked(file.fileno()) and is_locked(another.fileno())
        with pytest.raises(UserError, match="busy"), alone(tmp_path, "busy"):
            pass
    with (tmp_path / LOCK).open("rb") as file, (tmp_path / LOCK).open("rb") as another:
        assert not is_locked(file.fileno()) and not is_locked(another.fileno())
        # Who has looked does not keep others out.
        with alone(tmp_path, "busy"):
            pass
