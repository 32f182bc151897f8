# SPDX-License-Identifier: GPL-2.0-only
"""What a run of the survey shows, in numbers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import toolkit
from toolkit import drivers
from toolkit.traces import Trace


@dataclass(frozen=True)
class Interval:
    """A state of the NIC's queue.

    :param start_s: seconds since the hold began.
    :param end_s: None if it had not ended when the trace did.
    :param losing: whether frames were taken in it, and lost.
    """

    state: str
    start_s: float
    end_s: float | None
    losing: bool


@dataclass(frozen=True)
class Outcome:
    """What one run shows. Of a machine that died only the first six are known.

    :param kernel: Linux, up to its second number.
    :param died: what the kernel said last; None if the machine lived.
    :param log: lines in which the kernel complained of itself.
    :param hold_s: for how long memory was kept back.
    :param intervals: those that ended after the hold had begun.
    :param deaf_s: time in stalls in which the NIC takes nothing.
    :param dropping_s: time in stalls in which it takes frames, and they are lost.
    :param spinning_s: the part of `deaf_s` in which polls are called again at once.
    :param after_s: from the end of the hold until the last of these stalls ended; None if one did not.
    :param polls: in all these stalls: polls for nothing.
    :param failed: allocations that failed in polls and refills.
    :param frames: that the sender had; `lost`, those of them that the interface did not take.
    :param refused: frames that the model did not take from the sender.
    :param gap_s: the longest time for which it took none of them, of those that the hold touches.
    """

    machine: str
    kernel: str
    driver: str
    number: int
    died: str | None = None
    log: tuple[str, ...] = ()
    hold_s: float | None = None
    intervals: tuple[Interval, ...] = ()
    deaf_s: float | None = None
    dropping_s: float | None = None
    spinning_s: float | None = None
    after_s: float | None = None
    polls: int | None = None
    failed: int | None = None
    frames: int | None = None
    lost: int | None = None
    refused: int | None = None
    gap_s: float | None = None


def read(out: Path, kinds: Sequence[str]) -> list[Outcome]:
    """Read the runs of a survey: of driver after driver, machine after machine.

    :param out: its directory.
    """
    outcomes = [
        outcome(folder, kind, nic)
        for kind in kinds
        for folder in sorted((out / kind).glob("*/[0-9]*"))
        for nic in json.loads((folder / "facts.json").read_text())["nics"]
    ]
    return sorted(outcomes, key=lambda run: run.driver)


def outcome(folder: Path, machine: str, nic: Mapping[str, Any]) -> Outcome:
    """Read what one run shows of one NIC.

    :param folder: what the run has left.
    :param nic: what facts.json says of the NIC.
    """
    facts = json.loads((folder / "facts.json").read_text())
    device = nic["device"]
    kernel = ".".join(facts["kernel"].split("-")[0].split("+")[0].split(".")[:2])
    known = Outcome(machine, kernel, nic["driver"], int(folder.name), facts.get("died"))
    if known.died:
        return known
    trace = toolkit.read(folder / "trace.rxt", folder / f"{device}.json", folder / "phases.json")
    assert trace.phases is not None and trace.witness is not None
    assert trace.witness.sent is not None and trace.witness.refused is not None
    hold = trace.phases[trace.phases["shortage"]].iloc[0]
    began, ended = int(hold["start"]), int(hold["end"])
    stalls, states = (
        frame[(frame["device"] == device) & (frame["end_ns"] > began)]
        for frame in (trace.stalls, trace.states)
    )
    queues = trace.queues[trace.queues["device"] == device]
    losing = _losing(trace)
    dropping = sum(_in_state(stalls, name) for name in losing)
    after = None if stalls["open"].any() else max(float((stalls["end_ns"] - ended).max()), 0.0) / 1e9
    gaps = trace.witness.gaps
    touched = gaps[(gaps["end"] > began) & (gaps["start"] < ended)]
    frames = trace.witness.sent + trace.witness.refused
    return replace(
        known,
        log=tuple(facts["log"]),
        hold_s=(ended - began) / 1e9,
        intervals=tuple(_interval(row, began, losing) for row in states.itertuples()),
        deaf_s=float(stalls["duration_ns"].sum()) / 1e9 - dropping,
        dropping_s=dropping,
        spinning_s=_in_state(stalls, "spinning"),
        after_s=0.0 if stalls.empty else after,
        polls=int(stalls["polls"].sum()),
        failed=int(queues["failed"].sum()),
        frames=frames,
        lost=frames - nic["taken"],
        refused=trace.witness.refused,
        gap_s=0.0 if touched.empty else float((touched["end"] - touched["start"]).max()) / 1e9,
    )


def _losing(trace: Trace) -> set[str]:
    """Return the states of a trace's drivers in which frames are taken and lost."""
    known = [drivers.load(driver["name"]) for driver in trace.meta["drivers"]]
    return {state.name for driver in known for state in driver.states if state.losing}


def _in_state(stalls: pd.DataFrame, state: str) -> float:
    """Return the time [s] that some stalls spent in a state."""
    column = f"{state.replace('-', '_')}_ns"
    return float(stalls[column].sum()) / 1e9 if column in stalls else 0.0


def _interval(row: Any, began: int, losing: set[str]) -> Interval:
    end = None if row.open else float(row.end_ns - began) / 1e9
    return Interval(row.state, float(row.start_ns - began) / 1e9, end, row.state in losing)


def states(run: Outcome) -> dict[str, float]:
    """Return for how long [s] a run was in each state; one that did not end counts to the last end known."""
    ends = [each.end_s for each in run.intervals if each.end_s is not None]
    last = max([*ends, run.hold_s or 0.0])
    times: dict[str, float] = {}
    for each in run.intervals:
        length = max(last if each.end_s is None else each.end_s, each.start_s) - each.start_s
        times[each.state] = times.get(each.state, 0.0) + length
    return times
