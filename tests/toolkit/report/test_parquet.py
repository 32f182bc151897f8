# SPDX-License-Identifier: GPL-2.0-only
import io

import pandas as pd
import pyarrow.parquet as pq

from toolkit.report import parquet


def test_columns_have_units() -> None:
    columns = ["start_ns", "starved_ns", "posted", "packets", "queue"]
    file = io.BytesIO()
    parquet.write_stalls(pd.DataFrame([dict.fromkeys(columns, 1)]), file)
    schema = pq.read_schema(io.BytesIO(file.getvalue()))
    units = [field.metadata[b"unit"].decode() for field in schema]
    assert units == ["ns", "ns", "buffers", "packets", "1"]
    assert b"rxt-summary" not in schema.metadata
