# SPDX-License-Identifier: GPL-2.0-only
import os
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest

from tests.conftest import Trace, window
from toolkit.errors import UserError
from toolkit.fleet import sources


@pytest.fixture
def folder(make_trace: Trace, tmp_path: Path) -> Path:
    """A directory with two traces, one of them below, and a file of another kind."""
    (tmp_path / "below").mkdir()
    make_trace([window(1)], name="a.rxt")
    make_trace([window(1)], name="below/b.rxt")
    (tmp_path / "notes.txt").write_text("no trace")
    return tmp_path


def _names(*places: object) -> list[str]:
    return [Path(source.url).name for source in sources.find(map(str, places))]


def test_a_directory_is_searched_also_below(folder: Path) -> None:
    first, second = sources.find([str(folder)])
    assert (first.url, second.url) == (str(folder / "a.rxt"), str(folder / "below" / "b.rxt"))
    status = (folder / "a.rxt").stat()
    assert (first.size, first.etag) == (status.st_size, None)
    assert first.modified == datetime.fromtimestamp(status.st_mtime, UTC)


def test_a_trace_that_two_places_have_is_found_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert _names("a.rxt", folder / "a.rxt", f"file://{folder}/a.rxt", folder / "*.rxt") == ["a.rxt"]


def test_a_glob_takes_files_and_what_is_in_directories(folder: Path) -> None:
    assert _names(folder / "*.txt") == ["notes.txt"]
    assert _names(folder / "be*") == ["b.rxt"]
    assert _names(folder / "**" / "*.rxt") == ["a.rxt", "b.rxt"]


def test_a_name_with_the_characters_of_a_glob_is_a_name(folder: Path) -> None:
    (folder / "a.rxt").rename(folder / "[a].rxt")
    assert _names(folder / "[a].rxt") == ["[a].rxt"]


def test_a_pipe_is_left_out_since_reading_it_may_never_end(folder: Path) -> None:
    os.mkfifo(folder / "pipe.rxt")
    assert _names(folder) == ["a.rxt", "b.rxt"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("missing", "missing does not exist"),
        ("missing/*", r"there is no trace \(\*\.rxt\) in .*missing/\*"),
        ("empty", "there is no trace"),
        ("nonsense://x", "cannot list nonsense://x: Protocol not known"),
    ],
)
def test_a_place_without_traces_is_one_sentence(
    place: str, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=words) as error:
        sources.find([place])
    assert str(error.value).endswith(".")


def test_a_store_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UserError, match="cannot read s3://bucket: Install s3fs to access S3"):
        sources.find(["s3://bucket"])


def test_a_remote_trace_is_fetched_and_removed(folder: Path, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.put(str(folder / "a.rxt"), "/store/a.rxt")
    try:
        (source,) = sources.find(["memory://store"])
        assert source.url == "memory:///store/a.rxt"
        (tmp_path / "scratch").mkdir()
        with sources.local(source.url, tmp_path / "scratch") as path:
            assert path.is_relative_to(tmp_path / "scratch")
            assert path.read_bytes() == (folder / "a.rxt").read_bytes()
        assert not list((tmp_path / "scratch").iterdir())
    finally:
        store.rm("/store", recursive=True)


def test_a_local_trace_is_read_where_it_is(folder: Path) -> None:
    with sources.local(str(folder / "a.rxt")) as path:
        assert path == folder / "a.rxt"


def test_a_place_is_shown_in_characters_that_print() -> None:
    assert sources.Source("/a\x1b.rxt", 1, None, None).place == r"/a\x1b.rxt"


def test_an_error_of_a_store_becomes_a_sentence() -> None:
    assert sources.sentence(OSError("no\n such  bucket.")) == "no such bucket."
    assert sources.sentence(TimeoutError()) == "TimeoutError."
