# SPDX-License-Identifier: GPL-2.0-only
import toolkit
from tests.conftest import Trace, worker_stall
from toolkit.report.analyze import time_spent


def test_the_bars_are_shares_of_the_stalls(make_trace: Trace) -> None:
    events = [*worker_stall(2, 6), *worker_stall(7, 7.002)]
    axis = time_spent.draw(toolkit.read(make_trace(events))).axes[0]
    widths = [round(bar.get_width(), 6) for bar in axis.patches]  # type: ignore[attr-defined]
    # A stall of 2 ms beside one of 4 s can be seen as well.
    assert widths == [25, 25, 25, 25, 50, 50]
    assert axis.get_xlim() == (0, 100)
