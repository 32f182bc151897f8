# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from toolkit.trace import schema

HEADER = "struct rxt_event {\n\t__u64 ts;\t\t/* [ns] when */\n\t__u8 kind;\t\t/* [1] what */\n};\n"


def test_event_is_64_bytes_in_the_order_of_the_header() -> None:
    assert schema.EVENT.itemsize == 64
    assert list(schema.EVENT.names or ()) == schema.SCHEMA.names
    assert schema.SCHEMA.names[:3] == ["ts", "dur", "reclaim"]


def test_columns_say_unit_and_meaning() -> None:
    metadata = schema.SCHEMA.field("packets").metadata
    assert metadata == {b"unit": b"packets", b"doc": b"taken from the ring by polls"}


def test_constants_are_those_of_the_header() -> None:
    assert schema.KIND["napi_off"] == 7
    assert list(schema.FLAG) == ["process", "complete", "in_worker", "stopped", "held", "some_free", "kick"]
    assert list(schema.FLAG.values()) == [1, 2, 4, 8, 16, 32, 64]
    assert (schema.NOT_KNOWN, schema.ALL_QUEUES, schema.WINDOW_NS) == (65535, 65535, 10_000_000)


def test_kinds_that_count_posted_buffers_are_marked_in_the_header() -> None:
    assert schema.POSTED_KINDS == ("window", "refill", "poll", "blocked", "unblocked")


@pytest.mark.parametrize(
    "line", ["\t__u8 kind;", "\tint kind;\t/* [1] what */", "\t__u8 a, b;\t/* [1] what */"]
)
def test_a_line_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        schema.read_header(HEADER.replace("\t__u8 kind;\t\t/* [1] what */", line))


def test_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        schema.event_dtype(schema.read_header(HEADER).members)


def test_checksum_tells_values_that_changed_or_moved() -> None:
    column = np.arange(1000, dtype=np.uint16)
    moved = column.copy()
    moved[[4, 404]] = moved[[404, 4]]
    checks = {schema.checksum(b"", [column]), schema.checksum(b"", [moved]), schema.checksum(b"x", [column])}
    assert len(checks) == 3
