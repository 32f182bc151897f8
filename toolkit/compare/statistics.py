# SPDX-License-Identifier: GPL-2.0-only
"""Compare two sets of runs metric by metric: how different they are, and how sure that is."""

import warnings
from collections.abc import Callable, Sequence
from math import comb
from typing import Any, Literal, TypeAlias

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

FEWEST_RESAMPLES = 999
"""Resamples where there are very many values: an interval and a p are then known well enough."""

_DRAWN = 10_000_000
"""Values drawn at most for one metric, unless FEWEST_RESAMPLES need more: some seconds of work."""

_BATCH = 1000
_HELD = 2_000_000
"""Values that are held at a time."""

_Values: TypeAlias = NDArray[np.float64]
Middle: TypeAlias = Literal["median", "mean"]

_MIDDLES: dict[Middle, Callable[..., Any]] = {"median": np.median, "mean": np.mean}


_ENDS = "open"


# See analysis.analyze: tables of a few rows are faster so.
@pd.option_context("mode.string_storage", "python")
def measure(
    base: pd.DataFrame,
    candidate: pd.DataFrame,
    metrics: Sequence[Metric] = METRICS,
    *,
    intervals: bool = True,
    of: Middle = "median",
    paired: bool = False,
) -> pd.DataFrame:
    """Compare two sets of runs metric by metric; leave out a metric that is not known of every run.

    docs/comparison.md says which tests, which correction and which intervals these are.

    :param base: runs of the driver as it was, one row each (runs.read_runs).
    :param candidate: runs of the changed driver, with the same columns.
    :param metrics: the metrics to compare.
    :param intervals: whether to compute the 95 % intervals, which take most of the time.
    :param of: whether difference and ratio compare the medians or the means.
    :param paired: whether row n of the base and row n of the candidate observe the same thing twice, such as
        a host before and after a change. Both sets must then have the same number of rows.
    :return: one row for each metric, by its name. A number that is not defined is NaN. The columns are

        - title, unit, role: as in METRICS;
        - base_median, candidate_median, base_mean, candidate_mean: in the unit of the metric;
        - difference: candidate minus base; ratio: candidate divided by base, NaN if the base is 0;
        - difference_low, difference_high, ratio_low, ratio_high: the 95 % intervals, if `intervals`;
        - varies: whether any two runs differ;
        - p, p_adjusted: before and after the correction for several metrics;
        - direction: whether the candidate's ranks are "lower", "higher" or the "same";
        - significant: whether p_adjusted is at most ALPHA.
    """
    known = [
        each for each in metrics if not (base[each.name].isna().any() | candidate[each.name].isna().any())
    ]
    names = [each.name for each in known]
    before, after = (runs[names].to_numpy(np.float64, na_value=np.nan).T for runs in (base, candidate))
    # Sorted: the order in which the runs were read must not matter to the resampling.
    before, after = _sorted_pairs(before, after) if paired else (np.sort(before), np.sort(after))
    table = _middles(known, before, after, of)
    table["varies"] = _vary(np.hstack([before, after]))
    ranks = _signed_ranks(before, after) if paired else _ranks(before, after)
    table["p"] = _p(ranks, table["varies"].to_numpy())
    if table["p"].notna().get(_ENDS, False):
        at = names.index(_ENDS)
        table.loc[_ENDS, "p"] = _p_of_ends(before[at] > 0, after[at] > 0)
    table["p_adjusted"] = _adjusted(table)
    table["direction"] = _direction(ranks)
    table["significant"] = table["p_adjusted"] <= ALPHA
    if not intervals:
        return table
    return table.join(_intervals(before, after, of, paired=paired).set_index(table.index))


