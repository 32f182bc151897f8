# SPDX-License-Identifier: GPL-2.0-only
"""Of reader.py. A long file: each kind of damage is a test of its own."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import BEGAN, META, S, Trace, failed, note, window
from toolkit.errors import UserError
from toolkit.trace import reader as trace_reader
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import CHECK_KEY, EVENT, META_KEY, SCHEMA, Events, checksum
from toolkit.trace.writer import TraceWriter


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """:return: a trace of three batches and an end."""
    written: list[Events] = []
    with TraceWriter(tmp_path / "whole.rxt", META) as writer:
        for second in range(1, 4):
            events = [window(second + each / 1000, tid=each * 7919) for each in range(40)]
            written.append(np.concatenate(events))
            writer.write(written[-1], note(second, 0, *written))
        writer.close(note(4, 0, *written, end={"reason": "duration"}))
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


def _joined(path: Path, monkeypatch: pytest.MonkeyPatch, events: int) -> tuple[TraceReader, list[list[int]]]:
    """Return a reader that went over chunks of so many events, and the queues of the events in each."""
    monkeypatch.setattr(trace_reader, "CHUNK_EVENTS", events)
    reader = TraceReader(path)
    return reader, [chunk.columns["queue"].tolist() for chunk in reader.chunks()]


@pytest.mark.parametrize(
    ("events", "chunks"),
    [
        (0, [[], [1], [2, 3], [4], []]),
        (2, [[1, 2, 3], [4]]),
        (4, [[1, 2, 3, 4], []]),
        (100, [[1, 2, 3, 4]]),
    ],
)
def test_small_batches_are_joined(
    events: int, chunks: list[list[int]], make_trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = [window(each, queue=each) for each in range(1, 5)]
    path = make_trace([number[0]], number[1:3], [number[3]])
    reader, found = _joined(path, monkeypatch, events)
    assert found == chunks
    assert [reader.chunk(index)["queue"].tolist() for index in range(len(chunks))] == chunks


def test_chunks_that_are_not_kept_are_read_again(make_trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_trace(*([window(second, queue=second)] for second in range(1, 7)))
    monkeypatch.setattr(trace_reader, "KEPT_EVENTS", 4)
    reader, found = _joined(path, monkeypatch, 2)
    assert found == [[1, 2], [3, 4], [5, 6], []]
    for _ in range(2):
        assert [reader.chunk(index)["queue"].tolist() for index in (1, 2, 0, 3)] == [
            [3, 4],
            [5, 6],
            [1, 2],
            [],
        ]
    path.write_bytes(b"")
    assert reader.chunk(1)["queue"].tolist() == [3, 4]
    with pytest.raises(UserError, match="changed"):
        reader.chunk(0)


def test_a_chunk_begins_where_devices_change(tmp_path: Path) -> None:
    path = tmp_path / "a.rxt"
    devices = {"devices": META["devices"]}
    with TraceWriter(path, META) as writer:
        writer.write(window(1, queue=1), note(1, 0, window(1)))
        writer.write(window(2, queue=2), note(2, 0, window(1), window(2)) | devices)
        writer.write(window(3, queue=3), note(3, 0, window(1), window(2), window(3)))
    chunks = list(TraceReader(path).chunks())
    assert [chunk.columns["queue"].tolist() for chunk in chunks] == [[1], [2, 3]]
    assert [["devices" in about for about in chunk.notes] for chunk in chunks] == [[False] * 2, [True, False]]


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


@pytest.mark.long
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


def test_newer_format_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.rxt", META | {"format": 3})
    with pytest.raises(UserError, match="has format 3, but this toolkit reads up to 2: install a newer one"):
        TraceReader(tmp_path / "a.rxt")


def test_a_file_that_shrinks_while_it_is_read(make_trace: Trace) -> None:
    path = make_trace([window(1)], [window(2)])
    reader = TraceReader(path)
    list(reader)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="changed"):
        reader.columns(1)


def _damage(path: Path, batches: list[tuple[Events, dict[str, Any]]], meta: dict[str, Any] = META) -> str:
    """Write batches with valid checksums and return what the reader says of them."""
    with TraceWriter(path, meta, force=True) as writer:
        for events, about in batches:
            writer.write(events, about)
    return _said(path)


def _batches() -> list[tuple[Events, dict[str, Any]]]:
    """Return three batches with two events each, and the end."""
    written: list[Events] = []
    batches = []
    for second in (1, 2, 3):
        written.append(np.concatenate([window(second), failed(second)]))
        batches.append((written[-1], note(second, 0, *written)))
    return [*batches, (np.empty(0, EVENT), note(4, 0, *written, end={"reason": "duration"}))]


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        ([0, 2, 3], "is damaged after 1.000 s (batch 2; the ledger has 3 window events, but there are 2"),
        ([0, 1, 3], "is damaged after 2.000 s (batch 3; the ledger has 3 window events, but there are 2"),
        (
            [0, 1, 1, 2, 3],
            "is damaged after 2.000 s (batch 3; the ledger has 2 window events, but there are 3",
        ),
        ([1, 0, 2, 3], "is damaged after 0.000 s (batch 1; the ledger has 2 window events, but there are 1"),
        ([3, 2, 1, 0], "is damaged after 0.000 s (batch 1; the ledger has 3 window events, but there are 0"),
    ],
)
def test_batches_that_are_missing_repeated_or_out_of_order(
    order: list[int], sentence: str, tmp_path: Path
) -> None:
    assert _damage(tmp_path / "a.rxt", _batches()) == "None"
    batches = _batches()
    damage = _damage(tmp_path / "a.rxt", [batches[number] for number in order])
    assert sentence in damage
    assert "a batch is missing, repeated or out of order" in damage


def test_ledger_is_summed_up(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "a.rxt", META) as writer:
        writer.write(window(1), note(1, 3, window(1)))
        writer.write(failed(2), note(2, 3, window(1), failed(2)))
        writer.close(note(3, 4, window(1), failed(2), end={"reason": "duration"}))
    reader = TraceReader(tmp_path / "a.rxt")
    assert [batch.note["dropped"] for batch in reader] == [0, 3, 3, 4]
    assert {kind: counts.tolist() for kind, counts in reader.ledger.items()} == {
        "window": [[1, 4], [1, 0], [0, 4]],
        "refill": [[1], [1], [0]],
    }


def test_time_that_goes_back(tmp_path: Path) -> None:
    damage = _damage(tmp_path / "a.rxt", [(np.empty(0, EVENT), note(second)) for second in (2, 1)])
    assert "time goes back" in damage


def test_kinds_that_only_a_newer_toolkit_knows_are_counted_too(tmp_path: Path) -> None:
    events = window(1)
    events["kind"] = 200
    ledger = {"brand_new": {"attempted": [1, 0], "delivered": [1, 0], "dropped": [0, 0]}}
    end = note(2, end={"reason": "duration"})
    good = [(events, note(1) | {"ledger": ledger}), (np.empty(0, EVENT), end | {"ledger": ledger})]
    assert _damage(tmp_path / "a.rxt", good) == "None"
    assert "0 events of other kinds, but there are 1" in _damage(tmp_path / "a.rxt", [(events, note(1))])


_DEVICE = META["devices"][0]


@pytest.mark.parametrize(
    ("member", "value", "sentence"),
    [
        ("devices", None, "devices is no array"),
        ("devices", [{**_DEVICE, "ifindex": True}], "devices[0].ifindex is no integer"),
        (
            "devices",
            [{"name": "eth1", "driver": "virtio_net", "queues": []}],
            "devices[0].ifindex is missing",
        ),
        ("devices", [{**_DEVICE, "queues": [{"queue": 2**70}]}], "devices[0].queues[0].queue is not between"),
        ("devices", [{**_DEVICE, "queues": [{"queue": 0, "size": "9"}]}], "queues[0].size is no integer"),
        ("devices", [{**_DEVICE, "name": "x" * 300}], "devices[0].name is longer than 256 characters"),
        ("clock", {"monotonic_ns": 2**63, "realtime_ns": 0, "boottime_ns": 0}, "clock.monotonic_ns is not"),
        ("clock", {"monotonic_ns": 1}, "clock.realtime_ns is missing"),
        ("drivers", [], "drivers has 0 members"),
        ("drivers", [{"name": 3}], "drivers[0].name is no string"),
        ("drivers", [{"name": "virtio_net", "hooks": [[]]}], "drivers[0].hooks[0] is no object"),
        ("gfp_flags", {"a": 1.5}, "gfp_flags.a is no integer"),
        ("format", None, "format is no integer"),
        ("kernel", ["6"], "kernel is no string"),
    ],
)
def test_a_beginning_of_the_wrong_shape(member: str, value: object, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.rxt"
    _write(path, {**META, member: value})
    with pytest.raises(UserError) as raised:
        TraceReader(path)
    assert f"{path} is damaged in its first bytes: " in str(raised.value)
    assert sentence in str(raised.value)


def _write(path: Path, meta: object, *batches: tuple[Events, dict[str, Any]]) -> str:
    """Write JSON and batches as they are, with their checksums.

    :return: what the reader says of them; of a beginning alone, nothing.
    """
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    check = checksum(text, [])
    schema = SCHEMA.with_metadata({META_KEY: text, CHECK_KEY: check})
    with pa.ipc.new_stream(path, schema) as stream:
        for events, about in batches:
            columns = [np.ascontiguousarray(events[name]) for name in SCHEMA.names]
            written = json.dumps({"before": check.decode(), **about}).encode()
            check = checksum(written, columns, about.get("version", 2))
            batch = pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=schema)
            stream.write_batch(batch, custom_metadata={META_KEY: written, CHECK_KEY: check})
    return _said(path) if batches else ""


def _said(path: Path) -> str:
    reader = TraceReader(path)
    for _ in reader:
        pass
    return str(reader.damage)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"[" * 100_000, "the JSON in it"),
        (b'{"format": ' + b"9" * 5000 + b"}", "first bytes"),
        (b'{"format": 1', "the JSON in it cannot be read"),
        (b"[1]", "it is no object"),
        (b"\xff", "the JSON in it cannot be read"),
    ],
)
def test_a_beginning_that_is_no_json_object(text: bytes, sentence: str, tmp_path: Path) -> None:
    _write(tmp_path / "a.rxt", text)
    with pytest.raises(UserError, match="damaged in its first bytes") as raised:
        TraceReader(tmp_path / "a.rxt")
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"ledger": {}}, "now_ns is missing"),
        ({"now_ns": None, "ledger": {}}, "now_ns is no integer"),
        ({"now_ns": BEGAN, "ledger": None}, "ledger is no object"),
        ({"now_ns": BEGAN, "before": None}, "before is no string"),
        ({"now_ns": BEGAN, "ledger": {"poll": {"cpu": [None]}}}, "ledger.poll.cpu is no integer"),
        (
            {
                "now_ns": BEGAN,
                "ledger": {"poll": {"cpu": [0, 1], "attempted": [1], "delivered": [1], "dropped": [0]}},
            },
            "the ledger of poll has not one number for each CPU",
        ),
        ({"now_ns": BEGAN, "ledger": {}, "devices": [{}]}, "devices[0].ifindex is missing"),
        ({"now_ns": BEGAN, "ledger": {}, "end": 1}, "end is no object"),
    ],
)
def test_a_note_of_the_wrong_shape(about: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    empty = np.empty(0, EVENT)
    said = _write(tmp_path / "a.rxt", META, (empty, {"now_ns": BEGAN}), (empty, about))
    assert f"is damaged after 0.000 s (batch 1; {sentence}" in said


@pytest.mark.parametrize("order", [[0, 2, 3], [0, 1, 1, 2, 3], [0, 2, 1, 3], [1, 2, 3]])
def test_batches_follow_each_other(order: list[int], tmp_path: Path) -> None:
    """Arrow's own batches are moved about. Those without events have nothing to count."""
    with TraceWriter(tmp_path / "whole.rxt", META) as writer:
        writer.write(np.empty(0, EVENT), note(1))
        writer.write(np.empty(0, EVENT), note(1))
        writer.close(note(1, end={"reason": "duration"}))
    stream = pa.ipc.open_stream(tmp_path / "whole.rxt")
    batches = [stream.read_next_batch_with_custom_metadata() for _ in range(4)]
    with pa.ipc.new_stream(tmp_path / "a.rxt", stream.schema) as out:
        for number in order:
            out.write_batch(batches[number][0], custom_metadata=batches[number][1])
    assert "does not follow the batch before it: one is missing, or repeated or out of order" in _said(
        tmp_path / "a.rxt"
    )


