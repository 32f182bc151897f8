# SPDX-License-Identifier: GPL-2.0-only
import io
import json

import pyarrow.compute as pc
import pyarrow.parquet as pq

import toolkit
from tests.conftest import META, Trace, event, failed
from toolkit.event import ALL_QUEUES
from toolkit.report.export import parquet

UNKNOWN = [
    event("worker_in", 1, queue=ALL_QUEUES),
    failed(2, dur=3, posted_before=7, gfp=0xFFFFFFFF),
]


def test_parquet_has_signed_columns_units_and_the_trace(make_trace: Trace) -> None:
    file = io.BytesIO()
    parquet.render(toolkit.read(make_trace(UNKNOWN)), file)
    table = pq.read_table(io.BytesIO(file.getvalue()))
    assert json.loads(table.schema.metadata[b"rxt"]) == META
    units = {field.name: field.metadata[b"unit"].decode() for field in table.schema}
    assert (units["ts"], units["posted_after"], units["packets"], units["gfp"]) == (
        "ns",
        "buffers",
        "packets",
        "1",
    )
    assert (
        table.schema.field("posted_after").metadata[b"doc"] == b"posted at the end; null where nobody looked"
    )
    # What counts or measures may be subtracted; what only names something is as the kernel has it.
    assert all(
        (unit != "1") == (str(table.schema.field(name).type) in ("int32", "int64"))
        for name, unit in units.items()
    )
    assert pc.subtract(table["posted_after"], table["posted_before"]).to_pylist() == [None, -7]
    assert table["gfp"].to_pylist() == [0, 0xFFFFFFFF]
