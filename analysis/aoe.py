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
# # aoe: nothing may be sent, because all of it was
#
# The aoe driver sends block requests as Ethernet frames. It hands a clone of each skb to the network and
# keeps the skb, because it may have to send it again. Until the network has let the clone go, the skb
# cannot carry another request. So a NIC that is slow to clean up takes the driver's skbs away, and a pool
# (2008) makes up for them, up to 256.
#
# What if the pool is exhausted? `toolkit analyze TRACE --notebook FILE` runs this notebook on your trace.

# %% tags=["parameters"]
TRACE = "../tests/data/aoe/stock/trace.rxt"

# %%
import matplotlib.pyplot as plt
import pandas as pd

import toolkit
from toolkit.event import NOT_KNOWN, POSTED_KINDS
from toolkit.report import drawing
from toolkit.report.analyze import timeline

# %matplotlib inline
plt.rcParams.update(drawing.STYLE | {"figure.dpi": 80})
pd.set_option("display.max_colwidth", 100)

trace = toolkit.read(TRACE)
began = trace.meta["clock"]["monotonic_ns"]
ended = int(trace.analysis.scan.ended)
trace.verdict

# %% [markdown]
# ## Looking for a frame
#
# A poll is a look for a frame, a packet is a frame that was sent for the first time. That the target's window
# was full (`full_polls`) is flow control, as in TCP: a response opens it. `refills` counts the targets that
# were asked, `fallbacks` the skbs that the pool gave, and `failed` is what this notebook is about.

# %%
trace.queues[
    ["device", "name", "polls", "full_polls", "packets", "irqs", "refills", "fallbacks", "failed", "stalls"]
]

# %% [markdown]
# ## The pool
#
# Skbs in the pool, and frames sent in each tenth of a second. The pool grows when a frame's own skb and the
# pool's first one are both held, and it never shrinks.

# %%
events = trace.events
ts = events["ts"].astype("int64")
looks = events[events["kind"].isin(POSTED_KINDS) & (events["posted_after"] != NOT_KNOWN)]
sent = events.groupby((ts - began) // 100_000_000)["packets"].sum()
sent = sent.reindex(range((ended - began) // 100_000_000 + 1), fill_value=0)

figure, axes = plt.subplots(2, 1, figsize=(10, 4.5), sharex=True)
axes[0].step(
    (looks["ts"].astype("int64") - began) / 1e9, looks["posted_after"], where="post", color="#333333"
)
axes[0].set_ylabel("pool [skbs]")
axes[1].stairs(sent * 10, [tenth / 10 for tenth in range(len(sent) + 1)], fill=True, color="#333333")
axes[1].set_ylabel("frames sent/s")
axes[1].set_xlabel("time since the trace began [s]")
for axis in axes:
    for stall in trace.stalls.itertuples():
        axis.axvspan(
            (stall.start_ns - began) / 1e9,
            (stall.end_ns - began) / 1e9,
            color="#e69f00",
            alpha=0.3,
            linewidth=0,
        )
axes[0].set_title("blocked intervals shaded")
plt.show()

# %% [markdown]
# ## The last look
#
# The events around the beginning of the longest stall. `held`: neither the frame's own skb nor the pool's
# first is free. `some_free`: others are, but the driver does not look at those. `kick`: no frame is out, so
# there will be no response; the driver has noted that its timer is to look again.

# %%
longest = trace.stalls.nlargest(1, "duration_ns")
start = int(longest["start_ns"].iloc[0]) if len(longest) else began
end = int(longest["end_ns"].iloc[0]) if len(longest) else began
near = events[ts.between(start - 30_000_000, start + 250_000_000)]
near.assign(since_ms=(near["ts"].astype("int64") - start) / 1e6)[
    ["since_ms", "kind", "flags", "posted_after", "polls", "packets", "refills", "failed", "irqs"]
].head(20)

# %% [markdown]
# ## Who looks again?
#
# While the target is blocked the driver's timer goes on, ten times a second, and each time this trace notes
# whether an skb was free. If one was, and the stall went on, then the network is not to blame any more.

# %%
ticks = events[(events["kind"] == "timer") & ts.between(start, end)]
free = ticks[~ticks["flags"].str.contains("held").astype(bool)]
inside = events[ts.between(start + 1, end)]
print(f"the longest stall: {(end - start) / 1e9:.1f} s{', open' * bool(longest['open'].any())}")
print(f"the timer ran {len(ticks)} times, {ticks['flags'].str.contains('kick').sum()} of them with a kick")
if len(free):
    first = int(free["ts"].astype("int64").iloc[0])
    print(f"an skb was free again after {(first - start) / 1e9:.1f} s, at {len(free)} of those times")
    print(f"looks for a frame after that: {inside.loc[ts > first, 'polls'].sum()}")

# %%
trace.stalls[["name", "state", "duration_ns", "open", "posted", "polls", "refills", "cause"]]

# %% [markdown]
# ## Before, meanwhile, and after
#
# Frames sent in each phase of the scenario, if `phases.json` lies beside the trace, and for how many of the
# frames that were asked for the pool gave the skb.

# %%
flowing = events[(events["kind"] == "window") & (events["packets"] >= 30)]
if len(flowing):
    first = int(flowing["ts"].astype("int64").iloc[0])
    print(f"I/O began at {(first - began) / 1e9:.1f} s", end="")
    print(f", the longest stall {(start - first) / 1e9:.1f} s later" if len(longest) else "")
if trace.phases is not None:
    for phase in trace.phases.itertuples():
        mine = events[ts.between(phase.start, phase.end)]
        rate = mine["packets"].sum() / ((phase.end - phase.start) / 1e9 or 1)
        share = mine["fallbacks"].sum() / max(mine["refills"].sum(), 1)
        print(f"{phase.name}: {rate:,.0f} frames/s, {share:.0%} from the pool")

# %% [markdown]
# ## How long requests took
#
# With `--detail full` all of them, else those of 10 ms and more. What never ended is not among them.

# %%
requests = events[events["kind"] == "request"]
if len(requests):
    took = requests["dur"].astype("int64").sort_values() / 1e6
    figure, axis = plt.subplots(figsize=(7.5, 3))
    axis.step(took, [1 - place / len(took) for place in range(len(took))], where="post", color="#333333")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("time that a request took [ms]")
    axis.set_ylabel("share that took longer")
    plt.show()

# %% [markdown]
# ## The whole trace, and who else saw it

# %%
timeline.draw(trace)

# %%
print(trace.agreement["sentence"] if trace.agreement else "There is no witness.")
trace.ledger.groupby("kind")[["attempted", "delivered", "dropped"]].sum().query("attempted > 0")
