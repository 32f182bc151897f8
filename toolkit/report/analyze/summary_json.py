# SPDX-License-Identifier: GPL-2.0-only
"""The summary of a trace as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("summary.json",)


def render(trace: Trace, out: BinaryIO) -> None:
    """Write the JSON object of docs/stalls.md."""
    out.write(f"{json.dumps(trace.summary, indent=1)}\n".encode())
