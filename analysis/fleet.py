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
# You have traces of many machines or days, and one question: is a queue silent in any of them?
# `toolkit fleet` answers it on a page; here are its numbers as frames, to ask further.
#
# Name traces and directories of traces in `TRACES`: they are analyzed here, one after the other.
# `toolkit analyze TRACE TRACE… --notebook FILE` runs this notebook on yours. Of thousands, make a dataset
# first (`toolkit fleet traces/ -o DIR`), and name it in `DATASET`.

# %% tags=["parameters"]
TRACES = ["../tests/data"]

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import toolkit
from toolkit.fleet import dataset, days, findings, frames, hosts, rows
from toolkit.report import drawing
from toolkit.report.analyze import timeline
from toolkit.report.causes import general_sentence

DATASET = None

# %matplotlib inline
plt.rcParams.update(drawing.STYLE | {"figure.dpi": 80})
pd.set_option("display.max_colwidth", 80)

# %% [markdown]
# ## The dataset
#
# Four tables: `traces`, `stalls`, `silences`, `queues`; docs/fleet.md has their columns. What is no trace,
# or of a newer toolkit, has a row with the reason.

# %%
if DATASET:
    tables = {name: dataset.table(DATASET, name) for name in dataset.SCHEMAS}
else:
    tables = rows.of_paths(map(Path, TRACES))
fleet = frames.frames(tables)
traces = frames.by_place(fleet.traces)
top = os.path.commonpath([Path(place).parent for place in traces["place"]])
label = {
    place: str(Path(place).relative_to(top).with_suffix("")).removesuffix("/trace")
    for place in traces["place"]
}
fleet.traces[["kernel", "driver", "build", "regime"]].value_counts(dropna=False).rename(
    "traces"
).reset_index()

# %% [markdown]
# ## Which can be believed
#
# A trace that was cut off, or that lost events, may lack a stall. One in which nothing was received proves
# nothing either.

# %%
quiet = (traces["packets"] == 0) & (traces["refills"] == 0)
doubtful = traces[(traces["status"] != "whole") | (traces["dropped"] > 0) | quiet]
print(f"{len(doubtful)} of {len(traces)} traces are doubtful.")
doubtful.assign(trace=doubtful["place"].astype("object").map(label))[
    ["trace", "status", "reason", "dropped", "packets"]
]

# %% [markdown]
# ## Who was silent
#
# Stalls, and other silences of 10 ms and longer, for each hour that was traced. `open`: the trace ended
# before the stall did, which is what a driver looks like that does not recover. All traces of which no host
# is known are one row.


# %%
def seconds(found):
    """Return a table with seconds for nanoseconds."""
    times = [name for name in found if "_ns" in name]
    return found.assign(**{name: (found[name].astype("float64") / 1e9).round(3) for name in times}).rename(
        columns={name: f"{name.replace('_ns_per_h', ' [s/h]').replace('_ns', ' [s]')}" for name in times}
    )


seconds(findings.silent(fleet, "host")).head(20)

# %%
seconds(findings.silent(fleet, "build"))

# %% [markdown]
# Hosts that are far beyond the rest (docs/fleet-findings.md has the rule):

# %%
far, rule = hosts.outliers(findings.silent(fleet, "host"))
seconds(far)

# %% [markdown]
# ## The worst traces
#
# Each stall where it began in its trace, and how long it was. Many marks in one row are a driver that stalls
# again and again; an arrow is a stall that had not ended.

# %%
stalls = tables["stalls"].to_pandas()
worst = traces.nlargest(20, "longest_ns")[::-1]
order = {place: number for number, place in enumerate(worst["place"])}
shown = stalls[stalls["place"].isin(order) & (stalls["class"] != "reconfiguration")]
place = shown["place"].map(order)
since = (shown["start_ns"] - shown["place"].map(traces.set_index("place")["began_ns"]).astype("int64")) / 1e9

figure, axis = plt.subplots(figsize=(10, 0.9 + 0.28 * len(worst)))
for state, colour in drawing.STATES.items():
    mine = shown["state"] == state
    if not mine.any():
        continue
    ends = since[mine] + shown.loc[mine, "duration_ns"] / 1e9
    axis.hlines(place[mine], since[mine], ends, color=colour, linewidth=7, label=state)
    axis.plot(since[mine], place[mine], "|", ms=11, color=colour)
still = shown["open"].astype(bool)
axis.plot(
    since[still] + shown.loc[still, "duration_ns"] / 1e9,
    place[still],
    ">",
    ms=8,
    color="#333333",
    label="not ended",
)
axis.set_yticks(list(order.values()), [label[place] for place in order])
axis.set_xlabel("time since the trace began [s]")
axis.set_title("Stalls of the traces with the longest ones")
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# The same by the clock on the wall, to hold against other logs:

# %%
stalls.assign(
    trace=stalls["place"].map(label),
    when=stalls["start_utc"].dt.strftime("%Y-%m-%d %H:%M:%S"),
    seconds=stalls["duration_ns"] / 1e9,
).nlargest(10, "seconds")[["when", "host", "trace", "device", "name", "state", "seconds", "open"]]

# %% [markdown]
# ## In what state, and why
#
# All states, those of stalls and those outside of stalls, and the causes of the stalls.

# %%
seconds(findings.states(fleet))

# %%
causes = findings.why(fleet)
says = [
    general_sentence(row | {"cause_queue": None, "cause_earlier": False}) for row in causes.to_dict("records")
]
seconds(causes.assign(says=says))[["driver", "says", "intervals", "traces", "duration [s]", "longest [s]"]]

# %% [markdown]
# ## Day by day
#
# The mean of the hosts; of traces whose host is not known there is none.

# %%
print(days.trend(fleet.traces))
seconds(days.by_day(fleet.traces))

# %% [markdown]
# ## The worst one
#
# From here, the driver's own notebook tells its story: `toolkit analyze TRACE --notebook FILE`.

# %%
one = worst["place"].iloc[-1]
trace = toolkit.read(one)
print(label[one], "-", trace.verdict)
timeline.draw(trace)
