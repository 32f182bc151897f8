# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Sequence

import pytest
from matplotlib.patches import Rectangle

from toolkit.report import drawing
from vm.survey import picture
from vm.survey.outcome import Outcome


def test_each_interval_is_a_bar_in_the_colour_of_its_state(outcomes: Sequence[Outcome]) -> None:
    figure = picture.draw(outcomes)
    (axes,) = figure.axes
    bars = [
        patch for patch in axes.patches if isinstance(patch, Rectangle) and 0.8 < patch.get_height() < 0.95
    ]
    intervals = [each for run in outcomes for each in run.intervals]
    assert [bar.get_x() for bar in bars] == [each.start_s for each in intervals]
    assert [bar.get_x() + bar.get_width() for bar in bars] == pytest.approx(
        [each.end_s for each in intervals]
    )
    assert len(bars) == len(intervals) >= 3
    assert axes.get_xlabel().startswith("seconds")
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "e100  6.1",
        "e1000e  6.1",
        "vmxnet3  6.1",
    ]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        *(s for s in drawing.STATES if s in {each.state for each in intervals}),
        "the kernel panicked",
    ]
