# SPDX-License-Identifier: GPL-2.0-only
"""The one record, read from probes/event.h: as a numpy dtype and as an Arrow schema."""

import re
import zlib
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toolkit import PROBES

Events: TypeAlias = NDArray[np.void]
"""A structured array of dtype EVENT."""

FORMAT = 1
"""The newest version of the trace file that this toolkit reads, and the one that it writes."""

META_KEY = b"rxt"
"""Key of the JSON object in the schema's metadata and in each batch's."""

CHECK_KEY = b"rxt-check"
"""Key of the checksum beside it: of the JSON and, in a batch, of the columns."""

_DEFINE = re.compile(r"#define RXT_([A-Z_]+) (0x[0-9a-f]+|\d+)(?:ULL)?")
_ENUMERATOR = re.compile(r"\tRXT_([A-Z_]+) = (\d+),\t+/\* (\[posted\] )?.+ \*/")
_MEMBER = re.compile(r"\t__u(8|16|32|64) ([a-z_]+);\t+/\* \[(\w+)\] (.+) \*/")


class Member(NamedTuple):
    """One member of struct rxt_event."""

    name: str
    bits: int
    unit: str
    doc: str


class Header(NamedTuple):
    """What probes/event.h says."""

    constants: dict[str, int]
    enums: dict[str, dict[str, int]]
    members: list[Member]
    posted: list[str]


def read_header(text: str) -> Header:
    """Reads the C header of the record.

    :param text: the header; inside `enum` and `struct`, one enumerator or member a line.
    :return: its constants and enumerators without RXT_, its members in order, and the kinds that count
        posted buffers.
    :raises ValueError: if a line of an enum or of the struct is not of that form.
    """
    header = Header({}, {}, [], [])
    block = ""
    for line in text.splitlines():
        if match := _DEFINE.fullmatch(line):
            header.constants[match[1]] = int(match[2], 0)
        elif match := re.fullmatch(r"(?:enum|struct) rxt_(\w+) \{", line):
            block = match[1]
            if block != "event":
                header.enums[block] = {}
        elif line == "};":
            block = ""
        elif block == "event" and (match := _MEMBER.fullmatch(line)):
            header.members.append(Member(match[2], int(match[1]), match[3], match[4]))
        elif block and block != "event" and (match := _ENUMERATOR.fullmatch(line)):
            header.enums[block][match[1].lower()] = int(match[2])
            header.posted.extend([match[1].lower()] if match[3] else [])
        elif block:
            raise ValueError(f"event.h: this line of rxt_{block} is not understood: {line!r}")
    return header


def event_dtype(members: list[Member]) -> np.dtype[np.void]:
    """Lays the members out as C does.

    :return: the dtype of one record, exactly 64 bytes, each member at a multiple of its size.
    :raises ValueError: if the members do not fill 64 bytes without padding.
    """
    dtype = np.dtype([(member.name, f"<u{member.bits // 8}") for member in members])
    fields = dict(dtype.fields or {})
    if dtype.itemsize != 64 or any(offset % field.itemsize for field, offset, *_ in fields.values()):
        raise ValueError(f"event.h: the record is padded or not 64 bytes long, but {dtype.itemsize}")
    return dtype


def event_schema(members: list[Member]) -> pa.Schema:
    """:return: one not-null column for each member; its metadata has `unit` and `doc`."""
    return pa.schema(
        pa.field(name, getattr(pa, f"uint{bits}")(), nullable=False, metadata={"unit": unit, "doc": doc})
        for name, bits, unit, doc in members
    )


def checksum(text: bytes, columns: list[NDArray[Any]]) -> bytes:
    """Sums up a batch so that a damaged byte shows: cheap enough to check at every reading.

    :param text: the JSON that goes with the columns.
    :param columns: contiguous arrays.
    :return: CRC-32, in hex, of the text and of each column: of the sums of every 61st 64-bit word (61 of
        them, so that values that changed places show too) and of the bytes that are left.
    """
    check = zlib.crc32(text)
    for column in columns:
        data = column.view(np.uint8)
        words = data[: data.size // 488 * 488].view("<u8").reshape(-1, 61)
        check = zlib.crc32(words.sum(axis=0, dtype="<u8").tobytes(), check)
        check = zlib.crc32(data[words.nbytes :].tobytes(), check)
    return b"%08x" % check


_HEADER = read_header((PROBES / "event.h").read_text())

EVENT = event_dtype(_HEADER.members)
SCHEMA = event_schema(_HEADER.members)
KIND = _HEADER.enums["kind"]
FLAG = _HEADER.enums["flag"]
POSTED_KINDS = tuple(_HEADER.posted)
"""Kinds of events that count the posted buffers at that moment."""
NOT_KNOWN = _HEADER.constants["NOT_KNOWN"]
NO_ORDER = _HEADER.constants["NO_ORDER"]
ALL_QUEUES = _HEADER.constants["ALL_QUEUES"]
WINDOW_NS = _HEADER.constants["WINDOW_NS"]
