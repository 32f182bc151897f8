# SPDX-License-Identifier: GPL-2.0-only
"""Compare two sets of runs metric by metric: how different they are, and how sure that is."""

import warnings
from collections.abc import Sequence
from math import comb
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from toolkit.compare.metrics import METRICS, Metric

ALPHA = 0.05
"""The chance, at most, that a difference is found between two sets of runs of the same driver."""

SEED = 0
"""Seed of the resampling: the same traces give the same numbers."""

RESAMPLES = 9999
"""Resamples of the bootstrap; permutations are exact up to this many (7 and 7 runs), else random."""

_BATCH = 1000

_Values: TypeAlias = NDArray[np.float64]


_ENDS = "open"


# See analysis.analyze: tables of a few rows are faster so.
@pd.option_context("mode.string_storage", "python")
def measure(
    base: pd.DataFrame,
    candidate: pd.DataFrame,
    metrics: Sequence[Metric] = METRICS,
    *,
    intervals: bool = True,
) -> pd.DataFrame:
    """Compare the metrics that are known of every run of both sets.

    :param base: runs (runs.read_runs).
    :param candidate: other runs.
    :param metrics: the metrics to compare.
    :param intervals: whether to compute the intervals, too, which takes most of the time.
    :return: one row for each metric, by its name, with these columns. title, unit, role; base_median,
        candidate_median, base_mean, candidate_mean, in the unit; difference and ratio of the medians
        (candidate to base; no ratio to a median of 0), each with the ends _low and _high of its 95 %
        interval; varies: whether any two runs differ; p, p_adjusted; direction of the candidate's ranks:
        "lower", "higher" or "same"; significant. A number that is not defined is NaN.
    """
    known = [
        each for each in metrics if not (base[each.name].isna().any() | candidate[each.name].isna().any())
    ]
    names = [each.name for each in known]
    # Sorted: the order in which the runs were read must not matter to the resampling.
    before, after = (
        np.sort(runs[names].to_numpy(np.float64, na_value=np.nan).T, axis=1) for runs in (base, candidate)
    )
    table = _middles(known, before, after)
    both = np.hstack([before, after])
    table["varies"] = _vary(both)
    ranks, others = np.split(stats.rankdata(both, axis=1), [len(base)], axis=1)
    table["p"] = _p(ranks, others, table["varies"].to_numpy())
    if table["p"].notna().get(_ENDS, False):
        at = names.index(_ENDS)
        table.loc[_ENDS, "p"] = _p_of_ends(before[at] > 0, after[at] > 0)
    table["p_adjusted"] = _adjusted(table)
    table["direction"] = _direction(ranks, others)
    table["significant"] = table["p_adjusted"] <= ALPHA
    return table.join(_intervals(before, after).set_index(table.index)) if intervals else table


def enough(base: int, candidate: int, metrics: pd.DataFrame) -> bool:
    """Tell whether this many runs can reach significance.

    :param base: number of runs of the base.
    :param candidate: number of runs of the candidate.
    :param metrics: as of `measure`.
    :return: whether one metric that separates the two sets entirely, while no other metric tells them apart,
        would be significant after correction.
    """
    tested = int(((metrics["role"] != "informs") & (metrics.index != _ENDS)).sum())
    return min(base, candidate) > 1 and 2 * tested / comb(base + candidate, base) <= ALPHA


def needed(metrics: pd.DataFrame) -> int:
    """Return the smallest equal size of both sets for which `enough` holds."""
    return next(runs for runs in range(2, 100) if enough(runs, runs, metrics))


def _middles(known: list[Metric], before: _Values, after: _Values) -> pd.DataFrame:
    """Return the columns from title to ratio, by metric."""
    table = pd.DataFrame(known, columns=list(Metric._fields)).set_index("name")
    for name, values in (("base", before), ("candidate", after)):
        # Without runs there is neither median nor mean.
        some = values.shape[1] > 0
        table[f"{name}_median"] = np.median(values, axis=1) if some else np.nan
        table[f"{name}_mean"] = values.mean(axis=1) if some else np.nan
    table["difference"] = table["candidate_median"] - table["base_median"]
    table["ratio"] = table["candidate_median"] / table["base_median"].where(table["base_median"] > 0)
    return table


