# SPDX-License-Identifier: GPL-2.0-only
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import BEGAN, META, note, window
from toolkit.errors import UserError
from toolkit.outputs import is_locked
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import EVENT
from toolkit.trace.writer import FULL_EVENTS, TraceWriter


def test_pyarrow_alone_reads_it(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        events = np.concatenate([window(2), window(1)])
        writer.write(events, note(2, 0, events))
        writer.close(note(3, 0, events, end={"reason": "duration"}))
    table = pa.ipc.open_stream((tmp_path / "a.rxt").read_bytes()).read_all()
    assert table.column("ts").to_pylist() == [1002 * 10**9, 1001 * 10**9]
    assert table.column("packets").to_pylist() == [40, 40]


def test_full_batches_take_another_codec_in_the_same_file(tmp_path: Path) -> None:
    """Each message says how it is compressed; pyarrow alone and the reader take both."""
    few, many = (np.concatenate([window(at / 1000) for at in range(count)]) for count in (9, FULL_EVENTS))
    sizes = [0]
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        for number, events in enumerate((few, many, few, many[:-1])):
            writer.write(events, note(9, 0, *(few, many, few, many[:-1])[: number + 1]))
            sizes.append((tmp_path / "a.rxt").stat().st_size)
        writer.close(note(10, 0, few, many, few, many[:-1], end={"reason": "duration"}))
    zstd, lz4 = sizes[2] - sizes[1], sizes[4] - sizes[3]
    assert zstd < 0.9 * lz4
    assert len(pa.ipc.open_stream((tmp_path / "a.rxt").read_bytes()).read_all()) == 17 + 2 * FULL_EVENTS
    reader = TraceReader(tmp_path / "a.rxt")
    assert [len(columns["ts"]) for columns, _ in reader] == [0, 9, FULL_EVENTS, 9, FULL_EVENTS - 1, 0]
    assert reader.damage is None
    assert reader.columns(2)["ts"].tolist() == many["ts"].tolist()


def test_ledger_grows_with_what_changes_not_with_cpus(tmp_path: Path) -> None:
    counts = {"attempted": [0] * 500, "delivered": [0] * 500, "dropped": [0] * 500}
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        for number in range(1, 4):
            counts["attempted"][7] = counts["delivered"][7] = number
            writer.write(window(number), {"now_ns": BEGAN, "ledger": {"window": counts, "poll": counts}})
    stream = pa.ipc.open_stream((tmp_path / "a.rxt").read_bytes())
    texts = [stream.read_next_batch_with_custom_metadata()[1][b"rxt"] for _ in range(4)]
    assert max(map(len, texts)) < 250
    assert json.loads(texts[2])["ledger"]["window"] == {
        "cpu": [7],
        "attempted": [1],
        "delivered": [1],
        "dropped": [0],
    }


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    TraceWriter(tmp_path / "a.rxt", META)
    assert (tmp_path / "a.rxt").stat().st_mode & 0o777 == 0o600


def test_it_is_locked_while_it_may_grow(tmp_path: Path) -> None:
    for end in (True, False):
        with TraceWriter(tmp_path / "a.rxt", META, force=True) as writer, writer.path.open("rb") as file:
            assert is_locked(file.fileno())
            if end:
                writer.close(note(1, 0, end={"reason": "duration"}))
                assert not is_locked(file.fileno())
        with writer.path.open("rb") as file:
            assert not is_locked(file.fileno())


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.rxt").write_text("precious")
    with pytest.raises(UserError, match=r"exists; .*--force"):
        TraceWriter(tmp_path / "a.rxt", META)
    assert (tmp_path / "a.rxt").read_text() == "precious"


def test_force_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "a.rxt").write_text("old")
    TraceWriter(tmp_path / "a.rxt", META, force=True)
    assert TraceReader(tmp_path / "a.rxt").meta == META
    assert [path.name for path in tmp_path.iterdir()] == ["a.rxt"]


def test_force_keeps_the_old_one_if_the_new_one_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.rxt").write_text("precious")
    _fill_disk(monkeypatch, after=100)
    with pytest.raises(UserError, match="no space left"):
        TraceWriter(tmp_path / "a.rxt", META, force=True)
    assert (tmp_path / "a.rxt").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["a.rxt"]


def test_force_does_not_replace_a_device() -> None:
    with pytest.raises(UserError, match="not a regular file"):
        TraceWriter("/dev/null", META, force=True)
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("path", ["/nonexistent/a.rxt", "/proc/a.rxt"])
def test_a_place_that_cannot_be_written(path: str) -> None:
    with pytest.raises(UserError, match="cannot make"):
        TraceWriter(path, META)


def test_a_full_disk_leaves_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TraceWriter(tmp_path / "a.rxt", META)
    writer.write(window(1), note(1, 0, window(1)))
    whole = (tmp_path / "a.rxt").stat().st_size
    _fill_disk(monkeypatch, after=100)
    with pytest.raises(UserError, match=r"no space left .*: free some"):
        writer.write(window(2), note(2))
    assert (tmp_path / "a.rxt").stat().st_size == whole
    reader = TraceReader(tmp_path / "a.rxt")
    assert [batch.note["now_ns"] for batch in reader] == [BEGAN, note(1)["now_ns"]]
    assert "is cut off after 1.000 s" in str(reader.damage)
    writer.close(note(3))


def test_a_killed_tracer_loses_nothing_that_was_written(tmp_path: Path) -> None:
    code = (
        "import os, sys; from tests.conftest import *\n"
        "writer = TraceWriter(sys.argv[1], META)\n"
        "[writer.write(window(at), note(at, 0, *[window(0)] * (at + 1))) for at in range(5)]\n"
        "os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "a.rxt"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    reader = TraceReader(path)
    assert len(list(reader)) == 6
    assert reader.damage


def test_an_exception_closes_the_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), TraceWriter(tmp_path / "a.rxt", META) as writer:
        writer.write(window(1), note(1))
        raise RuntimeError
    with pytest.raises(ValueError, match="closed"):
        writer.write(np.empty(0, EVENT), note(2))


def test_pandas_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from toolkit.trace.writer import *\n"
        "writer = TraceWriter(sys.argv[1], {'clock': {'monotonic_ns': 0}})\n"
        "writer.write(np.zeros(9, EVENT), {})\n"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "a.rxt"], check=False).returncode == 0


def _fill_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Makes os.write take `after` bytes more, then fail like a full disk."""
    left, write = [after], os.write

    def limited(fd: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(fd, data[: left[0]])
        left[0] -= done
        return done

    monkeypatch.setattr(os, "write", limited)
