# SPDX-License-Identifier: GPL-2.0-only
"""The verdict on two sets of runs, and a sentence that says how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from toolkit.compare.metrics import amount, change
from toolkit.compare.statistics import enough, needed
from toolkit.english import count

IMPROVED = "improved"
WORSE = "worse"
NO_DIFFERENCE = "no difference seen"
CANNOT_SAY = "cannot say"

LOST = 0.25
"""If more than this share of a set is set aside, what is left may be a selection: the runs with the worst
stalls are those that lose events. Up to here, the median that is left lies between 3/8 and 5/8 of all."""


MUCH = 2
"""A metric that only informs and rose by this factor is worth a sentence, whatever the verdict."""


@dataclass(frozen=True)
class Side:
    """One of the two sets of a comparison.

    Attributes: its `name`; the `path` that it was read from; `variant` and `srcversion` of the driver;
    `runs`, how many were compared; `set_aside`, how many were not; `stalled`, how many of the compared runs
    had a stall.
    """

    name: str
    path: str | None
    variant: str | None
    srcversion: str | None
    runs: int
    set_aside: int
    stalled: int


def decide(metrics: pd.DataFrame, base: int, candidate: int, *, paired: bool = False) -> str:
    """Return the verdict on runs that can all be trusted.

    :param metrics: statistics.measure.
    :param base: number of runs of the base.
    :param candidate: number of runs of the candidate.
    :param paired: whether the runs are pairs.
    :return: IMPROVED, WORSE, NO_DIFFERENCE or CANNOT_SAY.
    """
    better, worse = gains(metrics), harms(metrics)
    if too_few_to_tell(metrics, base, candidate, paired=paired) or (len(better) and len(worse)):
        return CANNOT_SAY
    if len(worse):
        return WORSE
    return IMPROVED if len(better) else NO_DIFFERENCE


def finding(metric: Mapping[Any, Any] | pd.Series, base: int, candidate: int, metrics: pd.DataFrame) -> str:
    """Return in a few words what the test of a metric says for these numbers of runs."""
    if metric["significant"]:
        return str(metric["direction"])
    return NO_DIFFERENCE if enough(base, candidate, metrics) else "too few runs to say"


def judge(metrics: pd.DataFrame, base: Side, candidate: Side) -> tuple[str, str]:
    """Return the verdict, and sentences that say by how much, how sure, or why not."""
    if selected := [side for side in (base, candidate) if _lost(side) > LOST]:
        return CANNOT_SAY, _selected(selected)
    verdict = decide(metrics, base.runs, candidate.runs)
    if too_few_to_tell(metrics, base.runs, candidate.runs):
        return verdict, _too_few(metrics, base, candidate)
    if verdict == CANNOT_SAY:
        return verdict, f"{_traded(metrics, base, candidate)}{_much_worse(metrics)}"
    say = _not_excluded if verdict == NO_DIFFERENCE else _changed
    first = f"{say(metrics, base, candidate)}{_much_worse(metrics)}"
    return verdict, f"{first} {_stalled(base, candidate)}"


def too_few_to_tell(metrics: pd.DataFrame, base: int, candidate: int, *, paired: bool = False) -> bool:
    """Tell whether the runs are too few, so that more runs could change the verdict.

    :return: false also for few runs, if they differ in whether they end deaf and no other metric that decides
        or guards points the other way.
    """
    if enough(base, candidate, metrics, paired=paired):
        return False
    better, worse = gains(metrics), harms(metrics)
    ruling = metrics[metrics["role"] != "informs"]
    contrary = {"lower": "higher", "higher": "lower"}
    return not any(
        len(found) and not (ruling["direction"] == contrary[found["direction"].iloc[0]]).any()
        for found in (better, worse)
    )


def gains(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the metrics that are better in the candidate."""
    return metrics[
        metrics["significant"] & (metrics["role"] == "decides") & (metrics["direction"] == "lower")
    ]


