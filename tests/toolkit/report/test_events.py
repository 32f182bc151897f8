# SPDX-License-Identifier: GPL-2.0-only
import io
import json

import pandas as pd
import pytest

from tests.conftest import Trace, failed, window
from toolkit.report.events import export
from toolkit.trace.reader import TraceReader


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_event_with_names(kind: str, make_trace: Trace) -> None:
    path = make_trace([window(1)], [failed(2, flags="process|in_worker"), window(3, ifindex=99)])
    file = io.BytesIO()
    export(TraceReader(path), kind, file)
    frame = {
        "csv": lambda: pd.read_csv(io.BytesIO(file.getvalue())),
        "jsonl": lambda: pd.DataFrame([json.loads(line) for line in file.getvalue().splitlines()]),
        "parquet": lambda: pd.read_parquet(io.BytesIO(file.getvalue())),
    }[kind]()
    assert frame["kind"].tolist() == ["window", "refill", "window"]
    assert frame["flags"][1] == "process|in_worker"
    assert frame["device"].fillna("").tolist() == ["eth1", "eth1", ""]
    assert frame["driver"].unique().tolist() == ["virtio_net"]
    assert frame["gfp_names"][1] == "GFP_ATOMIC"
    assert frame["ts"].tolist() == [1001 * 10**9, 1002 * 10**9, 1003 * 10**9]


def test_no_events_is_a_header(make_trace: Trace) -> None:
    file = io.BytesIO()
    export(TraceReader(make_trace()), "csv", file)
    assert file.getvalue().startswith(b"device,ts,")
    assert file.getvalue().count(b"\n") == 1
