# SPDX-License-Identifier: GPL-2.0-only
"""Where the CPU was in silences: as sentences, and as a table."""

import pandas as pd

from toolkit.english import count, listed
from toolkit.event import NO_TICK_NS
from toolkit.stalls.analysis import Analysis

FUNCTIONS = 4
"""As many functions are told in a sentence, of those in which the CPU was found so often at least:"""
LEAST_SHARE = 0.05

PLACES = 12
"""As many rows has the table."""

_CALLERS = 4
"""As many functions are told that led to one."""

_NOT_KNOWN = {"function": "an unknown function", "thread": "?", "stack": ""}


def sentence(ticks: pd.DataFrame) -> str:
    """Say in which functions, of which threads, a clock found the CPU; nothing, if it never looked."""
    every = int(ticks["count"].sum())
    most = ticks.fillna(_NOT_KNOWN).groupby(["function", "thread"])["count"].sum().nlargest(FUNCTIONS)
    named = zip(most.index.to_frame().itertuples(index=False), most / max(every, 1), strict=True)
    parts = [
        f"{who.function} of thread {who.thread} ({share:.0%})" for who, share in named if share >= LEAST_SHARE
    ]
    where = listed(parts) if parts else f"{count(len(ticks), 'place')}, in none often"
    return f"A clock looked {count(every, 'time')} meanwhile and found the CPU in {where}." if every else ""


def no_tick(device: str, times: pd.DataFrame) -> str:
    """Say how long the clock of the CPUs of a device's queues did not tick."""
    # The queues of a CPU share its clock.
    each = times.drop_duplicates("start_ns")
    length, stolen = each["duration_ns"], each["steal_ns"]
    said = (
        f"{count(len(length), 'time')} the clock of a CPU of {device} did not tick for "
        f"{NO_TICK_NS / 1e9:g} s or longer ({length.sum() / 1e9:.3f} s in all, at most "
        f"{length.max() / 1e9:.3f} s): interrupts were off, or a virtual CPU did not run."
    )
    if not stolen.notna().any():
        return said
    most = int(stolen.sum())
    told = f"took up to {most / 1e9:.3f} s" if most else "took nothing"
    rest = "" if stolen.notna().all() else ", as far as is known"
    return f"{said} By its own account the hypervisor {told} of that time{rest}."


def table(analysis: Analysis) -> pd.DataFrame:
    """Return in which functions a clock found the CPU most often, as strings under headings."""
    found = analysis.ticks.fillna(_NOT_KNOWN)
    callers = found["stack"].str.split(";").map(lambda names: " ← ".join(names[-2 : -2 - _CALLERS : -1]))
    rows = found.assign(callers=callers).groupby(["state", "thread", "function", "callers"])["count"].sum()
    most = rows.nlargest(PLACES).reset_index()
    share = most["count"] / max(int(rows.sum()), 1)
    return pd.DataFrame(
        {
            "state": most["state"],
            "thread": most["thread"],
            "function": most["function"],
            "called by": most["callers"],
            "ticks": most["count"].map("{:,}".format),
            "of all [%]": (share * 100).map("{:.0f}".format),
        }
    ).astype("string")
