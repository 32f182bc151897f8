# SPDX-License-Identifier: GPL-2.0-only
"""The sender's own account of when its frames were refused, held against the stalls."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.errors import UserError
from toolkit.stalls.analysis import Analysis, records
from toolkit.stalls.states import belonging
from toolkit.trace.reader import TraceReader
from toolkit.trace.schema import NOT_KNOWN

STALL_NOTICED_NS = 100_000_000
"""A shorter stall may pass unnoticed by a sender: buffers and queues before it still take frames."""

BACKGROUND_NS = 1_000_000_000
"""A shorter gap without a stall needs no explanation: a busy host or guest, seen up to 0.7 s."""


@dataclass(frozen=True)
class Witness:
    """What a frame sender saw: its `device`; `gaps`, start and end [ns] in trace time and refused frames,
    sorted; `error_ns`, of its clock; `sent` and `refused` frames."""

    device: str
    gaps: pd.DataFrame
    error_ns: int
    sent: int | None
    refused: int | None


def read_witness(path: Path) -> Witness:
    """Reads the JSON file of a frame sender (docs/stalls.md).

    :param path: the file.
    :return: its gaps in the time of the trace.
    :raises UserError: if it is not such a file.
    """
    found = _read_json(path)
    try:
        clock = found["clock"]
        rows = [
            (int(gap["start_ns"]) + int(clock["offset_ns"]), int(gap["duration_ns"]), int(gap["refused"]))
            for gap in found["gaps"]
        ]
        device, error = str(found["device"]), int(clock.get("error_ns") or 0)
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise UserError(f"{path} is not a witness: {wrong!r} in its gaps, device or clock.") from wrong
    gaps = pd.DataFrame(rows, columns=["start", "end", "refused"], dtype=np.int64)
    gaps["end"] += gaps["start"]
    return Witness(
        device, gaps.sort_values("start", ignore_index=True), error, found.get("sent"), found.get("refused")
    )


def read_phases(path: Path) -> pd.DataFrame:
    """Reads the JSON file of a scenario (docs/stalls.md).

    :param path: the file.
    :return: columns name, start, end [ns] in trace time, and shortage: memory was kept short in it; attrs
        has the `scenario`.
    :raises UserError: if it is not such a file.
    """
    found = _read_json(path)
    try:
        rows = [
            (str(each["name"]), int(each["start_ns"]), int(each["end_ns"]), each.get("shortage") is True)
            for each in found["phases"]
        ]
    except (KeyError, TypeError, ValueError) as wrong:
        raise UserError(f"{path} does not hold phases: {wrong!r}.") from wrong
    phases = pd.DataFrame(rows, columns=["name", "start", "end", "shortage"]).astype({"shortage": "bool"})
    phases.attrs["scenario"] = str(found.get("scenario", ""))
    return phases


def compare(analysis: Analysis, witness: Witness) -> tuple[Analysis, dict[str, Any]]:
    """Holds the witness against the stalls.

    :return: the analysis, its stalls with witness_gap_ns, from the begin of the first gap that overlaps to
        the end of the last, and witness_difference_ns, that minus the duration; and the `witness` object
        of summary.json. Stalls that follow each other in the same gap are measured together.
    """
    stalls = analysis.stalls
    gaps, error = witness.gaps, witness.error_ns
    mine = stalls["device"] == witness.device
    start = stalls["start_ns"].to_numpy() - error
    end = (stalls["start_ns"] + stalls["duration_ns"]).to_numpy() + error
    latest = gaps["end"].cummax().to_numpy()
    first, last = np.searchsorted(latest, start), np.searchsorted(gaps["start"], end, "right")
    seen = (first < last) & mine.to_numpy()
    pairs = pd.DataFrame(
        {
            "first": gaps["start"].reindex(first[seen]).to_numpy(),
            "last": latest[last[seen] - 1],
            "start": start[seen] + error,
            "end": end[seen] - error,
        },
        stalls.index[seen],
    )
    # Stalls are sorted by their start: one whose first gap began before the last one so far ended shares it.
    apart = pairs["first"] >= pairs["last"].cummax().shift(fill_value=0)
    together = pairs.groupby(apart.cumsum())
    length = together["last"].transform("max") - together["first"].transform("min")
    span = together["end"].transform("max") - together["start"].transform("min")
    stalls = stalls.assign(
        witness_gap_ns=length.reindex(stalls.index).astype("Int64"),
        witness_difference_ns=(length - span).reindex(stalls.index).astype("Int64"),
    )

    own = stalls[mine]
    explained = np.zeros(len(gaps), np.bool_)
    for low, high in zip(first[seen], last[seen], strict=True):
        explained[low:high] = True
    long = gaps[~explained & (gaps["end"] - gaps["start"] >= BACKGROUND_NS)]
    busy = _was_busy(analysis, witness.device, long)
    unexplained = long[~busy]
    unseen = own[own["witness_gap_ns"].isna() & (own["duration_ns"] >= STALL_NOTICED_NS)]
    return replace(analysis, stalls=stalls), {
        "device": witness.device,
        "sent": witness.sent,
        "refused": witness.refused,
        "clock_error_ns": error,
        "gaps": _gaps(gaps),
        "agrees": unexplained.empty and unseen.empty,
        "sentence": _sentence(own, int(explained.sum()), int(busy.sum()), len(unexplained), len(unseen)),
        "gaps_without_stall": _gaps(unexplained),
        "gaps_while_busy": _gaps(long[busy]),
        "stalls_without_gap": records(unseen[["queue", "start_ns", "duration_ns"]]),
    }


def _was_busy(analysis: Analysis, device: str, gaps: pd.DataFrame) -> NDArray[np.bool_]:
    """Tells gaps in which a queue had buffers, but no poll came to an end: the CPU was at something else.

    :return: for each gap, whether the trace, too, saw nothing received in it although there were buffers.
    """
    found = np.zeros(len(gaps), np.bool_)
    if gaps.empty:
        return found
    queues, scan = analysis.queues, analysis.scan
    # What ends a gap ends before the sender hears of it, and so may what began it.
    inside = gaps[["start", "end"]].to_numpy() + np.array([STALL_NOTICED_NS, -STALL_NOTICED_NS])
    steps = np.maximum(gaps["start"].to_numpy() - scan.began >> scan.shift, 0)
    receiving = queues[(queues["device"] == device) & (queues["packets"] > 0)].index
    for queue, ends in _poll_ends(analysis, receiving).items():
        places = np.searchsorted(ends, inside)
        silent = places[:, 0] == places[:, 1]
        for number, step in enumerate(steps):
            looks = scan.posted[queue, : step + 1]
            looks = looks[looks != NOT_KNOWN]
            found[number] |= silent[number] and len(looks) > 0 and looks[-1] > 0
    return found


def _poll_ends(analysis: Analysis, queues: Iterable[int]) -> dict[int, NDArray[np.int64]]:
    """:return: by queue (index in scan.queues), [ns] when its polls, or their windows, ended; sorted."""
    found = {queue: [np.empty(0, np.int64)] for queue in queues}
    for columns, _ in TraceReader(analysis.path):
        for queue, ends in found.items():
            at = belonging(analysis.scan.queues[queue], columns)
            ends.append(columns["ts"][at[columns["polls"][at] > 0]].astype(np.int64))
    return {queue: np.sort(np.concatenate(ends)) for queue, ends in found.items()}


def _sentence(own: pd.DataFrame, explained: int, busy: int, unexplained: int, unseen: int) -> str:
    """:return: what the comparison says, in words."""
    also = ""
    if busy:
        also = f" In {busy} more of {BACKGROUND_NS / 1e9:g} s or more there were buffers, but no poll ended."
    if unexplained or unseen:
        return (
            f"The witness disagrees: {unseen} stall(s) of {STALL_NOTICED_NS / 1e9:g} s or more without a "
            f"gap, {unexplained} gap(s) of {BACKGROUND_NS / 1e9:g} s or more without a stall.{also}"
        )
    if own["witness_gap_ns"].isna().all():
        return f"The witness agrees: it saw no gap that calls for a stall.{also}"
    widest = own["witness_difference_ns"].abs().max() / 1e6
    return (
        f"The witness agrees: {explained} of its gaps are in stalls, and none differs from its stall by "
        f"more than {widest:.1f} ms.{also}"
    )


def _gaps(gaps: pd.DataFrame) -> list[dict[str, Any]]:
    """:return: the gaps as JSON objects, in trace time."""
    renamed = gaps.rename(columns={"start": "start_ns"}).assign(duration_ns=gaps["end"] - gaps["start"])
    return records(renamed[["start_ns", "duration_ns", "refused"]])


def _read_json(path: Path) -> Mapping[str, Any]:
    """:return: the JSON object of a file."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} does not hold a JSON object.")
    return found
