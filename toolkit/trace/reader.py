# SPDX-License-Identifier: GPL-2.0-only
"""Reads a trace batch by batch, up to the last whole one if it is cut off or damaged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toolkit.errors import UserError
from toolkit.trace.schema import CHECK_KEY, EVENT, FORMAT, META_KEY, SCHEMA, checksum

Columns = dict[str, NDArray[Any]]
"""Column name -> values, one for each event; read-only."""

# What Arrow, JSON and the checks below raise for bytes that are not what a writer wrote.
_DAMAGE = (pa.ArrowException, OSError, EOFError, ValueError, TypeError, KeyError, IndexError, MemoryError)


class Batch(NamedTuple):
    """Events that were written together, and the note that came with them."""

    columns: Columns
    note: dict[str, Any]


class TraceReader:
    """A trace opened for reading. Iterate it once; `columns` reads a batch again.

    :param path: the file.
    :raises UserError: if it cannot be opened, is not a trace, or one of a newer format.

    Attributes: `meta`, the JSON object of the whole trace; `damage`, after the iteration, None for
    a whole trace, else a sentence that says where it stops and why.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damage: str | None = None
        self._offsets: list[int] = []
        try:
            if self.path.is_dir():
                raise UserError(f"{path} is a directory, not a trace.")
            self._file, self._again = pa.OSFile(str(path)), pa.OSFile(str(path))
            self._stream = pa.ipc.open_stream(self._file)
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

    def __iter__(self) -> Iterator[Batch]:
        """:return: the batches in the order of the file; `damage` is known after the last."""
        began = int(self.meta["clock"]["monotonic_ns"])
        note: dict[str, Any] = {"now_ns": began}
        while True:
            offset = self._file.tell()
            try:
                batch, metadata = self._stream.read_next_batch_with_custom_metadata()
                columns = _columns(batch)
                text = metadata[META_KEY]
                if metadata[CHECK_KEY] != checksum(text, [columns[name] for name in SCHEMA.names]):
                    raise ValueError("checksum")
                note = dict(json.loads(text))
            except (StopIteration, *_DAMAGE):
                break
            self._offsets.append(offset)
            yield Batch(columns, note)
            if "end" in note:
                return
        what = "is cut off" if self._file.tell() >= self._file.size() else "is damaged"
        after = (int(note["now_ns"]) - began) / 1e9
        self.damage = (
            f"{self.path} {what} after {after:.3f} s (batch {len(self._offsets)}): "
            "what follows, if anything did, is not in the result."
        )

    def columns(self, index: int) -> Columns:
        """Reads a batch again.

        :param index: its number, in the order of the iteration that went over it.
        :return: its columns.
        :raises UserError: if the file has changed since.
        """
        try:
            self._again.seek(self._offsets[index])
            message = pa.ipc.read_message(self._again)
            return _columns(pa.ipc.read_record_batch(message, self._stream.schema))
        except _DAMAGE as error:
            raise UserError(f"{self.path} changed while it was read.") from error


def _not_a_trace(path: Path | str) -> str:
    return f"{path} is not a trace of this toolkit, or was cut off in its first bytes."


def _beginning(path: Path, schema: pa.Schema, text: bytes) -> dict[str, Any]:
    """:return: the JSON object of the trace, once it and the columns are what this toolkit reads."""
    try:
        whole = schema.metadata[CHECK_KEY] == checksum(text, [])
        meta = dict(json.loads(text)) if whole else {}
        whole = whole and isinstance(meta["format"], int)
        newer = whole and meta["format"] > FORMAT
        known = newer or all(schema.field(field.name).type == field.type for field in SCHEMA)
        whole = whole and (newer or isinstance(meta["clock"]["monotonic_ns"], int))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged in its first bytes.") from error
    if not whole or not known:
        raise UserError(f"{path} is damaged in its first bytes.")
    if newer:
        raise UserError(
            f"{path} has format {meta['format']}, but this toolkit reads up to {FORMAT}: install a newer one."
        )
    return meta


def _columns(batch: pa.RecordBatch) -> Columns:
    """:return: the columns of EVENT, without a copy.

    :raises ValueError: if one has nulls or is too short.
    """
    columns: Columns = {}
    for name in SCHEMA.names:
        column = batch.column(name)
        data = column.buffers()[1]
        if column.null_count or column.offset or len(column) != batch.num_rows:
            raise ValueError(name)
        columns[name] = np.frombuffer(data or b"", EVENT[name], count=batch.num_rows)
    return columns
