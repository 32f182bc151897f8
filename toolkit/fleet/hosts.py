# SPDX-License-Identifier: GPL-2.0-only
"""Give each host one value of each metric, however many traces there are of it.

Traces of one host are alike in hardware, load and memory, so they are no independent observations. To count
each would make chance look like certainty (docs/fleet-findings.md); so each host is one.
"""

import numpy as np
import pandas as pd

from toolkit.compare.metrics import Metric
from toolkit.fleet.findings import rate
from toolkit.fleet.frames import by_place

PER_HOUR = "_per_h"
"""The end of a name: the sum over the traces, for each hour that was traced."""

METRICS = (
    Metric("stalled_ns_per_h", "stalled time", "ns/h", "decides"),
    Metric("open_per_h", "stalls that did not end", "1/h", "decides"),
    # A stall that became a spin, or a refill that takes long, is not cured.
    Metric("spin_ns_per_h", "spin time", "ns/h", "guards"),
    Metric("silent_ns_per_h", "silence outside of stalls", "ns/h", "guards"),
    Metric("stalls_per_h", "stalls", "1/h", "informs"),
    Metric("failed_per_h", "failed refills", "1/h", "informs"),
    Metric("longest_ns", "longest stall of a trace", "ns", "informs"),
)
"""The metrics of a host: sums over its traces, by the hours that were traced; less is better."""

FENCE = 3
"""So many times the distance of the quartiles, on a scale of logarithms, an outlier is above the upper one.
That is where Tukey's box plot says "far out": of hosts with a lognormal silence, one in a million."""

REPEATED = 2
"""An outlier is silent in so many traces at least: one bad trace is an event, not a bad host."""

FEWEST = 8
"""With fewer silent hosts, quartiles say too little to call one of them an outlier."""


def per_host(traces: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Return the values of each host whose name is known.

    :param traces: traces that can be trusted.
    :param more: columns that tell apart further, such as "day".
    :return: by host (and more), sorted: `traces`, traced_ns, silence_ns_per_h, which is stalled and silent
        time for each hour that was traced, and each of METRICS; of longest_ns the mean over the traces. Of
        METRICS, a value is null if one of the host's traces does not know it.
    """
    known = by_place(traces[traces["host"].notna() & (traces["duration_ns"] > 0)])
    known = known.assign(host=known["host"].astype("str"))
    groups = known.groupby(["host", *more] if more else "host", observed=True)
    found = pd.DataFrame({"traces": groups.size(), "traced_ns": groups["duration_ns"].sum()})
    found["silence_ns_per_h"] = rate(groups["silence_ns"].sum(), found["traced_ns"])
    for metric in METRICS:
        values = groups[metric.name.removesuffix(PER_HOUR)]
        amount = values.mean() if metric.unit == "ns" else rate(values.sum(), found["traced_ns"])
        # What one trace does not know is not known of the host: zero would be a claim.
        found[metric.name] = amount.astype("Float64").where(values.count() == found["traces"])
    return found


def outliers(silent: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find hosts that are silent far beyond the rest.

    The fence is set on a scale of logarithms, since lengths of silences are spread over powers of ten: three
    times the distance of the quartiles above the upper quartile. It is set by the silent hosts alone: in a
    healthy fleet most hosts are never silent, and then any silence would be far from their zero.

    :param silent: findings.silent by host.
    :return: the rows of the outliers, with `times`, how often the median of the silent hosts fits in; and the
        rule in numbers, one row: `hosts`, how many known hosts were silent, `median`, `upper` quartile and
        `fence` [ns/h], null with fewer than FEWEST silent hosts.
    """
    hosts = silent[silent["host"].notna() & (silent["silence_ns"] > 0)]
    rule = pd.DataFrame({"hosts": [len(hosts)], "median": [np.nan], "upper": [np.nan], "fence": [np.nan]})
    if len(hosts) < FEWEST:
        return hosts.iloc[:0].assign(times=pd.Series(dtype="float64")), rule
    values = hosts["silence_ns_per_h"].astype("float64")
    lower, middle, upper = np.quantile(np.log(values), [0.25, 0.5, 0.75])
    # Where the hosts are all alike, twice as much is not yet far.
    fence = np.exp(upper + max(FENCE * (upper - lower), np.log(2)))
    rule[["median", "upper", "fence"]] = np.exp(middle), np.exp(upper), fence
    found = hosts[(values > fence) & (hosts["silent"] >= REPEATED)]
    return found.assign(times=values[found.index] / np.exp(middle)), rule
