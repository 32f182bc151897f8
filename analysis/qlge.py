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
# # qlge: a ring that nobody wakes
#
# An rx ring of qlge has two queues of buffers: the small ones (sbq) and the large ones (lbq). One NAPI
# poll serves both, and refills both. The device raises an interrupt when it has received a frame. So if
# the large buffers run out and the refill fails, then no large frame is received, no interrupt comes, no
# poll, and **no refill**: the ring stays deaf, even when there is plenty of memory again. A frame that
# fits a small buffer would wake it.
#
# That was so until 2019, and it is so in the variant `unfixed`. Since then a refill worker comes when
# fewer than two buffers are left. `toolkit analyze TRACE --notebook FILE` runs this notebook on your
# trace.

# %% tags=["parameters"]
TRACE = "../tests/data/qlge/unfixed/trace.rxt"

# %%
import matplotlib.pyplot as plt
import pandas as pd

import toolkit
from toolkit.event import NOT_KNOWN, POSTED_KINDS
from toolkit.report import drawing
from toolkit.report.analyze import timeline

# %matplotlib inline
plt.rcParams.update(drawing.STYLE | {"figure.dpi": 80})
pd.set_option("display.max_colwidth", 80)

trace = toolkit.read(TRACE)
began = trace.meta["clock"]["monotonic_ns"]
ended = int(trace.analysis.scan.ended)
trace.verdict

# %% [markdown]
# ## Is there a worker?
#
# The regime says how a failed refill is retried. *workqueue fallback*: by `qlge_slow_refill`. *none*: only
# by the next poll, if one comes.

# %%
for driver in trace.meta["drivers"]:
    print(f"{driver['name']} {driver['variant']} on {trace.meta['kernel']}: {driver['regime']}")
    for hook in driver["hooks"]:
        if not hook["attached"]:
            print(f"    not attached: {hook['program']}, so the trace lacks {hook['missing']}")

# %% [markdown]
# ## The queues
#
# Two a ring. What NAPI does is counted once: a poll that took small buffers only is one of the sbq, every
# other one of the lbq.

# %%
trace.queues[
    ["device", "name", "size", "stalls", "open", "packets", "polls", "refills", "failed", "posted_min"]
]

# %% [markdown]
# ## The ring runs dry
#
# Posted buffers of both queues of the ring that stalled longest. The lbq is the one that memory starves: a
# small frame is copied and its buffer posted again, a large one takes its pages along.

# %%
events = trace.events
longest = trace.stalls.nlargest(1, "duration_ns")
start = int(longest["start_ns"].iloc[0]) if len(longest) else began
end = int(longest["end_ns"].iloc[0]) if len(longest) else began
ring = int(longest["queue"].iloc[0]) // 2 if len(longest) else 0
names = {2 * ring: f"rx-{ring} sbq", 2 * ring + 1: f"rx-{ring} lbq"}

looks = events[events["kind"].isin(POSTED_KINDS) & (events["posted_after"] != NOT_KNOWN)]
before = looks[looks["ts"].between(start - 3_000_000_000, start + 1_000_000_000)]

figure, axis = plt.subplots(figsize=(10, 3))
for number, colour in zip(names, ("#0072b2", "#333333"), strict=True):
    mine = before[before["queue"] == number]
    axis.plot(
        (mine["ts"].astype("int64") - start) / 1e9,
        mine["posted_after"],
        ".",
        ms=3,
        color=colour,
        label=names[number],
    )
failed = before[(before["kind"] == "refill") & (before["queue"] == 2 * ring + 1)]
failed = failed[~failed["flags"].str.contains("complete").astype(bool)]
axis.plot(
    (failed["ts"].astype("int64") - start) / 1e9,
    [-25] * len(failed),
    "x",
    ms=4,
    color="#d55e00",
    label="refill failed",
)
axis.axvspan(0, 1, color="#56b4e9", alpha=0.3, linewidth=0, label="the stall begins")
axis.set_xlabel("time since the stall began [s]")
axis.set_ylabel("posted [buffers]")
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Each cross is a refill that was not complete. As long as a poll follows, the next refill makes up for it.
# The last one leaves nothing.

# %%
last = events[
    (events["queue"] == 2 * ring + 1) & events["ts"].between(start - 20_000_000, start + 20_000_000)
]
last.assign(since_ms=(last["ts"].astype("int64") - start) / 1e6)[
    [
        "since_ms",
        "kind",
        "flags",
        "gfp_names",
        "posted_before",
        "posted_after",
        "packets",
        "polls",
        "failed",
        "irqs",
    ]
].tail(12)

# %% [markdown]
# ## Silence
#
# Interrupts, polls and refills of that ring in each second. Without a worker all three end together, and
# together they stay away. With it the refill comes from process context, with NAPI off, and interrupts
# follow.

# %%
mine = events[events["queue"].isin(names)]
per_second = mine.groupby((mine["ts"].astype("int64") - began) // 1_000_000_000)[
    ["irqs", "polls", "refills", "failed"]
].sum()
per_second = per_second.reindex(range((ended - began) // 1_000_000_000 + 1), fill_value=0)

figure, axes = plt.subplots(4, 1, figsize=(10, 6), sharex=True)
for axis, column, what in zip(
    axes,
    ("irqs", "polls", "refills", "failed"),
    ("interrupts/s", "polls/s", "refills/s", "failed\nrefills/s"),
    strict=True,
):
    axis.stairs(per_second[column], range(len(per_second) + 1), fill=True, color="#333333")
    axis.set_ylabel(what)
    for stall in trace.stalls[trace.stalls["queue"].isin(names)].itertuples():
        axis.axvspan(
            (stall.start_ns - began) / 1e9,
            (stall.end_ns - began) / 1e9,
            color="#56b4e9",
            alpha=0.3,
            linewidth=0,
        )
axes[0].set_title(f"rx ring {ring}, stalls shaded")
axes[-1].set_xlabel("time since the trace began [s]")
plt.show()

# %%
trace.stalls[
    ["name", "state", "duration_ns", "open", "irqs", "polls", "refills", "retries", "reclaim_ns", "cause"]
]

# %% [markdown]
# ## When memory came back
#
# How long did a stall outlast the shortage? `phases.json`, if it lies beside the trace, says when the
# scenario kept memory short. A stall that is open at the end of the trace would have gone on.

# %%
if trace.phases is not None and len(longest):
    short = trace.phases[trace.phases["shortage"]]
    free = int(short["end"].max())
    print(f"memory was short until {(free - began) / 1e9:.1f} s")
    print(
        f"the longest stall began at {(start - began) / 1e9:.1f} s and lasted to {(end - began) / 1e9:.1f} s",
        end="",
    )
    print(", where the trace ends: it had not ended" if longest["open"].iloc[0] else "")
    print(f"after the shortage it went on for {max(end - free, 0) / 1e9:.1f} s")

# %% [markdown]
# ## The whole trace, and who else saw it

# %%
timeline.draw(trace)

# %%
print(trace.agreement["sentence"] if trace.agreement else "There is no witness.")
trace.ledger.groupby("kind")[["attempted", "delivered", "dropped"]].sum().query("attempted > 0")