def harms(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the metrics that are worse in the candidate."""
    return metrics[
        metrics["significant"] & (metrics["role"] != "informs") & (metrics["direction"] == "higher")
    ]


def _lost(side: Side) -> float:
    """Return the share of the runs that was set aside."""
    return side.set_aside / max(side.runs + side.set_aside, 1)


def _selected(sides: list[Side]) -> str:
    counts = " and ".join(
        f"{each.set_aside} of {count(each.runs + each.set_aside, 'run')} of {each.name}" for each in sides
    )
    return (
        f"{counts} had to be set aside, more than {LOST:.0%}: what is left may be a selection. "
        "Record them again, so that their traces are whole, nothing is dropped and the witness agrees."
    )


def _too_few(metrics: pd.DataFrame, base: Side, candidate: Side) -> str:
    number = needed(metrics)
    first = metrics.iloc[0].to_dict()
    seen = f" Seen so far: {first['title']} {_middles(first)}." if base.runs and candidate.runs else ""
    return (
        f"{count(base.runs, 'run')} of {base.name} and {candidate.runs} of {candidate.name} are too few: "
        f"a metric that sets them wholly apart could still be chance. Record at least {number} of each.{seen}"
    )


def _traded(metrics: pd.DataFrame, base: Side, candidate: Side) -> str:
    better, worse = gains(metrics), harms(metrics)
    spun = " A queue that spins still receives nothing: that is no cure." if "spin_ns" in worse.index else ""
    return (
        f"From {base.name} to {candidate.name} one harm was traded for another: {_changes(better)}; "
        f"but {_changes(worse)}.{spun} Only a candidate that lowers the one and does not raise the other "
        "would settle it."
    )


def _changed(metrics: pd.DataFrame, base: Side, candidate: Side) -> str:
    """Say on which changes a verdict of better or worse rests."""
    better, worse = gains(metrics), harms(metrics)
    runs = f"{base.runs} and {candidate.runs} runs"
    return f"From {base.name} to {candidate.name} ({runs}) {_changes(better if len(better) else worse)}."


def _changes(found: pd.DataFrame) -> str:
    """Say how the first of some metrics changed, by how much, how sure; and which others did likewise."""
    first, *others = found.to_dict("records")
    word = {"lower": "fell", "higher": "rose"}[first["direction"]]
    sure = [f"95 %: {interval(first)}"] if interval(first) else []
    sure += [f"adjusted p = {first['p_adjusted']:.2g}"]
    also = f", and so did {', '.join(each['title'] for each in others)}" if others else ""
    return f"{first['title']} {word} {_middles(first)} ({'; '.join(sure)}){also}"


def _much_worse(metrics: pd.DataFrame) -> str:
    """Say which metrics that do not rule the verdict rose by much."""
    rose = metrics["significant"] & (metrics["role"] == "informs") & (metrics["direction"] == "higher")
    found = metrics[rose & (metrics["candidate_median"] >= MUCH * metrics["base_median"])]
    if found.empty:
        return ""
    words = [f"{row['title']} rose {_middles(row)}" for row in found.to_dict("records")]
    return f" But {', and '.join(words)}."


def _not_excluded(metrics: pd.DataFrame, base: Side, candidate: Side) -> str:
    """Say which changes are not excluded, where no difference was seen."""
    deciding = metrics[(metrics["role"] == "decides") & metrics["difference_low"].notna()]
    left = "; ".join(f"{row['title']} {interval(row)}" for row in deciding.to_dict("records"))
    said = (
        f"{base.runs} runs of {base.name} and {candidate.runs} of {candidate.name} "
        "differ no more than chance explains"
    )
    if not left:
        return f"{said}: in what decides, all runs are alike."
    return f"{said}, which does not make them equal. Changes of the median not excluded (95 %): {left}."


def _stalled(base: Side, candidate: Side) -> str:
    """Say how many runs stalled; if none did, how many may stall nevertheless."""
    if not base.stalled and not candidate.stalled:
        few = min(base, candidate, key=lambda side: side.runs)
        return (
            f"No run of either stalled, so there was nothing to cure; up to {_at_most(few)} of the runs may "
            "stall all the same (95 %)."
        )
    said = (
        f"{base.stalled} of {base.runs} runs of {base.name} stalled, "
        f"{candidate.stalled} of {candidate.runs} of {candidate.name}"
    )
    if candidate.stalled:
        return f"{said}."
    return f"{said}; up to {_at_most(candidate)} of its runs may stall all the same (95 %)."


def _at_most(side: Side) -> str:
    """Return the highest share of stalling runs that is consistent with the number of runs that stalled."""
    return f"{stats.binomtest(side.stalled, side.runs).proportion_ci(0.95).high:.0%}"


def _middles(row: Mapping[Any, Any]) -> str:
    """Say from which median to which median a metric went; means, if the medians contradict the ranks."""
    sign = {"lower": -1, "higher": 1, "same": 0}[row["direction"]]
    of = "median" if not sign or sign * row["difference"] > 0 else "mean"
    before, after = (amount(row[f"{each}_{of}"], row["unit"]) for each in ("base", "candidate"))
    return f"from a {of} of {before} to {after}"


def interval(row: Mapping[Any, Any]) -> str:
    """Return the 95 % intervals of the medians' difference and ratio, in words; empty if not known."""
    if pd.isna(row["difference_low"]):
        return ""
    low, high = (change(row[f"difference_{end}"], row["unit"]) for end in ("low", "high"))
    ratio = ""
    if pd.notna(row["ratio_low"]) and pd.notna(row["ratio_high"]):
        ratio = f", {row['ratio_low']:.2f} to {row['ratio_high']:.2f} times"
    return f"{low} to {high}{ratio}"
