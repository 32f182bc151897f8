# SPDX-License-Identifier: GPL-2.0-only
from matplotlib.axis import Axis

import toolkit
from tests.conftest import Trace, window, worker_stall
from toolkit.report.analyze import durations

ONE_STALL = [window(1), *worker_stall(2, 6), window(7)]


def _ticks(axis: Axis) -> list[str]:
    """Return the labels of those ticks of an axis that are in view."""
    low, high = axis.get_view_interval()
    axis.figure.draw_without_rendering()  # type: ignore[union-attr]
    places = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
    return [label.get_text() for place, label in places if low <= place <= high]


def test_the_axis_of_one_stall_can_be_read(make_trace: Trace) -> None:
    assert _ticks(durations.draw(toolkit.read(make_trace(ONE_STALL))).axes[0].xaxis) == ["2 s", "5 s", "10 s"]


def test_the_axis_of_many_durations_has_powers_of_ten(make_trace: Trace) -> None:
    events = [*worker_stall(1, 1.0015), *worker_stall(2, 9)]
    ticks = _ticks(durations.draw(toolkit.read(make_trace(events))).axes[0].xaxis)
    assert ticks == ["1 ms", "10 ms", "100 ms", "1 s", "10 s"]
