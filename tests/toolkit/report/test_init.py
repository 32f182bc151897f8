# SPDX-License-Identifier: GPL-2.0-only
"""What the commands write is what lies in their directories."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import toolkit
from tests.conftest import Trace, window, worker_stall
from toolkit import report
from toolkit.report.analyze import time_spent

PLACES = {"analyze": "trace", "several": "traces", "compare": "found", "export": "trace"}
"""The directories of outputs, and what each output there takes first."""


@pytest.mark.parametrize("place", PLACES)
def test_every_output_renders_what_its_place_has_into_its_files(place: str) -> None:
    found = report.names(place)
    assert found
    for name in found:
        output = report.load(place, name)
        first, *files = inspect.signature(output.render).parameters.values()
        assert first.name == PLACES[place]
        assert all("BinaryIO" in str(file.annotation) for file in files)
        assert len(files) == len(output.FILES)


@pytest.mark.parametrize("place", PLACES)
def test_no_two_outputs_write_the_same_file(place: str) -> None:
    files = report.files(place, Path("out"))
    assert len(set(files)) == len(files)


@pytest.mark.long
def test_pictures_are_saved_as_png_and_svg(make_trace: Trace, tmp_path: Path) -> None:
    trace = toolkit.read(make_trace([window(1), *worker_stall(2, 6), window(7)]))
    (tmp_path / "out").mkdir()
    report.save("analyze", trace, tmp_path / "out")
    assert sorted((tmp_path / "out").iterdir()) == sorted(report.files("analyze", tmp_path / "out"))
    for name in ("timeline", "durations", "poll_gaps", "time_spent"):
        image = imread(tmp_path / "out" / f"{name}.png")
        # 150 pixels an inch: figures are 7.5 to 11 inches wide.
        assert 1125 <= image.shape[1] <= 1650
        assert (image[0, 0] == 1).all()
        assert 0.005 < (image[..., :3].min(axis=2) < 0.9).mean() < 0.5
        svg = (tmp_path / "out" / f"{name}.svg").read_text()
        assert "<!-- virtio_net stock, kernel 6.1.0-test -->" in svg
    red, green, blue = (int(time_spent.SPENT["reclaim"][at : at + 2], 16) for at in (1, 3, 5))
    pixels = np.rint(imread(tmp_path / "out" / "time_spent.png")[..., :3] * 255)
    # A quarter of the one bar, and its mark in the legend.
    assert (pixels == (red, green, blue)).all(axis=2).sum() > 1000
