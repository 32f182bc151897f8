# SPDX-License-Identifier: GPL-2.0-only
"""The runs of a comparison as CSV."""

from typing import BinaryIO

from toolkit.compare.comparison import Comparison

FILES = ("runs.csv",)


def render(found: Comparison, out: BinaryIO) -> None:
    """Write a row for each run, those set aside too."""
    found.runs.to_csv(out, index=False)