def resamples(values: int) -> int:
    """Return how many resamples are drawn for two sets with so many values together."""
    return int(np.clip(_DRAWN // max(values, 1), FEWEST_RESAMPLES, RESAMPLES))


def _batch(values: int) -> int:
    """Return how many resamples are made at a time."""
    return int(np.clip(_HELD // max(values, 1), 1, _BATCH))


def enough(base: int, candidate: int, metrics: pd.DataFrame, *, paired: bool = False) -> bool:
    """Tell whether this many runs can reach significance.

    :param base: number of runs of the base.
    :param candidate: number of runs of the candidate.
    :param metrics: as of `measure`.
    :param paired: whether the runs are pairs.
    :return: whether one metric that separates the two sets entirely, while no other metric tells them apart,
        would be significant after correction.
    """
    tested = int(((metrics["role"] != "informs") & (metrics.index != _ENDS)).sum())
    ways = 2 ** min(base, candidate) if paired else comb(base + candidate, base)
    # As a product of integers: there are more ways to deal out many hosts than a float can count.
    return min(base, candidate) > 1 and 2 * tested <= ALPHA * min(ways, 2**64)


def needed(metrics: pd.DataFrame, *, paired: bool = False) -> int:
    """Return the smallest equal size of both sets for which `enough` holds."""
    return next(runs for runs in range(2, 100) if enough(runs, runs, metrics, paired=paired))


def _sorted_pairs(before: _Values, after: _Values) -> tuple[_Values, _Values]:
    """Return both with their columns, the pairs, in an order that does not depend on how they were read."""
    order = np.lexsort(np.vstack([after, before])[::-1])
    return before[:, order], after[:, order]


def _middles(known: list[Metric], before: _Values, after: _Values, of: Middle) -> pd.DataFrame:
    """Return the columns from title to ratio, by metric."""
    table = pd.DataFrame(known, columns=list(Metric._fields)).set_index("name")
    for name, values in (("base", before), ("candidate", after)):
        # Without runs there is neither median nor mean.
        some = values.shape[1] > 0
        table[f"{name}_median"] = np.median(values, axis=1) if some else np.nan
        table[f"{name}_mean"] = values.mean(axis=1) if some else np.nan
    first, second = table[f"base_{of}"], table[f"candidate_{of}"]
    table["difference"] = second - first
    table["ratio"] = second / first.where(first > 0)
    return table


def _vary(values: _Values) -> NDArray[np.bool_]:
    """Tell for each metric whether any two values differ."""
    return np.asarray(values.max(axis=1, initial=-np.inf) > values.min(axis=1, initial=np.inf))


def _ranks(before: _Values, after: _Values) -> tuple[_Values, ...]:
    """Return the ranks of both sets among all values."""
    ranks = stats.rankdata(np.hstack([before, after]), axis=1)
    return tuple(np.split(ranks, [before.shape[1]], axis=1))


def _signed_ranks(before: _Values, after: _Values) -> tuple[_Values, ...]:
    """Return for each pair the rank of the size of its change, with the sign of the change."""
    change = after - before
    return (np.sign(change) * stats.rankdata(np.abs(change), axis=1),)


def _direction(ranks: tuple[_Values, ...]) -> NDArray[np.str_]:
    """Return for each metric where the candidate's ranks lie."""
    if not all(each.shape[1] for each in ranks):
        return np.full(len(ranks[0]), "same")
    means = [each.mean(axis=1) for each in ranks]
    change = means[0] if len(means) == 1 else means[1] - means[0]
    return np.select([change < 0, change > 0], ["lower", "higher"], "same")


def _p(ranks: tuple[_Values, ...], varies: NDArray[np.bool_]) -> _Values:
    """Return p of a two-sided permutation test of the sum of ranks.

    Of ranks, since the length of a stall has a heavy tail: one extreme run would rule a test of means, and
    with 5 runs there are too few medians to tell apart. Ties do not disturb a permutation test.

    :param ranks: of both sets, which are dealt out anew; or of pairs, with signs, which are turned.
    :return: by metric; NaN for a metric that does not vary, and where a set has fewer than two runs.
    """
    p = np.full(len(ranks[0]), np.nan)
    values = sum(each.shape[1] for each in ranks)
    if varies.any() and min(each.shape[1] for each in ranks) > 1:
        p[varies] = stats.permutation_test(
            tuple(each[varies] for each in ranks),
            lambda ranks, *_, axis: ranks.sum(axis=axis),
            permutation_type="samples" if len(ranks) == 1 else "independent",
            vectorized=True,
            n_resamples=resamples(values),
            batch=_batch(values),
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


def _intervals(before: _Values, after: _Values, of: Middle, *, paired: bool) -> pd.DataFrame:
    """Return bootstrap intervals of the medians' (or means') difference and ratio, by percentiles.

    By percentiles and not BCa: its acceleration comes from the jackknife, which is not consistent for a
    median. Where the runs of neither set vary there is nothing to resample, hence no interval. Of pairs,
    both values are drawn together.

    :return: difference_low, difference_high, ratio_low, ratio_high by metric; NaN where not defined: if a
        median of resampled base runs is 0, the ratio has no upper bound.
    """
    bounds = pd.DataFrame(
        np.nan,
        range(len(before)),
        [f"{statistic}_{end}" for statistic in ("difference", "ratio") for end in ("low", "high")],
    )
    if min(before.shape[1], after.shape[1]) < 2:
        return bounds
    middle = _MIDDLES[of]

    def statistics(first: _Values, second: _Values, axis: int) -> _Values:
        base, candidate = middle(first, axis=axis), middle(second, axis=axis)
        return np.stack([candidate - base, candidate / base])

    vary = np.flatnonzero(_vary(before) | _vary(after))
    values = before.shape[1] + after.shape[1]
    if len(vary):
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            low, high = stats.bootstrap(
                (before[vary], after[vary]),
                statistics,
                vectorized=True,
                paired=paired,
                n_resamples=resamples(values),
                batch=_batch(values),
                axis=1,
                method="percentile",
                rng=SEED,
            ).confidence_interval
        for name, *ends in zip(("difference", "ratio"), low, high, strict=True):
            bounds.loc[vary, [f"{name}_low", f"{name}_high"]] = np.column_stack(ends)
    bounds.loc[np.flatnonzero(middle(before, axis=1) == 0), ["ratio_low", "ratio_high"]] = np.nan
    return bounds.where(np.isfinite(bounds))
