# SPDX-License-Identifier: GPL-2.0-only
import io

import toolkit
from tests.conftest import S, Trace
from tests.toolkit.stalls.test_silences import refill
from tests.toolkit.stalls.test_ticks import tick, waited
from toolkit.report import text, ticks, trace_page
from toolkit.stalls.analysis import analyze


def test_text_says_where_the_cpu_was(make_trace: Trace) -> None:
    said = text.verdict(analyze(waited(make_trace)))
    assert (
        "A clock looked 7 times meanwhile and found the CPU in clear_page_orig of thread ksoftirqd/1 (29%), "
        "fill of thread ? (29%), user space of thread hog (29%) and an unknown function of thread "
        "ksoftirqd/1 (14%)." in said
    )
    assert (
        "1 time the clock of a CPU of eth1 did not tick for 0.1 s or longer (0.500 s in all, at most 0.500 "
        "s): interrupts were off, or a virtual CPU did not run." in said
    )


def test_table_and_page_say_by_which_functions_it_was_called(make_trace: Trace) -> None:
    trace = toolkit.read(waited(make_trace))
    assert ticks.table(trace.analysis).to_numpy().tolist() == [
        ["slow-refill", "ksoftirqd/1", "clear_page_orig", "net_rx_action ← do_idle", "2", "29"],
        ["unpolled", "?", "fill", "ksys_write", "2", "29"],
        ["unpolled", "hog", "user space", "", "2", "29"],
        ["slow-refill", "ksoftirqd/1", "an unknown function", "", "1", "14"],
    ]
    out = io.BytesIO()
    trace_page.render(trace, out)
    assert "net_rx_action ← do_idle" in out.getvalue().decode()


def test_without_ticks_nothing_is_said(make_trace: Trace) -> None:
    trace = toolkit.read(make_trace([refill(4, 2 * S), tick(9, 7)]))
    assert "clock" not in text.verdict(trace.analysis)
    assert ticks.table(trace.analysis).empty
