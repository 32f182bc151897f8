# SPDX-License-Identifier: GPL-2.0-only
import io

import pytest

import toolkit
from tests.conftest import Trace
from tests.toolkit.stalls.test_shortage import short
from toolkit.report import memory, text, trace_page
from toolkit.stalls.analysis import analyze


def test_text_says_how_short_memory_was(make_trace: Trace) -> None:
    said = text.remarks(analyze(short(make_trace)), None)
    assert (
        "Memory: at least 1.0 MB were free, 1.0 MB around the stalls; the watermarks were min 9.4 MB and low "
        "3.1 MB. Tasks waited for memory for 3.5 s, all of them for 0.0 s." in said
    )


@pytest.mark.usefixtures("no_drawings")
def test_page_says_the_same(make_trace: Trace) -> None:
    out = io.BytesIO()
    trace_page.render(toolkit.read(short(make_trace)), out)
    assert "<th>Memory</th><td>at least 1.0 MB were free, 1.0 MB around the stalls" in out.getvalue().decode()


def test_nothing_is_said_of_what_is_not_known() -> None:
    unknown = dict.fromkeys(("free_min", "free_min_in_stalls", "min", "low", "some_ns", "full_ns"))
    assert memory.sentence(None) == memory.sentence(unknown) == ""
    assert memory.sentence(unknown | {"free_min": 1_500_000}) == "Memory: at least 1.5 MB were free."
    assert memory.sentence(unknown | {"free_min": 1, "some_ns": 10**9}).endswith(
        "were free. Tasks waited for memory for 1.0 s."
    )