def test_format_1_has_the_whole_ledger_in_each_batch(tmp_path: Path) -> None:
    about = [note(second, second, *([window(1)] * second)) | {"version": 1} for second in (1, 2)]
    batches = [(window(second), said) for second, said in zip((1, 2), about, strict=True)]
    end = (np.empty(0, EVENT), about[-1] | {"end": {}})
    path, meta = tmp_path / "a.rxt", META | {"format": 1}
    assert _write(path, meta, *batches, end) == "None"
    reader = TraceReader(path)
    assert [batch.note["dropped"] for batch in reader] == [1, 2, 2]
    assert reader.ledger["window"].tolist() == [[2, 2], [2, 0], [0, 2]]
    assert "the ledger has 2 window events, but there are 1" in _write(path, meta, batches[1])


@pytest.mark.parametrize(
    ("member", "value", "sentence"),
    [
        ("ts", 2**63, "an event is later"),
        ("reclaim", 2**64 - 1, "an event is later, or took longer"),
        ("dur", BEGAN + 2 * S, "an event began before the clock did"),
        ("driver", 1, "an event is of driver 1, but 1 were traced"),
    ],
)
def test_events_that_no_kernel_sends(member: str, value: int, sentence: str, tmp_path: Path) -> None:
    events = window(1)
    events[member] = value
    assert sentence in _damage(tmp_path / "a.rxt", [(events, note(1, 0, events))])


def test_names_have_no_control_characters(make_trace: Trace, tmp_path: Path) -> None:
    names = {"kernel": "\x1b[2J<b>\u202e", "devices": [{**_DEVICE, "name": "eth1\n\udcff\x7f\x9b"}]}
    reader = TraceReader(make_trace([window(1)], meta=META | names))
    assert reader.meta["kernel"] == "\\x1b[2J<b>\\u202e"
    assert reader.meta["devices"][0]["name"] == "eth1\\n\\udcff\\x7f\\x9b"
    end = note(1, end={"reason": "\x1b[2J"})
    with TraceWriter(tmp_path / "b.rxt", META) as writer:
        writer.close(end)
    assert list(TraceReader(tmp_path / "b.rxt"))[-1].note["end"] == {"reason": "\\x1b[2J"}
