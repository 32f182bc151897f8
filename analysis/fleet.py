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
# # Many traces: which machines stalled, when, and why?
#
# You have a directory of traces, from as many machines or days, and one question: is there a receive stall
# for lack of buffers in any of them? `toolkit analyze TRACE TRACE… --notebook FILE` runs this notebook on
# yours.

# %% tags=["parameters"]
TRACES = ["../tests/data"]

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import toolkit
from toolkit.errors import UserError
from toolkit.report import drawing
from toolkit.report.analyze import timeline
from toolkit.runs import TraceSet

# %matplotlib inline
plt.rcParams.update(drawing.STYLE | {"figure.dpi": 80})
pd.set_option("display.max_colwidth", 80)

# %% [markdown]
# ## What is there
#
# Opening a trace reads only its beginning. What is no trace, or of a newer toolkit, is said and left out.

# %%
opened = []
for place in map(Path, TRACES):
    for path in sorted(place.rglob("*.rxt")) if place.is_dir() else [place]:
        try:
            opened.append(toolkit.read(path))
        except UserError as error:
            print(error)
traces = TraceSet(opened)
top = os.path.commonpath([trace.path.resolve().parent for trace in traces])
label = {
    str(trace.path): str(trace.path.resolve().relative_to(top).with_suffix("")).removesuffix("/trace")
    for trace in traces
}
pd.DataFrame(
    [
        (trace.meta["kernel"], driver["name"], driver["variant"], driver["regime"])
        for trace in traces
        for driver in trace.meta["drivers"]
    ],
    columns=["kernel", "driver", "variant", "regime"],
).value_counts().rename("traces").reset_index()

# %% [markdown]
# ## Which can be believed
#
# A trace that was cut off, or that lost events, may lack a stall. One in which nothing was received proves
# nothing either.

# %%
runs = traces.runs
doubtful = runs[
    runs["damage"].notna() | (runs["dropped"] > 0) | ((runs["packets"] == 0) & (runs["refills"] == 0))
]
print(f"{len(doubtful)} of {len(runs)} traces are doubtful.")
doubtful[["trace", "damage", "dropped", "packets"]]

# %% [markdown]
# ## Who stalled
#
# The worst first. `open`: the trace ended before the stall did, which is what a driver looks like that
# does not recover.

# %%
table = runs.assign(
    trace=runs["trace"].map(label),
    share=(runs["stalled_ns"] / runs["duration_ns"] * 100).round(1),
    longest=(runs["longest_ns"] / 1e9).round(3),
).sort_values("longest_ns", ascending=False)
table[["trace", "driver", "variant", "stalls", "open", "longest", "share", "failed"]].rename(
    columns={"longest": "longest [s]", "share": "stalled [% of the trace]"}
)

# %% [markdown]
# ## When
#
# Each stall where it began in its trace, and how long it was. Many marks in one row are a driver that
# stalls again and again; an arrow is a stall that had not ended.

# %%
stalls = traces.stalls
clock = {str(trace.path): trace.meta["clock"]["monotonic_ns"] for trace in traces}
order = {trace: place for place, trace in enumerate(table.sort_values("longest_ns").index)}
place = stalls["trace"].map({trace: order[index] for index, trace in runs["trace"].items()})
since = (stalls["start_ns"] - stalls["trace"].map(clock)) / 1e9

figure, axis = plt.subplots(figsize=(10, 0.9 + 0.28 * len(traces)))
for state, colour in drawing.STATES.items():
    mine = stalls["state"] == state
    if not mine.any():
        continue
    axis.hlines(
        place[mine],
        since[mine],
        since[mine] + stalls.loc[mine, "duration_ns"] / 1e9,
        color=colour,
        linewidth=7,
        label=state,
    )
    axis.plot(since[mine], place[mine], "|", ms=11, color=colour)
still = stalls["open"]
axis.plot(
    since[still] + stalls.loc[still, "duration_ns"] / 1e9,
    place[still],
    ">",
    ms=8,
    color="#333333",
    label="not ended",
)
axis.set_yticks(list(order.values()), [label[runs["trace"][index]] for index in order])
axis.set_xlabel("time since the trace began [s]")
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# The same by the clock on the wall, to hold against other logs:

# %%
wall = {str(trace.path): trace.meta["clock"]["realtime_ns"] for trace in traces}
when = pd.to_datetime(stalls["start_ns"] - stalls["trace"].map(clock) + stalls["trace"].map(wall), utc=True)
stalls.assign(
    trace=stalls["trace"].map(label),
    when=when.dt.strftime("%Y-%m-%d %H:%M:%S"),
    seconds=stalls["duration_ns"] / 1e9,
).nlargest(10, "seconds")[["when", "trace", "device", "name", "state", "seconds", "open"]]

# %% [markdown]
# ## Why
#
# The refill that failed first, and what the time went into. All in seconds.

# %%
causes = (
    stalls.groupby(["driver", "cause"])[["duration_ns", "reclaim_ns", "refill_ns", "waiting_ns"]].sum() / 1e9
)
causes.columns = ["stalled [s]", "reclaim [s]", "refill [s]", "waiting [s]"]
causes.insert(0, "stalls", stalls.groupby(["driver", "cause"]).size())
causes.insert(1, "traces", stalls.groupby(["driver", "cause"])["trace"].nunique())
causes.sort_values("stalled [s]", ascending=False).round(3)

# %% [markdown]
# ## The worst one
#
# From here, the driver's own notebook tells its story: `toolkit analyze TRACE --notebook FILE`.

# %%
worst = traces[int(runs["longest_ns"].argmax())]
print(label[str(worst.path)], "-", worst.verdict)
timeline.draw(worst)
