# SPDX-License-Identifier: GPL-2.0-only
import zlib

import numpy as np
import pytest

from toolkit.event import read_header
from toolkit.trace import schema

HEADER = "struct rxt_event {\n\t__u64 ts;\t\t/* [ns] when */\n\t__u8 kind;\t\t/* [1] what */\n};\n"


def test_event_is_64_bytes_in_the_order_of_the_header() -> None:
    assert schema.EVENT.itemsize == 64
    assert list(schema.EVENT.names or ()) == schema.SCHEMA.names
    assert schema.SCHEMA.names[:3] == ["ts", "dur", "reclaim"]


def test_columns_say_unit_and_meaning() -> None:
    metadata = schema.SCHEMA.field("packets").metadata
    assert metadata == {b"unit": b"packets", b"doc": b"taken from the ring by polls"}


def test_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        schema.event_dtype(read_header(HEADER).members)


def test_checksum_is_crc_32_of_json_and_columns() -> None:
    column = np.arange(1000, dtype=np.uint16)
    assert schema.checksum(b"{}", [column, column]) == b"%08x" % zlib.crc32(b"{}" + 2 * column.tobytes())


@pytest.mark.parametrize("version", [1, 2])
def test_checksum_tells_values_that_changed_or_moved(version: int) -> None:
    column = np.arange(1000, dtype=np.uint16)
    moved = column.copy()
    moved[[4, 404]] = moved[[404, 4]]
    pairs = [(b"", column), (b"", moved), (b"x", column)]
    assert len({schema.checksum(text, [values], version) for text, values in pairs}) == 3
