# SPDX-License-Identifier: GPL-2.0-only
"""Where the CPU of a queue was while frames waited: what a clock found, and when it did not tick."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.event import IN_USER, KIND, NO_TICK_NS
from toolkit.stalls.columns import Draft, integers, words
from toolkit.stalls.scan import Scan

IN_USER_SPACE = "user space"
"""The function, and the stack, of a tick that found the CPU in none of the kernel's functions."""


def ticks(scan: Scan, silences: Mapping[str, Any], states: Sequence[str]) -> Draft:
    """Count in which thread and stack of functions the clock found the CPU of each queue, in each state.

    A tick belongs to the silence in which it is; one in no silence is not counted.

    :param silences: columns queue (index in scan.queues), state (index in `states`), start_ns, end_ns [ns].
    :return: columns queue, state, tid and thread (the current one, also in softirqs on top of it), function
        (the innermost), stack (functions with semicolons, the outermost first) and count. For each queue and
        state, the highest counts come first. What is not known is null.
    """
    rare = scan.rare
    at = np.flatnonzero(rare["kind"] == KIND["tick"])
    whose = _inside(rare["queue"][at], rare["ts"][at], silences)
    at, whose = at[whose >= 0], whose[whose >= 0]
    columns = {"queue": rare["queue"][at], "state": silences["state"][whose]}
    found = pd.DataFrame(columns | {"tid": rare["tid"][at], "stack": rare["gfp"][at]})
    keys = list(found)
    counted = found.groupby(keys, as_index=False).size()
    counted = counted.sort_values(["queue", "state", "size"], ascending=[True, True, False], kind="stable")
    stacks = [_stack(scan, number) for number in counted["stack"].tolist()]
    return {
        "queue": counted["queue"].to_numpy(np.intp),
        "state": words([states[state] for state in counted["state"].tolist()]),
        "tid": counted["tid"].to_numpy(np.int64),
        "thread": words([scan.threads.get(tid) for tid in counted["tid"].tolist()]),
        "function": words([stack[-1] if stack else None for stack in stacks]),
        "stack": words([";".join(stack) or None for stack in stacks]),
        "count": counted["size"].to_numpy(np.int64),
    }


def without(scan: Scan) -> Draft:
    """Find times of NO_TICK_NS and longer in which the clock of a queue's CPU did not tick.

    Interrupts were off then, or the (virtual) CPU did not run.

    :return: columns queue, start_ns, end_ns, duration_ns [ns]; stack, where the next tick found the CPU, as
        in `ticks`; steal_ns [ns], for how much of it at most the hypervisor let others run, null where that
        is not known; sorted by start_ns.
    """
    rare = scan.rare
    late = rare["ts"] - rare["start"] >= NO_TICK_NS
    at = np.flatnonzero(late & (rare["kind"] == KIND["tick"]))
    at = at[np.argsort(rare["start"][at], kind="stable")]
    start, end = rare["start"][at], rare["ts"][at]
    stacks = words([";".join(_stack(scan, number)) or None for number in rare["gfp"][at].tolist()])
    return {
        "queue": rare["queue"][at],
        "start_ns": start,
        "end_ns": end,
        "duration_ns": end - start,
        "stack": stacks,
        "steal_ns": _stolen(scan, rare["cpu"][at], start, end),
    }


def _stolen(
    scan: Scan, cpu: NDArray[Any], start: NDArray[np.int64], end: NDArray[np.int64]
) -> pd.arrays.IntegerArray:
    """Return how much of each time [ns] was stolen from its CPU at most: between the looks around it.

    Null, where one of the two is not there; and where nothing was ever stolen: nobody may have told.
    """
    looks = sorted(scan.steal, key=lambda look: look["at_ns"])
    at = np.array([look["at_ns"] for look in looks], np.int64)
    before, after = np.searchsorted(at, start, "right") - 1, np.searchsorted(at, end, "left")
    tells = any(any(look["ns"]) for look in looks)
    known = (before >= 0) & (after < len(looks)) & tells
    stolen = np.zeros(len(start), np.int64)
    for row in np.flatnonzero(known):
        then, now = (looks[place]["ns"] for place in (before[row], after[row]))
        known[row] = cpu[row] < min(len(then), len(now))
        if known[row]:
            stolen[row] = min(max(now[cpu[row]] - then[cpu[row]], 0), end[row] - start[row])
    return integers(stolen, known)


def _stack(scan: Scan, number: int) -> tuple[str, ...]:
    """Return the functions of a stack, the outermost first; none, if it is not known."""
    return (IN_USER_SPACE,) if number == IN_USER else scan.stacks.get(number, ())


def _inside(
    queues: NDArray[np.intp], moments: NDArray[np.int64], silences: Mapping[str, Any]
) -> NDArray[np.intp]:
    """Return in which row of `silences` each moment of a queue is; -1 where in none."""
    found = np.full(len(queues), -1, np.intp)
    for queue in np.unique(queues):
        mine, rows = np.flatnonzero(queues == queue), np.flatnonzero(silences["queue"] == queue)
        if not len(rows):
            continue
        rows = rows[np.argsort(silences["start_ns"][rows], kind="stable")]
        place = np.searchsorted(silences["start_ns"][rows], moments[mine], "right") - 1
        row = rows[np.maximum(place, 0)]
        inside = (place >= 0) & (moments[mine] <= silences["end_ns"][row])
        found[mine[inside]] = row[inside]
    return found
