# SPDX-License-Identifier: GPL-2.0-only
import io

import pandas as pd

import toolkit
from tests.conftest import Trace, window, worker_stall
from toolkit.report.analyze import stalls_csv


def test_every_stall_is_a_row(make_trace: Trace) -> None:
    trace, file = toolkit.read(make_trace([*worker_stall(2, 6), *worker_stall(7, 8, queue=1)])), io.BytesIO()
    stalls_csv.render(trace, file)
    rows = pd.read_csv(io.BytesIO(file.getvalue()))
    assert len(rows) == 2
    assert rows["start_ns"].tolist() == trace.stalls["start_ns"].tolist()


def test_no_stall_is_a_header(make_trace: Trace) -> None:
    file = io.BytesIO()
    stalls_csv.render(toolkit.read(make_trace([window(1)])), file)
    assert "duration_ns" in pd.read_csv(io.BytesIO(file.getvalue())).columns
