# SPDX-License-Identifier: GPL-2.0-only
"""The account of one trace, as a JSON object."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from toolkit.report.text import verdict
from toolkit.stalls import analysis as stalls
from toolkit.stalls.analysis import Analysis


def summary(
    analysis: Analysis, agreement: Mapping[str, Any] | None, phases: pd.DataFrame | None
) -> dict[str, Any]:
    """Return the JSON object of summary.json (docs/stalls.md)."""
    found: dict[str, Any] = {"verdict": verdict(analysis), **stalls.summary(analysis), "witness": None}
    if agreement is not None:
        gaps = {name: pd.DataFrame(rows) for name, rows in agreement.items() if isinstance(rows, list)}
        for name, rows in gaps.items():
            if len(rows) > stalls.LISTED:
                found["left_out"][name] = len(rows) - stalls.LISTED
        longest = {name: stalls.records(stalls.largest(rows, "duration_ns")) for name, rows in gaps.items()}
        found["witness"] = {**agreement, **longest}
    found["rest"] = _rest(found["left_out"])
    if phases is not None:
        names = {"start": "start_ns", "end": "end_ns"}
        found["scenario"] = phases.attrs["scenario"]
        found["phases"] = stalls.records(phases.rename(columns=names))
    return found


def _rest(left_out: Mapping[str, int]) -> str | None:
    """Say which rows are not in a summary, and where they are."""
    if not left_out:
        return None
    tables = ", ".join(
        f"the largest {stalls.LISTED:,} of {stalls.LISTED + more:,} {name.replace('_', ' ')}"
        for name, more in left_out.items()
    )
    return (
        f"Here are {tables}. All stalls: toolkit analyze TRACE -o DIR writes them to stalls.csv and "
        "stalls.parquet. All tables: toolkit.read(TRACE).analysis in Python."
    )
