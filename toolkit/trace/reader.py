# SPDX-License-Identifier: GPL-2.0-only
"""Read a trace batch by batch, up to the last whole batch if the trace is cut off or damaged."""

import json
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toolkit.errors import UserError
from toolkit.printable import printable, read_json
from toolkit.trace.ledger import Ledger, changed, contradiction, whole
from toolkit.trace.schema import CHECK_KEY, EVENT, FORMAT, META_KEY, SCHEMA, checksum
from toolkit.trace.shape import FORMAT_SHAPE, LONGEST_NS, META, NOTES, Shape

Columns = dict[str, NDArray[Any]]
"""Column name -> values, one for each event; read-only."""

# Errors of Arrow, JSON and the checks below for bytes that no writer wrote.
_DAMAGE = (
    pa.ArrowException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    MemoryError,
    RecursionError,
)


class NewerFormatError(UserError):
    """The file is a trace, of a format that is newer than this toolkit."""


class _WrongBatchError(ValueError):
    """A batch that Arrow reads, but that no writer wrote there; the text says why."""


CHUNK_EVENTS = 1 << 14
"""A chunk has at least so many events, if there are so many: what is done for each chunk is then cheap."""

MOST_BATCHES = 1 << 10
"""A chunk has no more batches, however few events they have."""

_DTYPES = {name: EVENT[name] for name in SCHEMA.names}

KEPT_EVENTS = 1 << 20
"""So many events are kept in memory to be read again: 64 MiB."""


class Batch(NamedTuple):
    """Events that were written together, and the note that came with them.

    The note has the members of docs/trace-file.md, except that `dropped` takes the place of `ledger`: how
    many events were dropped since the trace began.
    """

    columns: Columns
    note: dict[str, Any]


class Chunk(NamedTuple):
    """The events of some batches that follow each other, and the notes of these. Only the first note may have
    `devices`."""

    columns: Columns
    notes: list[dict[str, Any]]


