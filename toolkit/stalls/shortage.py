# SPDX-License-Identifier: GPL-2.0-only
"""Was memory short while a trace ran?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from toolkit.stalls import spans

COLUMNS = ("at_ns", "free", "min", "low", "some_ns", "full_ns")
"""Of the looks at memory, as in the notes of a trace (docs/trace-file.md)."""

REACH_NS = 1_000_000_000
"""Memory is looked at each second at least: looks that are so near to a stall count as in it."""


def looks(memory: Sequence[Mapping[str, int]]) -> pd.DataFrame:
    """Return the looks at memory, a row each, in the order of time; what is not known is NA."""
    rows = sorted(memory, key=lambda each: each["at_ns"])
    return pd.DataFrame({name: pd.array([row.get(name) for row in rows], "Int64") for name in COLUMNS})


def shortage(memory: pd.DataFrame, stalls: pd.DataFrame) -> dict[str, Any] | None:
    """Return how short memory was; None if nobody looked.

    :param memory: as `looks` returns it.
    :param stalls: columns start_ns and end_ns [ns].
    :return: `looks`, how many; `free_min` [bytes], the least free memory that was seen, `free_min_in_stalls`
        that up to REACH_NS from a stall; `min` and `low`, the highest watermarks then [bytes]; `some_ns` and
        `full_ns`, for how long some or all tasks waited for memory between the first look and the last. None
        for what is not known.
    """
    if memory.empty:
        return None
    around = spans.union(
        stalls["start_ns"].to_numpy(np.int64) - REACH_NS, stalls["end_ns"].to_numpy(np.int64) + REACH_NS
    )
    at = memory["at_ns"].to_numpy(np.int64)
    near = memory[spans.covered(around, at, at + 1) > 0]
    first, last = memory.iloc[0], memory.iloc[-1]
    return {
        "looks": len(memory),
        "free_min": _number(memory["free"].min()),
        "free_min_in_stalls": _number(near["free"].min()),
        "min": _number(memory["min"].max()),
        "low": _number(memory["low"].max()),
        **{name: _number(last[name] - first[name]) for name in ("some_ns", "full_ns")},
    }


def _number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
