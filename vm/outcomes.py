# SPDX-License-Identifier: GPL-2.0-only
"""What happened in a run of an experiment or did not, and how sure a difference between two builds is.

The metrics of `toolkit compare` are numbers of stalls. Three outcomes are not: a kernel that panicked,
which leaves no trace; a driver that called a queue well in the middle of a stall; and one that spun, whether
its queue was deaf or not.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import barnard_exact

from toolkit import drivers
from toolkit.compare.statistics import ALPHA
from toolkit.errors import UserError
from toolkit.runs import find_traces
from toolkit.stalls.analysis import Analysis, analyze
from vm.guest import Guest

#: The end of the console of a run that ended in a panic, in the run's directory.
PANIC = "panic.txt"
#: A pair that ended so shortly before its stall did [ns] ended by the same cause, in another thread.
SHORTLY_NS = 1_000_000_000
#: Packets of a poll (NAPI_POLL_WEIGHT in include/linux/netdevice.h).
BUDGET = 64
#: How long a kernel may take to say why it panics (s).
LAST_WORDS_SECONDS = 20


class PanicError(UserError):
    """A machine's kernel panicked in the driver under test.

    :param console: what it said of it.
    """

    def __init__(self, sentence: str, console: str) -> None:
        super().__init__(sentence)
        self.console = console


def raise_panic(guest: Guest, module: str) -> None:
    """Raise PanicError if a machine has died of a panic in which a module has a part; else return."""
    deadline = time.monotonic() + LAST_WORDS_SECONDS
    while guest.alive():
        if time.monotonic() > deadline:
            return
        time.sleep(0.2)
    if said := panic(guest.files.console.read_text(errors="replace"), module):
        raise PanicError(f"the kernel panicked in {place(said)}", said)


def panic(console: str, module: str) -> str:
    """Return the lines of a console on a panic, from the reason on; nothing if there is none.

    The module is named in the call trace: it need not be its own function that found a list broken.
    """
    lines = [line.rstrip() for line in console.splitlines()]
    ends = [number for number, line in enumerate(lines) if "Kernel panic - not syncing" in line]
    begins = [
        number
        for number, line in enumerate(lines)
        if re.search(r"BUG: |BUG at |Oops: |protection fault|list_\w+ (double|corruption)", line)
    ]
    if not ends or not begins:
        return ""
    said = "\n".join([*lines[begins[0] : ends[0] + 1], ""])
    return said if f"[{module}]" in said else ""


def place(said: str) -> str:
    """Return the function in which a kernel stopped, as it names it itself."""
    found = re.search(r"RIP: \w+:(\S+(?: \[\w+\])?)", said)
    return found[1] if found else "an unknown function"


def read(runs: Path) -> list[set[str]]:
    """Return the outcomes of each run in a directory of runs: "panic", or those of its traces."""
    return [
        {"panic"} if (run / PANIC).exists() else set().union(*map(of_trace, find_traces(run)))
        for run in sorted(path for path in runs.iterdir() if path.is_dir())
    ]


def of_trace(path: Path) -> set[str]:
    """Return the outcomes that a trace shows: "spin", and what :func:`flaps` returns."""
    analysis = analyze(path)
    return flaps(analysis) | ({"spin"} if spins(analysis.queues).any() else set())


def flaps(analysis: Analysis) -> set[str]:
    """Return the names of the tables of pairs in which a pair of events ended within a stall."""
    known = map(drivers.known, (each["name"] for each in analysis.meta["drivers"]))
    pairs = [table.name for driver in known if driver for table in driver.tables if table.pair]
    return {name for name in pairs if (analysis.tables[name]["after_ns"] > SHORTLY_NS).any()}


def spins(queues: pd.DataFrame) -> pd.Series:
    """Say of each queue whether its polls claimed, and its refills failed, more than its packets explain.

    A poll that claims its whole budget is called again at once. It has had as many packets, or none.
    """
    return pd.concat(
        [queues[each] * BUDGET > queues["packets"] for each in ("full_polls", "failed")], axis=1
    ).all(axis=1)


def compare(
    base: str, of_base: Sequence[set[str]], candidate: str, of_candidate: Sequence[set[str]]
) -> list[dict[str, Any]]:
    """Compare two sets of runs by each outcome that any of them has.

    :param base: the name of the first set.
    :param of_base: the outcomes of each of its runs; of_candidate likewise.
    :return: {outcome, base, candidate: {name, runs, happened}, verdict, p: by Barnard's exact test,
        two-sided, sentence}.
    """
    sides = [
        (outcome, _side(base, of_base, outcome), _side(candidate, of_candidate, outcome))
        for outcome in sorted(set().union(*of_base, *of_candidate))
    ]
    return [_compared(*each) for each in sides if all(side["runs"] for side in each[1:])]


def _side(name: str, runs: Sequence[set[str]], outcome: str) -> dict[str, Any]:
    """Count the runs of a set; of one that panicked nothing else is known."""
    known = [run for run in runs if outcome == "panic" or "panic" not in run]
    return {"name": name, "runs": len(known), "happened": sum(outcome in run for run in known)}


def _compared(outcome: str, base: dict[str, Any], candidate: dict[str, Any]) -> dict[str, Any]:
    happened = [side["happened"] for side in (base, candidate)]
    p = float(
        barnard_exact([happened, [side["runs"] - side["happened"] for side in (base, candidate)]]).pvalue
    )
    fewer = candidate["happened"] / candidate["runs"] < base["happened"] / base["runs"]
    verdict = ("improved" if fewer else "worse") if p <= ALPHA else "no difference seen"
    words = [f"in {side['happened']} of {side['runs']} runs of {side['name']}" for side in (base, candidate)]
    return {
        "outcome": outcome,
        "base": base,
        "candidate": candidate,
        "verdict": verdict,
        "p": p,
        "sentence": f"{verdict}: {outcome} {words[0]}, {words[1]} (p = {p:.2g}).",
    }