def _vary(values: _Values) -> NDArray[np.bool_]:
    """Tell for each metric whether any two values differ."""
    return np.asarray(values.max(axis=1, initial=-np.inf) > values.min(axis=1, initial=np.inf))


def _direction(before: _Values, after: _Values) -> NDArray[np.str_]:
    """Return for each metric where the candidate's ranks lie."""
    if not before.shape[1] or not after.shape[1]:
        return np.full(len(before), "same")
    change = after.mean(axis=1) - before.mean(axis=1)
    return np.select([change < 0, change > 0], ["lower", "higher"], "same")


def _p(before: _Values, after: _Values, varies: NDArray[np.bool_]) -> _Values:
    """Return p of a two-sided permutation test of the sum of ranks.

    Of ranks, since the length of a stall has a heavy tail: one extreme run would rule a test of means, and
    with 5 runs there are too few medians to tell apart. Ties do not disturb a permutation test.

    :return: by metric; NaN for a metric that does not vary, and where a set has fewer than two runs.
    """
    p = np.full(len(before), np.nan)
    if varies.any() and min(before.shape[1], after.shape[1]) > 1:
        p[varies] = stats.permutation_test(
            (before[varies], after[varies]),
            lambda ranks, _, axis: ranks.sum(axis=axis),
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=_BATCH,
            axis=1,
            rng=SEED,
        ).pvalue
    return p


def _p_of_ends(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """Return p of Barnard's exact test, two-sided, of how many runs end in an open stall.

    Whether a driver comes back at all is a question of yes or no, and the first question. Tested as such,
    three runs of each set can answer it (p = 0.031); in ranks that are nearly all tied they cannot.
    """
    table = [[each.sum() for each in (before, after)], [(~each).sum() for each in (before, after)]]
    return float(stats.barnard_exact(table).pvalue)


def _adjusted(table: pd.DataFrame) -> pd.Series:
    """Return p after Benjamini and Hochberg: metrics that may rule a verdict together, the others apart.

    Open stalls are tested alone, before all else.
    """
    adjusted = pd.Series(np.nan, table.index)
    tested = table["p"].dropna()
    for _, p in tested.groupby(table["role"].mask(table.index == _ENDS, _ENDS).replace("guards", "decides")):
        adjusted[p.index] = stats.false_discovery_control(p.to_numpy())
    return adjusted


def _intervals(before: _Values, after: _Values) -> pd.DataFrame:
    """Return bootstrap intervals of the medians' difference and ratio, by percentiles.

    By percentiles and not BCa: its acceleration comes from the jackknife, which is not consistent for a
    median. Where the runs of neither set vary there is nothing to resample, hence no interval.

    :return: difference_low, difference_high, ratio_low, ratio_high by metric; NaN where not defined: if a
        median of resampled base runs is 0, the ratio has no upper bound.
    """
    bounds = pd.DataFrame(
        np.nan,
        range(len(before)),
        [f"{of}_{end}" for of in ("difference", "ratio") for end in ("low", "high")],
    )
    if min(before.shape[1], after.shape[1]) < 2:
        return bounds
    vary = np.flatnonzero(_vary(before) | _vary(after))
    for of, statistic in (("difference", _difference), ("ratio", _ratio)):
        if not len(vary):
            continue
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            low, high = stats.bootstrap(
                (before[vary], after[vary]),
                statistic,
                vectorized=True,
                n_resamples=RESAMPLES,
                batch=_BATCH,
                axis=1,
                method="percentile",
                rng=SEED,
            ).confidence_interval
        bounds.loc[vary, [f"{of}_low", f"{of}_high"]] = np.column_stack([low, high])
    bounds.loc[np.median(before, axis=1) == 0, ["ratio_low", "ratio_high"]] = np.nan
    return bounds.where(np.isfinite(bounds))


def _difference(before: _Values, after: _Values, axis: int) -> _Values:
    return np.asarray(np.median(after, axis=axis) - np.median(before, axis=axis))


def _ratio(before: _Values, after: _Values, axis: int) -> _Values:
    return np.asarray(np.median(after, axis=axis) / np.median(before, axis=axis))
