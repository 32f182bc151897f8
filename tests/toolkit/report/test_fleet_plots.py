# SPDX-License-Identifier: GPL-2.0-only

import numpy as np
import pytest

from tests.toolkit.fleet.recorded import fleet_of, write
from toolkit.fleet.overview import Overview, look
from toolkit.report import fleet_plots


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Overview:
    directory = write(fleet_of(60, 600), tmp_path_factory.mktemp("plots") / "fleet")
    return look(directory, "kernel=6.1.*", "kernel=6.12.*")


def test_every_axis_has_a_title_or_a_label_with_its_unit(found: Overview) -> None:
    assert found.rollout is not None
    figures = [fleet_plots.hosts(found), fleet_plots.days(found), fleet_plots.rollout(found.rollout)]
    figures += [fleet_plots.groups(found, name) for name in found.parts]
    for figure in figures:
        assert any(axis.get_title(loc=where) for axis in figure.axes for where in ("left", "center"))
        assert "[" in "".join(axis.get_xlabel() + axis.get_ylabel() for axis in figure.axes)


def test_a_mark_for_each_silent_host_and_a_line_for_the_fence(found: Overview) -> None:
    (axis,) = fleet_plots.hosts(found).axes
    marks, fence = axis.get_lines()
    assert len(np.asarray(marks.get_ydata())) == 56
    assert np.asarray(fence.get_ydata())[0] == pytest.approx(found.rule["fence"] / 1e9)


@pytest.mark.parametrize("group", ["kernel", "driver", "build"])
def test_bars_are_as_long_as_the_silence(found: Overview, group: str) -> None:
    (axis,) = fleet_plots.groups(found, group).axes
    silent = found.groups[group][::-1]
    lengths = np.zeros(len(silent))
    for bar in axis.patches:
        lengths[round(bar.get_y() + bar.get_height() / 2)] += bar.get_width()  # type: ignore[attr-defined]
    assert lengths == pytest.approx(silent["silence_ns_per_h"].to_numpy(float) / 1e9)
