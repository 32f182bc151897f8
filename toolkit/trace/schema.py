# SPDX-License-Identifier: GPL-2.0-only
"""The one record as a numpy dtype and as an Arrow schema, and the checksum of a batch."""

import zlib
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toolkit.event import MEMBERS, Member

Events: TypeAlias = NDArray[np.void]
"""A structured array of dtype EVENT."""

FORMAT = 2
"""The newest version of the trace file that this toolkit reads, and the one that it writes."""

META_KEY = b"rxt"
"""Key of the JSON object in the schema's metadata and in each batch's."""

CHECK_KEY = b"rxt-check"
"""Key of the checksum beside it: of the JSON and, in a batch, of the columns."""


def event_dtype(members: list[Member]) -> np.dtype[np.void]:
    """Lay the members out as C does.

    :return: the dtype of one record, exactly 64 bytes, each member at a multiple of its size.
    :raises ValueError: if the members do not fill 64 bytes without padding.
    """
    dtype = np.dtype([(member.name, f"<u{member.bits // 8}") for member in members])
    fields = dict(dtype.fields or {})
    if dtype.itemsize != 64 or any(offset % field.itemsize for field, offset, *_ in fields.values()):
        raise ValueError(f"event.h: the record is padded or not 64 bytes long, but {dtype.itemsize}")
    return dtype


def event_schema(members: list[Member]) -> pa.Schema:
    """Return one not-null column for each member; its metadata has `unit` and `doc`."""
    return pa.schema(
        pa.field(name, getattr(pa, f"uint{bits}")(), nullable=False, metadata={"unit": unit, "doc": doc})
        for name, bits, unit, doc in members
    )


def checksum(text: bytes, columns: list[NDArray[Any]], version: int = FORMAT) -> bytes:
    """Return the checksum of a batch: CRC-32, in hex, of its JSON and of each column in turn.

    :param text: the JSON that goes with the columns.
    :param columns: contiguous arrays.
    :param version: of the format; format 1 has less than the whole of each column in it.
    """
    check = zlib.crc32(text)
    for column in columns:
        for part in (column,) if version > 1 else _sums(column):
            check = zlib.crc32(part.data, check)
    return b"%08x" % check


def _sums(column: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return what the checksum of format 1 is of: the sums of every 61st 64-bit word, 61 of them, and the
    bytes that are left."""
    if column.nbytes < _NO_SUMS.nbytes:
        return _NO_SUMS, column
    data = column.view(np.uint8)
    words = data[: data.size // 488 * 488].view("<u8").reshape(-1, 61)
    return words.sum(axis=0, dtype="<u8"), data[words.nbytes :]


_NO_SUMS = np.zeros(61, "<u8")


EVENT = event_dtype(MEMBERS)
SCHEMA = event_schema(MEMBERS)
