# ---
# jupyter:
#   # SPDX-License-Identifier: GPL-2.0-only
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Comparing two builds of a driver
#
# How long a stall lasts depends on what memory happened to be free: one trace before a patch and one after
# prove nothing. So each build is run several times, in fresh machines, under one scenario, and the two
# **sets** of runs are compared. `toolkit compare BASE CANDIDATE` prints what this notebook arrives at;
# here are the steps. docs/comparison.md has the statistics.

# %% tags=["parameters"]
BASE = "../tests/data/virtio_net_variants/stock"
CANDIDATE = "../tests/data/virtio_net_variants/paced"

# %%
import matplotlib.pyplot as plt
import pandas as pd

import toolkit
from toolkit.compare.comparison import compare
from toolkit.report import drawing
from toolkit.report.analyze import time_spent, timeline
from toolkit.report.compare import distributions
from toolkit.report.comparison import metric_table

# %matplotlib inline
plt.rcParams.update(drawing.STYLE | {"figure.dpi": 80})
pd.set_option("display.max_colwidth", 100)

base, candidate = toolkit.read_set(BASE), toolkit.read_set(CANDIDATE)
found = compare(base.runs, candidate.runs)
print(f"{found.verdict}: {found.sentence}")

# %% [markdown]
# ## Every run
#
# A row for each. Runs that cannot be trusted are set aside, with the reason, before anything is compared.

# %%
runs = found.runs.assign(run=found.runs["trace"].str.split("/").str[-2])
seconds = runs[["stalled_ns", "longest_ns", "spin_ns", "recovery_ns"]] / 1e9
seconds.columns = ["stalled [s]", "longest [s]", "spin [s]", "recovery [s]"]
runs[["set", "variant", "run", "stalls", "open", "failed", "refused", "witness_agrees", "set_aside"]].join(
    seconds
).round(3)

# %% [markdown]
# ## How they differ
#
# Each mark is a run. A set that lies further left stalls less; where the lines cross, more runs would be
# needed to tell.

# %%
distributions.draw(found)

# %% [markdown]
# How much of that is chance? The test is one of ranks, corrected for several metrics; the intervals are of
# the medians.

# %%
metric_table(found)

# %% [markdown]
# ## Why they differ
#
# The verdict says that, not why. What did the time of the stalls go into, in each run?

# %%
parts = ["reclaim_ns", "refill_ns", "waiting_ns"]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True)
for axis, side, traces in zip(axes, (found.base, found.candidate), (base, candidate), strict=True):
    sums = (
        traces.stalls.groupby("trace")[parts]
        .sum()
        .reindex([str(trace.path) for trace in traces], fill_value=0)
        / 1e9
    )
    left = 0
    for part, colour in zip(parts, time_spent.SPENT.values(), strict=True):
        axis.bar(range(len(sums)), sums[part], bottom=left, color=colour, label=part.removesuffix("_ns"))
        left = left + sums[part].to_numpy()
    axis.set_title(side.name)
    axis.set_xlabel("run")
    axis.set_xticks(range(len(sums)), [trace.path.parent.name for trace in traces])
axes[0].set_ylabel("stalled time [s]")
axes[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# And how often did a stall last how long? A fix may turn a few long stalls into many short ones.

# %%
lengths = pd.concat(
    {
        side.name: traces.stalls["duration_ns"]
        for side, traces in ((found.base, base), (found.candidate, candidate))
    }
)
bins = pd.cut(lengths / 1e9, [0, 0.001, 0.01, 0.1, 1, 10, float("inf")])
bins.groupby(level=0).value_counts().unstack(0).sort_index().fillna(0).astype(int).rename_axis("duration [s]")

# %% [markdown]
# ## A typical run of each
#
# That with the median of stalled time.


# %%
def typical(traces):
    order = traces.runs["stalled_ns"].sort_values().index
    return traces[int(order[len(order) // 2])]


middle = typical(base)
timeline.draw(middle)

# %%
middle = typical(candidate)
timeline.draw(middle)
