# SPDX-License-Identifier: GPL-2.0-only
"""Write a trace: an Arrow IPC stream in which every batch is whole once `write` has returned."""

import errno
import fcntl
import io
import json
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toolkit.errors import UserError, already_there
from toolkit.trace.ledger import Ledger, changes, lists, whole
from toolkit.trace.schema import CHECK_KEY, EVENT, FORMAT, META_KEY, SCHEMA, Events, checksum

FULL_EVENTS = 2048
"""Batches of at least this many events are compressed with zstd: a third to a half smaller, for at most twice
the time. For a few events zstd costs four times as much, and saves less than a tenth."""

_TYPES = [field.type for field in SCHEMA]
_SMALL = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class TraceWriter:
    """An open trace file; `with` closes it, without an end note if an exception passes.

    The file is locked (flock(2)) while it is open: so whoever follows it knows that it may still grow.

    :param path: the file to make, with mode 0600.
    :param meta: the JSON object of the whole trace (docs/trace-file.md) but `format`, which is the newest; an
        empty batch follows it.
    :param force: replace an existing file, once the new one has its beginning on the disk.
    :param level: how much time zstd takes for a full batch, 1 to 22.
    :raises UserError: if the file exists and not `force`, or cannot be made or written.
    """

    def __init__(
        self, path: Path | str, meta: Mapping[str, Any], *, force: bool = False, level: int = 1
    ) -> None:
        self.path = Path(path)
        self._message = io.BytesIO()
        self._good = 0
        self._closed = False
        making = self.path.with_name(f".{self.path.name}.{os.getpid()}.new") if force else self.path
        self._fd = _create(self.path, making, force=force)
        try:
            text = _encoded({**meta, "format": FORMAT})
            self._ledger: Ledger = {}
            self._counts: dict[str, dict[str, list[int]]] = {}
            self._check = checksum(text, [])
            schema = SCHEMA.with_metadata({META_KEY: text, CHECK_KEY: self._check})
            self._full = _full_batches(self._message, level)
            self._stream = pa.ipc.new_stream(self._message, schema, options=_SMALL)
            # Arrow holds the schema back until there is a batch.
            self.write(np.empty(0, EVENT), {"now_ns": meta["clock"]["monotonic_ns"], "ledger": {}})
            if making != self.path:
                making.replace(self.path)
        except BaseException:
            self._abandon()
            making.unlink(missing_ok=True)
            raise

    def write(self, events: Events, note: Mapping[str, Any]) -> None:
        """Append one batch; after it returns, killing this process does not lose the batch.

        :param events: an array of dtype EVENT, in any order of time; may be empty.
        :param note: about this batch: `now_ns`; `ledger`, for each kind of event the arrays attempted,
            delivered and dropped, with a count for every CPU since the trace began; and `devices` if they
            changed.
        :raises UserError: if the disk is full or fails; the batches before stay readable.
        """
        if self._closed:
            raise ValueError("write to a closed trace")
        # Few kinds of events come in one batch: the others are not looked at as arrays.
        counts = note.get("ledger", {}).items()
        counted = whole({kind: each for kind, each in counts if each != self._counts.get(kind)})
        before = {"before": self._check.decode(), "ledger": changes(counted, self._ledger)}
        text = _encoded({**note, **before})
        columns = [np.ascontiguousarray(events[name]) for name in EVENT.names or ()]
        check = checksum(text, columns)
        stream = self._full if len(events) >= FULL_EVENTS else self._stream
        stream.write_batch(_batch(columns), custom_metadata={META_KEY: text, CHECK_KEY: check})
        self._flush()
        self._ledger = {**self._ledger, **counted}
        self._counts |= lists(counted)
        self._check = check

    def close(self, note: Mapping[str, Any]) -> None:
        """End the trace with an empty batch; do nothing if it was closed or could not be written.

        :param note: as for `write`, with `end`: an object with the `reason`.
        :raises UserError: if the disk is full or fails.
        """
        if self._closed:
            return
        self.write(np.empty(0, EVENT), note)
        self._stream.close()
        self._flush()
        self._abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandon()

    def _flush(self) -> None:
        """Hand the message to the kernel; if that fails, cut the file after the last whole batch."""
        message = self._message.getbuffer()[: self._message.tell()]
        done = 0
        try:
            while done < len(message):
                done += os.write(self._fd, message[done:])
        except OSError as error:
            os.ftruncate(self._fd, self._good)
            self._abandon()
            raise _failed(self.path, error) from error
        finally:
            message.release()
        self._good += done
        self._message.seek(0)

    def _abandon(self) -> None:
        """Close the file as it is."""
        if not self._closed:
            self._closed = True
            os.close(self._fd)


def _encoded(found: Mapping[str, Any]) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode()


def _full_batches(message: io.BytesIO, level: int) -> Any:
    """Return a second stream for the same file, since a stream has one codec for all of its batches.

    Its own beginning is thrown away: the batches that it writes later are like those of the first stream.
    """
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", level), use_threads=False)
    stream = pa.ipc.new_stream(message, SCHEMA, options=options)
    stream.write_batch(_batch([np.empty(0, EVENT[name]) for name in SCHEMA.names]))
    message.seek(0)
    return stream


def _batch(columns: Sequence[NDArray[Any]]) -> pa.RecordBatch:
    # pa.array() would import pandas, some 100 MB to lock in memory.
    arrays = [
        pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(column)])
        for kind, column in zip(_TYPES, columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _create(path: Path, making: Path, *, force: bool) -> int:
    """Create the new file `making`, which is to become `path`; return its descriptor."""
    try:
        if force and path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path} is not a regular file; give another name.")
        fd = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise already_there(path) from None
    except OSError as error:
        raise UserError(f"cannot make {path}: {error.strerror}.") from error
    # A file system may have no locks: then nobody can follow the file.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _failed(path: Path, error: OSError) -> UserError:
    """Return the sentence for a write that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"no space left for {path}: free some, or write to another disk; "
            "what was recorded so far stays readable."
        )
    return UserError(f"cannot write {path}: {error.strerror}; what was recorded so far stays readable.")
