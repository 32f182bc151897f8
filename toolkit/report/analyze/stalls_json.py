# SPDX-License-Identifier: GPL-2.0-only
"""The longest stalls of a trace as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from toolkit.traces import Trace

FILES = ("stalls.json",)


def render(trace: Trace, out: BinaryIO) -> None:
    """Write the stalls of the summary."""
    out.write(f"{json.dumps(trace.summary['stalls'], indent=1)}\n".encode())
