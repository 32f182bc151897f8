# SPDX-License-Identifier: GPL-2.0-only
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import META, Trace, note, window
from toolkit.errors import UserError
from toolkit.trace.reader import TraceReader
from toolkit.trace.writer import TraceWriter


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """:return: a trace of three batches and an end."""
    with TraceWriter(tmp_path / "whole.rxt", META) as writer:
        for second in range(1, 4):
            events = [window(second + each / 1000, tid=each * 7919) for each in range(40)]
            writer.write(np.concatenate(events), note(second))
        writer.close(note(4, end={"reason": "duration"}))
    return (tmp_path / "whole.rxt").read_bytes()


def _read(path: Path, data: bytes) -> Any:
    """:return: meta, batches and damage of these bytes; or the sentence that they are no trace."""
    path.write_bytes(data)
    try:
        reader = TraceReader(path)
    except UserError as error:
        return str(error)
    batches = [({name: c.tolist() for name, c in columns.items()}, note) for columns, note in reader]
    return reader.meta, batches, reader.damage


def test_whole_trace_is_read_without_damage(whole: bytes, tmp_path: Path) -> None:
    meta, batches, damage = _read(tmp_path / "a.rxt", whole)
    assert meta == META
    assert damage is None
    assert [len(columns["ts"]) for columns, _ in batches] == [0, 40, 40, 40, 0]
    assert batches[-1][1]["end"] == {"reason": "duration"}


def test_a_batch_is_read_again(make_trace: Trace) -> None:
    reader = TraceReader(make_trace([window(1)], [window(2, packets=7)]))
    assert len(list(reader)) == 4
    assert reader.columns(2)["packets"].tolist() == [7]


def test_trace_cut_anywhere_is_read_up_to_there(whole: bytes, tmp_path: Path) -> None:
    _, everything, _ = _read(tmp_path / "a.rxt", whole)
    seen = set()
    for length in range(0, len(whole), 37):
        result = _read(tmp_path / "a.rxt", whole[:length])
        if isinstance(result, str):
            assert "not a trace" in result
            continue
        _, batches, damage = result
        assert batches == everything[: len(batches)]
        assert (damage and "is cut off after" in damage) or "is damaged after" in str(damage)
        seen.add(len(batches))
    assert seen == {0, 1, 2, 3, 4}


def test_flipped_bytes_are_found_or_harmless(whole: bytes, tmp_path: Path) -> None:
    meta, everything, _ = _read(tmp_path / "a.rxt", whole)
    chance = random.Random(1)
    found = 0
    for _ in range(800):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        result = _read(tmp_path / "a.rxt", bytes(data))
        if isinstance(result, str) or result[2]:
            found += 1
        else:
            assert result == (meta, everything, None)
    assert found > 400


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not a trace"),
        (b"\x7fELF" * 100, "is not a trace"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "is not a trace"),
    ],
)
def test_file_that_is_no_trace_is_one_sentence(data: bytes, sentence: str, tmp_path: Path) -> None:
    assert sentence in str(_read(tmp_path / "a.rxt", data))


def test_stream_of_another_program_is_refused(tmp_path: Path) -> None:
    with pa.ipc.new_stream(tmp_path / "a.rxt", pa.schema({"a": pa.int8()})):
        pass
    with pytest.raises(UserError, match="is not a trace"):
        TraceReader(tmp_path / "a.rxt")


@pytest.mark.parametrize(("name", "sentence"), [("none.rxt", "does not exist"), (".", "is a directory")])
def test_missing_file_is_one_sentence(name: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        TraceReader(tmp_path / name)


def test_newer_format_is_refused(make_trace: Trace) -> None:
    path = make_trace(meta=META | {"format": 2})
    with pytest.raises(UserError, match="has format 2, but this toolkit reads up to 1"):
        TraceReader(path)


def test_a_file_that_shrinks_while_it_is_read(make_trace: Trace) -> None:
    path = make_trace([window(1)], [window(2)])
    reader = TraceReader(path)
    list(reader)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="changed"):
        reader.columns(1)
