# SPDX-License-Identifier: GPL-2.0-only
import io
import json

import pandas as pd
import pyarrow.parquet as pq

import toolkit
from tests.conftest import Trace, window, worker_stall
from toolkit.report.analyze import stalls_parquet
from toolkit.stalls.selection import Selection


def test_the_metadata_say_what_the_stalls_are_of(make_trace: Trace) -> None:
    part = toolkit.read(make_trace(worker_stall(2, 6)), selection=Selection(shortest=9))
    file = io.BytesIO()
    stalls_parquet.render(part, file)
    about = json.loads(pq.read_schema(io.BytesIO(file.getvalue())).metadata[b"rxt-summary"])
    assert (about["shown"]["stalls_left_out"], about["kernel"]) == (1, "6.1.0-test")
    assert "stalls" not in about


def test_no_stall_is_a_table_without_rows(make_trace: Trace) -> None:
    file = io.BytesIO()
    stalls_parquet.render(toolkit.read(make_trace([window(1)])), file)
    table = pd.read_parquet(io.BytesIO(file.getvalue()))
    assert table.empty and "duration_ns" in table
