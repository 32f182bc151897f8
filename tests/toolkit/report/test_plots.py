# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.conftest import Trace, window, worker_stall
from toolkit.report import plots
from toolkit.report.analyze import time_spent
from toolkit.report.files import PLOTS
from toolkit.stalls.analysis import analyze

TITLE = "virtio_net stock, kernel 6.1.0-test"
ONE_STALL = [window(1), *worker_stall(2, 6), window(7)]


@pytest.mark.long
def test_plots_are_saved_as_png_and_svg(make_trace: Trace, tmp_path: Path) -> None:
    plots.save(analyze(make_trace(ONE_STALL)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".rxt") == sorted(
        f"{name}.{suffix}" for name in PLOTS for suffix in ("png", "svg")
    )
    for name in PLOTS:
        image = imread(tmp_path / f"{name}.png")
        # 150 pixels an inch: figures are 7.5 to 11 inches wide.
        assert 1125 <= image.shape[1] <= 1650
        assert (image[0, 0] == 1).all()
        assert 0.005 < (image[..., :3].min(axis=2) < 0.9).mean() < 0.5
        assert f"<!-- {TITLE} -->" in (tmp_path / f"{name}.svg").read_text()
    red, green, blue = (int(time_spent.SPENT["reclaim"][at : at + 2], 16) for at in (1, 3, 5))
    pixels = np.rint(imread(tmp_path / "time_spent.png")[..., :3] * 255)
    # A quarter of the one bar, and its mark in the legend.
    assert (pixels == (red, green, blue)).all(axis=2).sum() > 1000
