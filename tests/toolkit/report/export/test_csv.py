# SPDX-License-Identifier: GPL-2.0-only
import csv
import io

import toolkit
from tests.conftest import Trace, event, failed, window
from toolkit.event import ALL_QUEUES
from toolkit.report.export import csv as output


def _written(make_trace: Trace, *batches: object) -> bytes:
    file = io.BytesIO()
    output.render(toolkit.read(make_trace(*batches)), file)
    return file.getvalue()


def test_no_events_is_a_header(make_trace: Trace) -> None:
    text = _written(make_trace)
    assert text.startswith(b"device,ts,")
    assert text.count(b"\n") == 1


def test_every_batch_follows_one_header(make_trace: Trace) -> None:
    text = _written(make_trace, [window(1)], [window(2), window(3)])
    assert text.count(b"\n") == 4
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    assert [row["ts"] for row in rows] == ["1001000000000", "1002000000000", "1003000000000"]


def test_a_number_that_is_not_known_is_empty(make_trace: Trace) -> None:
    text = _written(make_trace, [event("worker_in", 1, queue=ALL_QUEUES), failed(2, posted_before=7)])
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    assert [(row["queue"], row["posted_before"], row["order"]) for row in rows] == [
        ("", "", "0"),
        ("0", "7", ""),
    ]
