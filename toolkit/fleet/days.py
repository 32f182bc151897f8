# SPDX-License-Identifier: GPL-2.0-only
"""Follow the silences from day to day, with hosts as the unit."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from toolkit.compare.statistics import SEED
from toolkit.fleet.hosts import per_host

RESAMPLES = 999
"""Of the bootstrap of each day, fewer if there are very many hosts: no verdict rests on its interval."""

_DRAWN = 2_000_000

FEWEST_DAYS = 3
"""A host says something about a trend if there are traces of so many of its days."""


class Trend(NamedTuple):
    """What the hosts say of a trend: how many have traces of FEWEST_DAYS and more days; on how many the
    silence grows from day to day, on how many it shrinks; p that both are chance, NaN if nothing is known."""

    hosts: int
    rising: int
    falling: int
    p: float


def by_day(traces: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each day with traces of known hosts, in order.

    :return: `day`; `hosts`, `traces`, traced_ns; `silent`, how many hosts had a silence; silence_ns_per_h,
        the mean of the hosts, and its 95 % interval: `low` and `high`, by the bootstrap of hosts, null for
        one host.
    """
    daily = _daily(traces)
    rows = []
    for day, hosts in daily.groupby("day"):
        values = hosts["silence_ns_per_h"].to_numpy("float64")
        low, high = _interval(values)
        about = (day, len(hosts), int(hosts["traces"].sum()), int(hosts["traced_ns"].sum()))
        rows.append((*about, int((values > 0).sum()), values.mean(), low, high))
    names = ["day", "hosts", "traces", "traced_ns", "silent", "silence_ns_per_h", "low", "high"]
    # Without rows, a column has no type.
    return pd.DataFrame(rows, columns=names).astype({"day": "datetime64[s]", "silence_ns_per_h": "float64"})


def trend(traces: pd.DataFrame) -> Trend:
    """Tell whether the silences grow or shrink from day to day.

    Days are no independent observations, since the same hosts make each of them. So each host gives one
    number, Spearman's rank correlation of its days with its silence; and a host without a tendency has either
    sign with the same chance (sign test).
    """
    daily = _daily(traces)
    daily = daily[daily.groupby("host")["day"].transform("size") >= FEWEST_DAYS]
    ranks = daily.groupby("host")[["day", "silence_ns_per_h"]].rank()
    centred = ranks - ranks.groupby(daily["host"]).transform("mean")
    signs = np.sign((centred["day"] * centred["silence_ns_per_h"]).groupby(daily["host"]).sum().round(9))
    rising, falling = int((signs > 0).sum()), int((signs < 0).sum())
    p = stats.binomtest(rising, rising + falling).pvalue if rising + falling else np.nan
    return Trend(len(signs), rising, falling, float(p))


def _daily(traces: pd.DataFrame) -> pd.DataFrame:
    """Return for each known host and each of its days the columns of `per_host`."""
    return per_host(traces[traces["day"].notna()], "day").reset_index()


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the mean, by the bootstrap."""
    if len(values) < 2:
        return np.nan, np.nan
    chance = np.random.default_rng(SEED)
    resamples = int(np.clip(_DRAWN // len(values), 199, RESAMPLES))
    means = [values[chance.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
