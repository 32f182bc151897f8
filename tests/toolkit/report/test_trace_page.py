# SPDX-License-Identifier: GPL-2.0-only
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.conftest import BEGAN, META, MS, S, Trace, event, note, window, worker_stall
from toolkit.report import trace_page
from toolkit.trace.writer import TraceWriter

pytestmark = pytest.mark.usefixtures("no_drawings")


def _page(trace: toolkit.traces.Trace, **options: Any) -> str:
    page = io.BytesIO()
    trace_page.render(trace, page, **options)
    return page.getvalue().decode()


def test_page_of_a_trace_begins_with_what_happened(make_trace: Trace) -> None:
    path = make_trace([window(1), *worker_stall(2, 6), *worker_stall(7, 8)])
    body = _page(toolkit.read(path)).split("<body>")[1].strip()
    assert body.startswith('<h1>2 stalls, up to 4.000 s</h1>\n<p class="sentence">eth1 went deaf 2 times')
    assert body.count("<svg><path/></svg>") == 4
    assert "<?xml" not in body


def test_page_of_a_trace_has_stalls_causes_and_queues(make_trace: Trace) -> None:
    events = [*worker_stall(2, 6), *worker_stall(7, 8), *worker_stall(3, 4, queue=1)]
    trace = toolkit.read(make_trace([window(1), *events]))
    (cause,) = trace_page.causes(trace.stalls).to_dict("records")
    assert (cause["stalls"], cause["longest [s]"], cause["in all [s]"]) == ("3", "4.000", "6.000")
    text = _page(trace)
    assert [part.count("<tr>") for part in text.split("<h2>")[1:]] == [0, 1 + 3, 1 + 1, 4, 1 + 2, 0]
    assert "<b>napi-off</b>: the refill worker" in text
    assert "<b>blocked</b>" not in text


def test_page_says_what_it_does_not_list(make_trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_page, "CAUSES", 1)
    events = [*worker_stall(2, 6), event("napi_off", 7, queue=1, ifindex=9, flags="in_worker")]
    page = _page(toolkit.read(make_trace(events)), rows=1)
    assert "<h2>Stalls: the 1 longest, 1 more are not listed</h2>" in page
    assert "<code>toolkit analyze TRACE -o DIR</code> writes them to stalls.csv and stalls.parquet." in page
    assert "1 more causes took less time." in page


def test_no_stall_is_said_without_empty_tables(make_trace: Trace) -> None:
    text = _page(toolkit.read(make_trace([window(1)])))
    assert "<h1>No stall</h1>" in text
    assert "<h2>Stalls" not in text and "<h2>Why" not in text


def test_page_of_a_trace_says_how_sure_it_is(make_trace: Trace, tmp_path: Path) -> None:
    rows = trace_page.certainty(toolkit.read(make_trace([window(1)])))
    assert [(good, what) for good, what, _ in rows] == [
        (True, "File"),
        (True, "Ledger"),
        (False, "Hooks"),
        (False, "Witness"),
    ]
    assert rows[2][2] == "not attached, so this trace lacks: receive interrupts."
    path = tmp_path / "lossy.rxt"
    with TraceWriter(path, META) as writer:
        events = worker_stall(2, 6)[:-1]
        for number, event in enumerate(events):
            writer.write(event, note(3 + number, number, *events[: number + 1]))
    found = {what: (good, said) for good, what, said in trace_page.certainty(toolkit.read(path))}
    assert not any(good for good, _ in found.values())
    assert "is cut off" in found["File"][1]
    assert found["Ledger"][1] == (
        "5 of 9 events were delivered, 4 dropped, all within 4.000 s. "
        "Events were dropped: a number with ≥ is at least so high."
    )
    assert found["Open"][1].startswith("1 stall had not") and found["Uncertain"][1].endswith("at 1 stall.")


def test_an_open_stall_is_in_the_headline(make_trace: Trace) -> None:
    trace = toolkit.read(make_trace(worker_stall(2, 3)[:-2], worker_stall(0, 1)))
    assert trace_page.headline(trace.analysis) == "2 stalls, up to 8.000 s, and not ended"


def test_no_stall_is_no_headline_where_it_is_not_known(make_trace: Trace) -> None:
    empty = toolkit.read(make_trace())
    assert trace_page.headline(empty.analysis) == "Nothing is known: there was no packet"
    path = make_trace([window(1)], [window(2)])
    path.write_bytes(path.read_bytes()[:-1500])
    assert trace_page.headline(toolkit.read(path).analysis) == "Nothing is known: the trace breaks off"


def test_a_headline_begins_with_the_damage_and_counts_no_brief_stall(make_trace: Trace) -> None:
    path = make_trace([*worker_stall(1, 1.002), *worker_stall(2, 3)], [window(4)])
    assert trace_page.headline(toolkit.read(path).analysis) == "one stall of 1.000 s"
    path.write_bytes(path.read_bytes()[:-1500])
    assert trace_page.headline(toolkit.read(path).analysis) == (
        "The trace breaks off; until then one stall of 1.000 s"
    )


def test_a_witness_of_refusals_elsewhere_is_no_good_mark(make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1), *worker_stall(2, 3)])
    gaps = [
        {"start_ns": start, "duration_ns": length, "refused": 9}
        for start, length in ((2 * S, S), (4 * S, 900 * MS), (5 * S, 900 * MS))
    ]
    for number, good in ((2, True), (3, False)):
        witness = {"device": "eth1", "gaps": gaps[:number], "clock": {"offset_ns": BEGAN, "error_ns": 0}}
        (tmp_path / "w.json").write_text(json.dumps(witness))
        found = toolkit.read(trace, witness=tmp_path / "w.json")
        assert found.agreement and found.agreement["agrees"]
        assert trace_page.certainty(found)[-1][0] == good


def test_page_of_a_trace_says_how_to_make_it_again(make_trace: Trace, tmp_path: Path) -> None:
    options = {"detail": "full", "devices": ["eth1"], "queues": [0]}
    trace = toolkit.read(make_trace(meta=META | {"options": options}))
    with (tmp_path / "my report.html").open("wb") as page:
        trace_page.render(trace, page)
    text = (tmp_path / "my report.html").read_text()
    assert "<code>sudo toolkit trace virtio_net -d eth1 -q 0 --detail full</code>" in text
    assert f"toolkit analyze {trace.path} --html &#39;{tmp_path}/my report.html&#39;" in text


def test_page_of_a_trace_needs_no_other_file_and_shows_markup_as_text(make_trace: Trace) -> None:
    odd = META | {"drivers": [META["drivers"][0] | {"variant": "<b>bold</b>"}]}
    text = _page(toolkit.read(make_trace(meta=odd)))
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)
    assert "&lt;b&gt;bold" in text