class TraceReader:
    """A trace opened for reading. Iterate it once, by batches or by `chunks`; `columns` reads a batch again,
    `chunk` a chunk.

    :param path: the file.
    :param stream: where its bytes come from instead, once and in their order: then no batch is read again.
    :raises UserError: if it cannot be opened, is not a trace, or one of a newer format.

    Attributes: `meta`, the JSON object of the whole trace, with the shape of toolkit.trace.shape and
    printable strings; after the iteration, `ledger`, what was counted in all, and `damage`, None for a
    whole trace, else a sentence that says where it stops and why.
    """

    def __init__(self, path: Path | str, stream: BinaryIO | None = None) -> None:
        self.path = Path(path)
        self.damage: str | None = None
        self.ledger: Ledger = {}
        self._offsets: list[int] = []
        self._chunks: list[range] = []
        self._kept: dict[int, Columns] = {}
        self._room = KEPT_EVENTS
        try:
            if stream is None:
                _require_file(self.path)
                self._file, self._again = pa.OSFile(str(path)), pa.OSFile(str(path))
            else:
                self._file, self._again = pa.PythonFile(stream, mode="r"), None
            # Arrow's threads, one for each column, cost more than they gain; scan reads ahead.
            # Between batches, malloc() gives less memory back than Arrow's own pool, and takes less anew.
            self._stream = pa.ipc.open_stream(
                self._file,
                options=pa.ipc.IpcReadOptions(use_threads=False),
                memory_pool=pa.system_memory_pool(),
            )
            schema = self._stream.schema
            text = (schema.metadata or {})[META_KEY]
        except FileNotFoundError:
            raise UserError(f"{path} does not exist.") from None
        except OSError as error:
            # Arrow also says OSError for bytes that are not a stream.
            reason = f"cannot read {path}: {error.strerror}." if error.errno else _not_a_trace(path)
            raise UserError(reason) from error
        except _DAMAGE as error:
            raise UserError(_not_a_trace(path)) from error
        self.meta = _beginning(self.path, schema, text)
        # The checksum of the beginning, then of the last batch.
        self._check = schema.metadata[CHECK_KEY]

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in the order of the file; `damage` is known after the last."""
        began = now = int(self.meta["clock"]["monotonic_ns"])
        read = np.zeros(256, np.int64)
        delivered: dict[str, int] = {}
        dropped = 0
        wrong: str | None = None
        while True:
            offset = self.tell() if self._again else 0
            try:
                columns, note = self._next_batch()
                read += np.bincount(columns["kind"], minlength=len(read))
                counts = note.pop("ledger", None)
                ledger = self._next_ledger(counts)
                if counts and self.meta["format"] == 1:
                    delivered, dropped = {}, 0
                for kind, lists in (counts or {}).items():
                    delivered[kind] = delivered.get(kind, 0) + sum(lists["delivered"])
                    dropped += sum(lists["dropped"])
                if difference := contradiction(delivered, read):
                    raise _WrongBatchError(difference)
                if note["now_ns"] < now:
                    raise _WrongBatchError("time goes back: batches are out of order")
            except _WrongBatchError as error:
                wrong = str(error)
                break
            except (StopIteration, *_DAMAGE):
                break
            now = int(note["now_ns"])
            self.ledger = ledger
            note["dropped"] = dropped
            self._offsets.append(offset)
            yield Batch(columns, note)
            if "end" in note:
                return
        # What follows in a stream has not come yet.
        cut = wrong is None and (not self._again or self._file.tell() >= self._file.size())
        self.damage = (
            f"{printable(str(self.path))} is {'cut off' if cut else 'damaged'} "
            f"after {(now - began) / 1e9:.3f} s (batch {len(self._offsets)}{f'; {wrong}' if wrong else ''}): "
            "what follows, if anything did, is not in the result."
        )

    def _next_batch(self) -> Batch:
        """Read the next batch and check it by itself."""
        batch, metadata = self._stream.read_next_batch_with_custom_metadata()
        columns = _columns(batch)
        text, version = metadata[META_KEY], self.meta["format"]
        sums = checksum(text, [columns[name] for name in _DTYPES], version)
        if metadata[CHECK_KEY] != sums:
            raise _WrongBatchError("it does not match its checksum")
        try:
            note = _read_json(text, NOTES[version])
        except (ValueError, RecursionError) as error:
            raise _WrongBatchError(_reason(error)) from error
        if version > 1 and note.pop("before").encode() != self._check:
            raise _WrongBatchError(
                "it does not follow the batch before it: one is missing, or repeated or out of order"
            )
        self._check = sums
        if reason := _impossible(columns, len(self.meta["drivers"])):
            raise _WrongBatchError(reason)
        return Batch(columns, note)

    def _next_ledger(self, counts: Any) -> Ledger:
        """Return what was counted until a batch, since the trace began.

        :param counts: the `ledger` of its note, None if it has none.
        """
        if counts is None:
            return self.ledger
        try:
            return whole(counts) if self.meta["format"] == 1 else changed(self.ledger, counts)
        except ValueError as error:
            raise _WrongBatchError(str(error)) from error

    def chunks(self) -> Iterator[Chunk]:
        """Yield the batches in the order of the file, small ones joined."""
        batches: list[Batch] = []
        events = 0
        for batch in self:
            if "devices" in batch.note and batches:
                yield self._joined(batches)
                batches, events = [], 0
            batches.append(batch)
            events += len(batch.columns["ts"])
            if events >= CHUNK_EVENTS or len(batches) == MOST_BATCHES:
                yield self._joined(batches)
                batches, events = [], 0
        if batches:
            yield self._joined(batches)
        if len(self._kept) < len(self._chunks):
            self._room = KEPT_EVENTS

    def _joined(self, batches: Sequence[Batch]) -> Chunk:
        """Return the next chunk, which has these batches."""
        first = self._chunks[-1].stop if self._chunks else 0
        self._chunks.append(range(first, first + len(batches)))
        columns = _concatenated([batch.columns for batch in batches])
        self._keep(len(self._chunks) - 1, columns)
        if len(self._kept) < len(self._chunks):
            # The trace is too long to be kept whole: the room is for chunks that are read again.
            self._kept, self._room = {}, 0
        return Chunk(columns, [batch.note for batch in batches])

    def _keep(self, index: int, columns: Columns) -> None:
        """Keep the columns of a chunk in memory, if there is room for them."""
        if len(columns["ts"]) <= self._room:
            self._kept[index] = columns
            self._room -= len(columns["ts"])

    def chunk(self, index: int) -> Columns:
        """Read a chunk again.

        :param index: its number, in the order of `chunks`, which went over it.
        :return: its columns.
        :raises UserError: if the file has changed since.
        """
        if index not in self._kept:
            columns = _concatenated([self.columns(number) for number in self._chunks[index]])
            self._keep(index, columns)
            return columns
        return self._kept[index]

    def tell(self) -> int:
        """Return how many bytes of the file were read: up to a batch, when the iteration gives it."""
        return int(self._file.tell())

    def columns(self, index: int) -> Columns:
        """Read a batch again.

        :param index: its number, in the order of the iteration that read it first.
        :return: its columns.
        :raises UserError: if the file has changed since.
        """
        try:
            self._again.seek(self._offsets[index])
            message = pa.ipc.read_message(self._again)
            return _columns(pa.ipc.read_record_batch(message, self._stream.schema))
        except _DAMAGE as error:
            raise UserError(f"{self.path} changed while it was read.") from error


def _require_file(path: Path) -> None:
    """Make sure that a trace can be read as often as needed.

    :raises UserError: if the path is no regular file.
    :raises OSError: if there is no such path.
    """
    once = "is read only once, but a trace is read again where it stalled: save it in a file first."
    if str(path) == "-" and not path.exists():
        raise UserError(f"standard input {once}")
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a directory, not a trace.")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is a pipe or a device, which {once}")


def _not_a_trace(path: Path | str) -> str:
    return f"{path} is not a trace of this toolkit, or was cut off in its first bytes."


def _beginning(path: Path, schema: pa.Schema, text: bytes) -> dict[str, Any]:
    """Return the JSON object of the trace, once it and the columns are what this toolkit reads."""
    try:
        if schema.metadata.get(CHECK_KEY) != checksum(text, []):
            raise ValueError("they do not match their checksum")
        version = _read_json(text, FORMAT_SHAPE)["format"]
        if version > FORMAT:
            raise NewerFormatError(
                f"{path} has format {version}, but this toolkit reads up to {FORMAT}: install a newer one."
            )
        meta = _read_json(text, META)
        for field in SCHEMA:
            if field.name not in schema.names or schema.field(field.name).type != field.type:
                raise ValueError(f"there is no column {field.name}, or it has another type")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged in its first bytes: {_reason(error)}.") from error
    return meta


def _read_json(text: bytes, shape: Shape) -> dict[str, Any]:
    """Return a JSON object of this shape, with printable strings.

    :raises ValueError: if the text is something else.
    :raises RecursionError: if it is too deep.
    """
    found = read_json(text)
    shape.check(found)
    return cast(dict[str, Any], found)


def _reason(error: Exception) -> str:
    """Say in words why JSON is not what a writer wrote."""
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "the JSON in it cannot be read"
    return "the JSON in it is too deep" if isinstance(error, RecursionError) else str(error)


def _impossible(columns: Columns, drivers: int) -> str | None:
    """Say why no kernel can have sent some events; return None if a kernel can."""
    ts, took = columns["ts"], columns["dur"]
    if not len(ts):
        return None
    if max(ts.max(), columns["reclaim"].max()) > LONGEST_NS:
        return f"an event is later, or took longer, than {LONGEST_NS} ns"
    if (took > ts).any():
        return "an event began before the clock did"
    if columns["driver"].max() >= drivers:
        return f"an event is of driver {columns['driver'].max()}, but {drivers} were traced"
    return None


def _concatenated(parts: Sequence[Columns]) -> Columns:
    """Return the columns of all parts, one after the other; without a copy if one part has all events."""
    some = [part for part in parts if len(part["ts"])] or parts[:1]
    if len(some) == 1:
        return some[0]
    return {name: np.concatenate([part[name] for part in some]) for name in _DTYPES}


def _columns(batch: pa.RecordBatch) -> Columns:
    """Return the columns of EVENT, without a copy.

    :raises ValueError: if a column has nulls or is too short.
    """
    columns: Columns = {}
    for name, dtype in _DTYPES.items():
        # Array.to_numpy() would import pandas.
        valid, data = batch.column(name).buffers()
        if valid is not None:
            raise ValueError(f"{name} has nulls")
        columns[name] = np.frombuffer(data or b"", dtype, batch.num_rows)
    return columns
