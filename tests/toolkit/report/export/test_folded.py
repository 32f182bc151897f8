# SPDX-License-Identifier: GPL-2.0-only
import io

import toolkit
from tests.conftest import S, Trace
from tests.toolkit.stalls.test_silences import refill
from tests.toolkit.stalls.test_ticks import STACKS, THREADS, tick
from toolkit.event import NO_STACK
from toolkit.report.export import folded


def test_a_line_for_each_stack(make_trace: Trace) -> None:
    events = [tick(3, 7), tick(3.1, 7), tick(3.2, NO_STACK, tid=5), refill(4, 2 * S)]
    out = io.BytesIO()
    folded.render(toolkit.read(make_trace(events, threads=THREADS, stacks=STACKS)), out)
    assert out.getvalue().decode().splitlines() == [
        "eth1 rx-0;slow-refill;ksoftirqd/1;do_idle;net_rx_action;clear_page_orig 2",
        "eth1 rx-0;slow-refill;[unknown];[unknown] 1",
    ]
