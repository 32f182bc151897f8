# SPDX-License-Identifier: GPL-2.0-only
"""Compare a fleet before and after a rollout: did its hosts become less silent, by how much, how sure?

By the statistics of toolkit.compare. Hosts are the unit, as docs/fleet-findings.md explains.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from toolkit.compare.comparison import set_aside
from toolkit.compare.statistics import Middle, measure
from toolkit.compare.verdict import CANNOT_SAY, LOST, decide
from toolkit.english import count, duration, listed
from toolkit.errors import UserError
from toolkit.fleet.conditions import choose, parse
from toolkit.fleet.hosts import METRICS, per_host
from toolkit.stalls.thresholds import DEFAULT

PAIRED = 0.5
"""Hosts are compared with themselves if so large a part of the smaller set's hosts is in both sets."""

LONGER = 1.5
"""Traces that are longer than the other set's by this factor are worth a remark."""

SETS = ("before", "after")
_STALLED = "stalled_ns_per_h"
_TOLD_APART = ("driver", "kernel", "build")


@dataclass(frozen=True)
class Side:
    """One of the two sets.

    Attributes: `name`, "before" or "after"; the conditions that chose it, as `text`; `hosts`, how many were
    compared; their `traces` and traced_ns; `stalled`, how many of these hosts had a stall; `set_aside`, how
    many traces cannot be trusted, by the reason; `left_out`, how many hosts were not compared, since they are
    in one set only (pairs), or in both.
    """

    name: str
    text: str
    hosts: int
    traces: int
    traced_ns: int
    stalled: int
    set_aside: dict[str, int]
    left_out: int


@dataclass(frozen=True)
class Rollout:
    """The result of a comparison.

    Attributes: `verdict`; `why`, a sentence where the numbers must not be judged, else empty; `before`,
    `after`; `paired`, whether each host was compared with itself; `of`, whether differences are of medians or
    of means; `metrics` (statistics.measure);
    `hosts`, the values of the hosts, by `set` and `host`; `caveats`, sentences on what else differs;
    `remarks`, other sentences.
    """

    verdict: str
    why: str
    before: Side
    after: Side
    paired: bool
    of: Middle
    metrics: pd.DataFrame
    hosts: pd.DataFrame
    caveats: list[str]
    remarks: list[str]

    @property
    def sides(self) -> tuple[Side, Side]:
        """The two sets."""
        return self.before, self.after


def compare(traces: pd.DataFrame, before: str, after: str, *, intervals: bool = True) -> Rollout:
    """Compare the traces that one condition chooses with those that another chooses.

    :param traces: frames.Fleet.traces.
    :param before: conditions (conditions.parse), after: others.
    :param intervals: whether to compute the intervals, which takes most of the time.
    :raises UserError: if a condition cannot be read or chooses nothing; if both choose the same trace.
    """
    chosen = traces[choose(traces, before)], traces[choose(traces, after)]
    _refuse_both(*chosen, before)
    reasons = [_set_aside(each) for each in chosen]
    kept = [each[reason.isna()] for each, reason in zip(chosen, reasons, strict=True)]
    hosts = [per_host(each) for each in kept]
    both = hosts[0].index.intersection(hosts[1].index)
    paired = len(both) > 0 and len(both) >= PAIRED * min(map(len, hosts))
    compared = [each.loc[both] if paired else each.drop(both) for each in hosts]
    sides = [
        _side(name, text, all_hosts, values, reason)
        for name, text, all_hosts, values, reason in zip(
            SETS, (before, after), hosts, compared, reasons, strict=True
        )
    ]
    first, second = compared
    # Where most hosts never stalled, both medians are 0 and say nothing.
    stalled = all(each[_STALLED].median() > 0 for each in compared if len(each))
    of: Middle = "median" if stalled else "mean"
    metrics = measure(first, second, METRICS, of=of, paired=paired, intervals=intervals)
    why = _not_judged(sides, chosen)
    return Rollout(
        verdict=CANNOT_SAY if why else decide(metrics, sides[0].hosts, sides[1].hosts, paired=paired),
        why=why,
        before=sides[0],
        after=sides[1],
        paired=paired,
        of=of,
        metrics=metrics,
        hosts=pd.concat(compared, keys=SETS, names=["set", "host"]).reset_index(),
        caveats=_caveats(kept, [before, after], sides),
        remarks=_remarks(metrics, sides),
    )


