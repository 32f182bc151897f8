# SPDX-License-Identifier: GPL-2.0-only
import io
import itertools
import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from tests.conftest import S, runs_of
from toolkit.compare.comparison import compare
from toolkit.report.compare import distributions

LOW, HIGH = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]


def test_distributions_are_a_png_and_an_svg() -> None:
    png, svg = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distributions.render(compare(runs_of(HIGH), runs_of(LOW, "patched")), png, svg)
    png.seek(0)
    image = imread(png)
    assert 0.005 < (image[..., :3].min(axis=2) < 0.9).mean() < 0.5
    drawing = svg.getvalue().decode()
    assert "<!-- stalled time of a run [s] -->" in drawing and drawing.rstrip().endswith("</svg>")


def test_every_run_is_a_mark_in_every_panel() -> None:
    figure = distributions.draw(compare(runs_of(HIGH), runs_of(LOW, "patched", spin_ns=S)))
    panels = [axis for axis in figure.axes if axis.get_xlabel()]
    assert [axis.get_xlabel() for axis in panels] == [
        "stalled time of a run [s]",
        "longest stall of a run [s]",
        "refused frames of a run [%]",
        "spin time of a run [s]",
    ]
    for axis, scale in zip(panels[:3], (1, 1, 100 / 60), strict=True):
        for line, values in zip(axis.lines, (HIGH, LOW), strict=True):
            at, share = (np.asarray(each)[1:-1] for each in line.get_data())
            assert line.get_markevery() == slice(1, -1)
            assert at == pytest.approx([each * scale for each in values])
            assert share == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
        assert axis.get_xlim()[0] == 0


def test_numbers_of_five_digits_stand_apart() -> None:
    """The labels of the axis do not run into each other."""
    many = runs_of(LOW, "paced", failed=[4750, 8300, 9190, 12000, 14856])
    figure = distributions.draw(compare(runs_of(HIGH, failed=6), many))
    figure.draw_without_rendering()
    (axis,) = (axis for axis in figure.axes if axis.get_xlabel() == "failed refills of a run")
    boxes = [label.get_window_extent() for label in axis.get_xticklabels() if label.get_text()]
    assert len(boxes) >= 3
    for left, right in itertools.pairwise(boxes):
        assert left.x1 + 3 < right.x0


def test_a_set_aside_run_is_no_mark() -> None:
    figure = distributions.draw(compare(runs_of(HIGH), runs_of([*LOW, 99], "b", dropped=[0] * 5 + [1])))
    assert figure.axes[0].get_xlim()[1] < 20


@pytest.mark.parametrize(
    ("base", "candidate", "dropped"),
    [([0] * 5, [0] * 5, (0, 0)), ([1], [2], (0, 0)), (HIGH, LOW, (1, 0)), (HIGH, LOW, (1, 1))],
)
def test_sets_that_show_little_can_be_drawn(
    base: list[float], candidate: list[float], dropped: tuple[int, int]
) -> None:
    found = compare(runs_of(base, dropped=dropped[0]), runs_of(candidate, "patched", dropped=dropped[1]))
    figure = distributions.draw(found)
    figure.draw_without_rendering()
    assert found.verdict in figure.get_suptitle()
