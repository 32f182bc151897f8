# SPDX-License-Identifier: GPL-2.0-only
"""What may lie beside a trace: a frame sender's account (witness.json), a scenario's phases (phases.json)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from toolkit.errors import UserError
from toolkit.printable import read_json
from toolkit.stalls import spans
from toolkit.trace.shape import LONGEST_NS, Many, Maybe, Members, Number, ShapeError, Text

_MOMENT = Number(-LONGEST_NS // 2, LONGEST_NS // 2)
_LENGTH = Number(0, LONGEST_NS // 2)
_COUNT = Number(0, LONGEST_NS)
_WITNESS = Members(
    {
        "device": Text(256),
        "gaps": Many(Members({"start_ns": _MOMENT, "duration_ns": _LENGTH, "refused": _COUNT})),
        "clock": Members({"offset_ns": _MOMENT}, {"error_ns": Maybe(_LENGTH)}),
    },
    {
        **dict.fromkeys(("sent", "refused"), Maybe(_COUNT)),
        **dict.fromkeys(("started_ns", "ended_ns"), _MOMENT),
        "away": Many(Members({"start_ns": _MOMENT, "duration_ns": _LENGTH})),
    },
)
_PHASES = Members(
    {"phases": Many(Members({"name": Text(256), "start_ns": _MOMENT, "end_ns": _MOMENT}))},
    {"scenario": Maybe(Text(256))},
)


@dataclass(frozen=True)
class Witness:
    """What a frame sender saw of one device.

    Attributes: `device`; `gaps`, sorted: start and end [ns] in trace time, and refused frames; `error_ns`,
    the error of the clocks' offset; `sent` and `refused` frames; `started` and `ended`, when the sender did
    [ns] in trace time; `away`, when it did not run, so that it offered no frame; its `rate` [frames/s];
    `size` of a frame [bytes]; `path` of the file. An attribute that the file does not have is None.
    """

    device: str
    gaps: pd.DataFrame
    error_ns: int
    sent: int | None
    refused: int | None
    started: int | None = None
    ended: int | None = None
    rate: float | None = None
    size: float | None = None
    away: spans.Spans | None = None
    path: Path | None = None


def read_witness(path: Path) -> Witness:
    """Read the JSON file of a frame sender (docs/stalls.md).

    :param path: the file.
    :return: the witness, its gaps in the time of the trace.
    :raises UserError: if the file is no such JSON.
    """
    found = _read_json(path, _WITNESS, "is not a witness")
    offset, error = found["clock"]["offset_ns"], found["clock"].get("error_ns") or 0
    rows = [(gap["start_ns"] + offset, gap["duration_ns"], gap["refused"]) for gap in found["gaps"]]
    start, duration, refused = np.array(sorted(rows), np.int64).reshape(-1, 3).T
    gaps = pd.DataFrame({"start": start, "end": start + duration, "refused": refused})
    started, ended = (found[name] + offset if name in found else None for name in ("started_ns", "ended_ns"))
    if ended is None and any(gap.get("open") is True for gap in found["gaps"]):
        # An open gap lasts as long as the witness did.
        ended = int(gaps["end"].max())
    return Witness(
        found["device"],
        gaps,
        error,
        found.get("sent"),
        found.get("refused"),
        started,
        ended,
        _positive(found.get("rate")),
        _positive(found.get("size")),
        _away(found["away"], offset) if "away" in found else None,
        path,
    )


def _away(rows: Sequence[Mapping[str, int]], offset: int) -> spans.Spans:
    """Return the times in which a sender did not run, in the time of the trace."""
    start, duration = (
        np.array([row[name] for row in rows], np.int64) for name in ("start_ns", "duration_ns")
    )
    return spans.union(start + offset, start + offset + duration)


def _positive(number: object) -> float | None:
    """Return the number if it can be a number of frames or bytes, else None."""
    if isinstance(number, int | float) and 0 < number < LONGEST_NS:
        return float(number)
    return None


def read_phases(path: Path) -> pd.DataFrame:
    """Read the JSON file of a scenario (docs/stalls.md).

    :param path: the file.
    :return: columns name, start, end [ns] in trace time, and shortage: whether memory was kept short in the
        phase. attrs has the `scenario` and its `parameters`, None if the file does not say.
    :raises UserError: if the file is no such JSON.
    """
    found = _read_json(path, _PHASES, "does not hold phases")
    phases = pd.DataFrame(
        {
            "name": pd.Series([phase["name"] for phase in found["phases"]], dtype="str"),
            "start": np.array([phase["start_ns"] for phase in found["phases"]], np.int64),
            "end": np.array([phase["end_ns"] for phase in found["phases"]], np.int64),
            "shortage": np.array([phase.get("shortage") is True for phase in found["phases"]], np.bool_),
        }
    )
    parameters = found.get("parameters")
    phases.attrs["scenario"] = found.get("scenario") or ""
    phases.attrs["parameters"] = parameters if isinstance(parameters, dict) else None
    return phases


def _read_json(path: Path, shape: Members, otherwise: str) -> Mapping[str, Any]:
    """Return the JSON object of a file.

    :param otherwise: what is said of one that has another shape.
    """
    try:
        found = read_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} does not hold a JSON object.")
    try:
        shape.check(found)
    except ShapeError as wrong:
        raise UserError(f"{path} {otherwise}: {wrong}.") from wrong
    return cast(dict[str, Any], found)
