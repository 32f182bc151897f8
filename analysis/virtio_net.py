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
# # virtio_net: a stall, from its events up
#
# A queue of virtio_net is filled with fresh buffers by its NAPI poll, in softirq, where an allocation must
# not wait. What happens when one fails depends on the kernel:
#
# - **delayed work, NAPI off** (before 6.19): the driver hands over to its refill worker, which may wait. For
#   each queue the worker **turns NAPI off**, refills, and turns it on: while it waits for memory, nobody
#   takes packets, whatever is still posted.
# - **NAPI repoll** (from 6.19 on): there is no worker. The poll says that it used its whole budget, so NAPI
#   polls again at once, and each poll tries a refill that may not wait: an empty queue **spins**.
#
# This notebook shows that in a trace, event by event. `toolkit analyze TRACE --notebook FILE` runs it on
# yours; what is said here in general holds for any, the numbers are those of the trace.

# %% tags=["parameters"]
TRACE = "../tests/data/virtio_net_pressure/trace.rxt"

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
trace.verdict

# %% [markdown]
# ## What was recorded
#
# Hot events, that is polls, interrupts and refills that went well, are added up in the kernel, in windows
# of 10 ms. What is rare is sent one by one.

# %%
events = trace.events
events.groupby("kind", observed=True).agg(
    events=("ts", "size"),
    packets=("packets", "sum"),
    polls=("polls", "sum"),
    refills=("refills", "sum"),
    failed=("failed", "sum"),
)

# %% [markdown]
# Which of the two this kernel does, and which hooks there were to see it with:

# %%
for driver in trace.meta["drivers"]:
    print(f"{driver['name']} on {trace.meta['kernel']}: {driver['regime']}")
pd.DataFrame(
    [(hook["program"], hook["attached"]) for driver in trace.meta["drivers"] for hook in driver["hooks"]],
    columns=["program", "attached"],
)

# %% [markdown]
# ## One refill fails
#
# A refill is not complete when an allocation in it failed. Here are the first of them: in which context,
# what was asked for, and how many buffers it left posted. One page is enough to begin a stall, and the
# ring need not be empty.

# %%
failed = events[(events["kind"] == "refill") & ~events["flags"].str.contains("complete").astype(bool)]
failed.assign(second=(failed["ts"] - began) / 1e9)[
    ["second", "device", "queue", "flags", "gfp_names", "posted_before", "posted_after", "tid"]
].head(10)

# %% [markdown]
# ## What followed it
#
# The rare events around the longest stall, in milliseconds since it began. Read it downwards: the
# allocation fails, the refill is not complete.
#
# - With a worker: it comes (`worker_in`), turns NAPI off (`napi_off`), is in `reclaim` again and again, has
#   refilled (`refill`), and turns NAPI on.
# - With NAPI repoll: the next polls' refills fail likewise, thousands of times a second. The first four in
#   each 10 ms are here, the others are counted in windows. The one that succeeds is in a window, too.

# %%
longest = trace.stalls.nlargest(1, "duration_ns")
start = int(longest["start_ns"].iloc[0]) if len(longest) else began
end = int(longest["end_ns"].iloc[0]) if len(longest) else began
device = longest["device"].iloc[0] if len(longest) else None

rare = events[~events["kind"].isin(["window", "poll", "irq"]) & (events["device"] == device)]
near = rare[rare["ts"].between(start - 5_000_000, end + 5_000_000)]
story = near.assign(
    since_ms=(near["ts"].astype("int64") - start) / 1e6,
    took_ms=near["dur"] / 1e6,
)[["since_ms", "took_ms", "kind", "queue", "flags", "gfp_names", "posted_after", "tid", "cpu"]]
story = story.replace({"queue": {65535: "all"}, "posted_after": {65535: "-"}})
story if len(story) <= 24 else pd.concat([story.head(12), story.tail(12)])

# %% [markdown]
# ## What the ring looked like
#
# Posted buffers, as every window and refill saw them, and the packets that polls took. In a stall with
# NAPI off the line simply stops: nobody looks. How many buffers were left does not matter then, the device
# has used them up soon after. A queue that spins is looked at all the time, and has none.

# %%
queue = longest["queue"].iloc[0] if len(longest) else 0
margin = max((end - start) // 4, 500_000_000)
mine = events[
    (events["device"] == device)
    & (events["queue"] == queue)
    & events["ts"].between(start - margin, end + margin)
]
looks = mine[mine["kind"].isin(POSTED_KINDS) & (mine["posted_after"] != NOT_KNOWN)]
second = (looks["ts"].astype("int64") - start) / 1e9

figure, (upper, lower) = plt.subplots(2, 1, figsize=(10, 4.5), sharex=True)
upper.plot(second, looks["posted_after"], ".", ms=3, color="#333333")
upper.set_ylabel("posted [buffers]")
upper.set_ylim(bottom=0)
upper.set_title(f"{device} queue {queue}, the longest stall shaded")
polls = mine[mine["polls"] > 0]
lower.plot((polls["ts"].astype("int64") - start) / 1e9, polls["packets"], ".", ms=3, color="#0072b2")
lower.set_ylabel("packets\nin each window")
lower.set_xlabel("time since the stall began [s]")
for axis in (upper, lower):
    axis.axvspan(0, (end - start) / 1e9, color="#d55e00", alpha=0.2, linewidth=0)
plt.show()

# %% [markdown]
# ## Where the time went
#
# A refill by a worker waits for memory: direct reclaim is what it does meanwhile. `waiting` is the time in
# which no such refill was running; without a worker that is all of it, and `spinning` says how much of it
# went into polls whose refills failed.

# %%
spent = trace.stalls[["duration_ns", "reclaim_ns", "refill_ns", "waiting_ns", "spin_ns"]] / 1e9
spent.columns = ["duration [s]", "reclaim [s]", "refill, without reclaim [s]", "waiting [s]", "spinning [s]"]
spent.insert(0, "start [s]", (trace.stalls["start_ns"] - began) / 1e9)
spent.join(trace.stalls[["queue", "state", "class", "refills", "failed", "retries", "cause"]]).round(6).head(
    20
)

# %% [markdown]
# ## Not the same: from the failed refill to the next good one
#
# It is tempting to measure a stall from outside: a failed refill begins it, a good one ends it. But where
# there is a worker, an atomic refill may succeed long before it returns, and a worker that holds NAPI off
# refills without one poll. The states of the queue say when it could receive.

# %%
states = trace.states.assign(
    start=(trace.states["start_ns"] - began) / 1e9,
    seconds=(trace.states["end_ns"] - trace.states["start_ns"]) / 1e9,
)
states[["device", "name", "state", "start", "seconds", "open"]].head(20)

# %% [markdown]
# ## The whole trace, and who else saw it
#
# The strip at the bottom is an independent witness: the sender outside the machine counts frames that the
# NIC refused. It is there if a `witness.json` lies beside the trace.

# %%
timeline.draw(trace)

# %%
print(trace.agreement["sentence"] if trace.agreement else "There is no witness.")
trace.ledger.groupby("kind")[["attempted", "delivered", "dropped"]].sum().query("attempted > 0")
