# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as JSON."""

import json
from typing import BinaryIO

from toolkit.compare.comparison import Comparison, summary

FILES = ("comparison.json",)


def render(found: Comparison, out: BinaryIO) -> None:
    """Write the JSON object of docs/comparison.md."""
    out.write(f"{json.dumps(summary(found), indent=1, allow_nan=False)}\n".encode())
