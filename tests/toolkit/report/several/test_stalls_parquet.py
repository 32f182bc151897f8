# SPDX-License-Identifier: GPL-2.0-only
import io

import pandas as pd

import toolkit
from tests.conftest import Trace, worker_stall
from toolkit.report.several import stalls_parquet
from toolkit.runs import TraceSet


def test_each_stall_has_the_path_of_its_trace(make_trace: Trace) -> None:
    paths = [make_trace(worker_stall(2, 6), name=name) for name in ("a.rxt", "b.rxt")]
    file = io.BytesIO()
    stalls_parquet.render(TraceSet([toolkit.read(path) for path in paths]), file)
    rows = pd.read_parquet(io.BytesIO(file.getvalue()))
    assert rows["trace"].tolist() == [str(path) for path in paths]
    assert rows["duration_ns"].tolist() == [4 * 10**9] * 2
