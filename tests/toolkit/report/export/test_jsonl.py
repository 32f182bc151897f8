# SPDX-License-Identifier: GPL-2.0-only
import io
import json

import toolkit
from tests.conftest import Trace, event, failed, window
from toolkit.event import ALL_QUEUES
from toolkit.report.export import jsonl


def test_an_event_is_an_object_with_null_where_nothing_is_known(make_trace: Trace) -> None:
    events = [event("worker_in", 1, queue=ALL_QUEUES), failed(2, posted_before=7)]
    file = io.BytesIO()
    jsonl.render(toolkit.read(make_trace(events, [window(3)])), file)
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [row["kind"] for row in rows] == ["worker_in", "refill", "window"]
    assert [(row["queue"], row["posted_before"]) for row in rows[:2]] == [(None, None), (0, 7)]


def test_no_event_is_an_empty_file(make_trace: Trace) -> None:
    file = io.BytesIO()
    jsonl.render(toolkit.read(make_trace()), file)
    assert file.getvalue() == b""