def _refuse_both(before: pd.DataFrame, after: pd.DataFrame, text: str) -> None:
    """Make sure that no trace is in both sets.

    :param text: the conditions of the first.
    :raises UserError: if one is.
    """
    both = before.index.intersection(after.index)
    if len(both):
        row = before.loc[both[0]]
        chosen = ", ".join(f"{each.name} {row[each.name]}" for each in parse(text) if each.name != "day")
        raise UserError(
            f"{count(before.loc[both, 'place'].nunique(), 'trace')} would be before and after, such as "
            f"{row['place']}{f' ({chosen})' if chosen else ''}: give conditions that exclude each other, "
            "such as 'kernel=6.1.*' and 'kernel=6.12.*'."
        )


def _set_aside(traces: pd.DataFrame) -> pd.Series:
    """Say on which traces no verdict may rest; NA for a trace that can be compared."""
    read = traces["duration_ns"].notna()
    known = traces.assign(
        damage=traces["reason"], witness_agrees=pd.Series(pd.NA, traces.index, dtype="boolean")
    )
    reasons = set_aside(known[read]).reindex(traces.index)
    reasons = reasons.mask(~read, "the trace could not be read")
    return reasons.mask(reasons.isna() & traces["host"].isna(), "the host is not known")


def _side(name: str, text: str, hosts: pd.DataFrame, compared: pd.DataFrame, reasons: pd.Series) -> Side:
    return Side(
        name=name,
        text=text,
        hosts=len(compared),
        traces=int(compared["traces"].sum()),
        traced_ns=int(compared["traced_ns"].sum()),
        stalled=int((compared["stalls_per_h"] > 0).sum()),
        set_aside={str(reason): int(number) for reason, number in reasons.value_counts().items()},
        left_out=len(hosts) - len(compared),
    )


def _not_judged(sides: Sequence[Side], chosen: Sequence[pd.DataFrame]) -> str:
    """Say why the numbers must not be judged; empty if they may be."""
    doubts = []
    for side, traces in zip(sides, chosen, strict=True):
        aside = sum(side.set_aside.values())
        if aside > LOST * len(traces):
            why = ", ".join(f"{reason}: {number:,}" for reason, number in side.set_aside.items())
            doubts.append(f"{aside:,} of {count(len(traces), 'trace')} {side.name} ({why})")
    if not doubts:
        return ""
    return f"{' and '.join(doubts)} cannot be trusted, more than {LOST:.0%}: what is left may be a selection."


def _caveats(kept: list[pd.DataFrame], texts: list[str], sides: list[Side]) -> list[str]:
    """Say in what the sets differ other than what chose them."""
    caveats = []
    chosen = {condition.name for text in texts for condition in parse(text)}
    for name in _TOLD_APART:
        values = [sorted(each[name].dropna().astype(str).unique()) for each in kept]
        if name not in chosen and values[0] != values[1]:
            said = "; ".join(
                f"{side.name} {listed(each) if each else 'none is known'}"
                for side, each in zip(sides, values, strict=True)
            )
            caveats.append(f"The sets differ in {name}, too: {said}.")
    for name, default in asdict(DEFAULT).items():
        lengths = [sorted(each[name].fillna(default).unique()) for each in kept]
        if all(lengths) and lengths[0] != lengths[1]:
            said = "; ".join(
                f"{side.name} {listed([duration(int(length)) for length in each])}"
                for side, each in zip(sides, lengths, strict=True)
            )
            caveats.append(f"The sets were analyzed by different thresholds, {name}: {said}.")
    days = [each["day"].dropna() for each in kept]
    if all(map(len, days)) and days[0].max() < days[1].min():
        caveats.append(
            f"The sets are of different days ({days[0].min():%Y-%m-%d} to {days[0].max():%Y-%m-%d}, "
            f"{days[1].min():%Y-%m-%d} to {days[1].max():%Y-%m-%d}): a difference may come of anything "
            "else that changed in between. Hosts that stayed as they were would tell."
        )
    return caveats


def _remarks(metrics: pd.DataFrame, sides: list[Side]) -> list[str]:
    """Say what was not compared, and what should be known of the traces."""
    remarks = []
    lengths = [side.traced_ns / max(side.traces, 1) for side in sides]
    if min(lengths) > 0 and max(lengths) > LONGER * min(lengths):
        remarks.append(
            f"A trace lasts {lengths[0] / 1e9:.1f} s {sides[0].name} and {lengths[1] / 1e9:.1f} s "
            f"{sides[1].name} (means): the longest stall of a trace depends on that, other metrics do not."
        )
    if missing := [metric.title for metric in METRICS if metric.name not in metrics.index]:
        remarks.append(
            f"Not compared, since not every host knows it: {listed(missing)}; with driver=NAME in both "
            "conditions the hosts of one driver are compared."
        )
    return remarks
