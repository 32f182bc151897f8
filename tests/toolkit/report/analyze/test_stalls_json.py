# SPDX-License-Identifier: GPL-2.0-only
import io
import json

import toolkit
from tests.conftest import Trace, worker_stall
from toolkit.report.analyze import stalls_json


def test_file_is_what_the_summary_says(make_trace: Trace) -> None:
    trace, file = toolkit.read(make_trace(worker_stall(2, 6))), io.BytesIO()
    stalls_json.render(trace, file)
    assert json.loads(file.getvalue()) == trace.summary["stalls"]
    assert b'"duration_ns": 4000000000' in file.getvalue()
