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
# # xen_netback: a queue that is stopped with a ring full of slots
#
# netback is the other side of a Xen guest's NIC. The guest posts slots in a ring that both share, and
# netback fills them with packets. A packet that finds too few waits in a queue of netback's own, and when
# that is full, the device queue in front of it is stopped.
#
# Before "xen-netback: improve guest-receive-side flow control" (ca2f09f2, 2013), and in the variant
# `unfixed`, a **prediction** stopped it: how many slots the packets so far would take. Nothing ever
# corrected that, so one that was too high stayed too high. In the end every slot is free, no packet is under
# way, and the queue is stopped with nothing left that could start it again.
#
# `toolkit analyze TRACE --notebook FILE` runs this notebook on your trace.

# %% tags=["parameters"]
TRACE = "../tests/data/xen_netback/unfixed/trace.rxt"

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import toolkit
from toolkit.report import drawing
from toolkit.report.analyze import timeline

# %matplotlib inline
plt.rcParams.update(drawing.STYLE | {"figure.dpi": 80})
pd.set_option("display.max_colwidth", 80)

trace = toolkit.read(TRACE)
began = trace.meta["clock"]["monotonic_ns"]
trace.verdict

# %% [markdown]
# ## Which netback is it?
#
# The regime says what starts a stopped queue again. *woken by room in the queue*: each packet that is taken
# out of netback's own queue. *woken by a prediction of slots*: the ring, if the prediction says that the
# largest packet would fit.

# %%
for driver in trace.meta["drivers"]:
    print(f"{driver['name']} {driver['variant']} on {trace.meta['kernel']}: {driver['regime']}")

# %% [markdown]
# ## Blocked, again and again
#
# A queue is *blocked* while the packet at its head needs more slots than are free, or while the device queue
# is stopped. Both happen all the time and end by themselves; that is flow control, and the `class` of a stall
# below 10 ms is brief. `posted` says how many slots were free when it began.

# %%
stalls = trace.stalls
blocked = stalls.assign(
    second=(stalls["start_ns"].astype("int64") - began) / 1e9, ms=stalls["duration_ns"] / 1e6
)[["device", "name", "second", "ms", "open", "class", "posted", "cause"]].round(3)
blocked if len(blocked) <= 16 else pd.concat([blocked.head(8), blocked.tail(8)])

# %% [markdown]
# ## The prediction runs away
#
# An estimate that is right blocks a queue with fewer free slots than the largest packet takes, and that is
# 19. Each mark is one time that it was blocked: the higher, the further the prediction is from the truth. At
# 256 the guest has posted all that it can, and it will never be enough.

# %%
known = blocked[blocked["posted"].notna()]
figure, axis = plt.subplots(figsize=(10, 3))
over = known[~known["open"]]
axis.plot(over["second"], over["posted"].astype(float), "o", color="#0072b2", label="it ended")
for_ever = known[known["open"]]
axis.plot(
    for_ever["second"], for_ever["posted"].astype(float), "X", ms=10, color="#d55e00", label="it did not"
)
axis.axhline(19, color="#333333", linestyle="--", linewidth=1, label="room for the largest packet")
axis.set_ylim(0, 270)
axis.set_xlabel("time since the trace began [s]")
axis.set_ylabel("free slots when\nit was blocked")
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## The last packets
#
# The events around the beginning of the longest stall, in milliseconds since then. Read it downwards. A
# `window` holds rounds of netback's thread (`polls`), the packets that they handed over, and the frontend's
# interrupts. `blocked` is said again when slots came and did not help: `posted_after` goes back up to 256,
# for the guest has posted all of them again, and the queue stays `stopped`.

# %%
events = trace.events
longest = stalls.nlargest(1, "duration_ns")
start = int(longest["start_ns"].iloc[0]) if len(longest) else began
end = int(longest["end_ns"].iloc[0]) if len(longest) else began
device = longest["device"].iloc[0] if len(longest) else None

mine = events[
    (events["device"] == device) & (events["queue"] == (longest["queue"].iloc[0] if len(longest) else 0))
]
near = mine[mine["ts"].between(start - 12_000_000, start + 50_000_000)]
near.assign(since_ms=(near["ts"].astype("int64") - start) / 1e6)[
    ["since_ms", "kind", "flags", "posted_before", "posted_after", "packets", "polls", "irqs"]
].tail(12)

# %% [markdown]
# ## What the ring looked like
#
# Free slots and packets, a second before the longest stall and a second after its beginning. If the marks end
# with the ring full, then there was nothing left to wait for.

# %%
looks = mine[mine["ts"].between(start - 1_000_000_000, start + 1_000_000_000)]
second = (looks["ts"].astype("int64") - start) / 1e9
seen = looks["posted_after"] != 65535
figure, (upper, lower) = plt.subplots(2, 1, figsize=(10, 4.5), sharex=True)
upper.plot(second[seen], looks["posted_after"][seen], ".", ms=4, color="#333333")
upper.set_ylabel("free slots")
upper.set_ylim(-10, 270)
handed = looks["polls"] > 0
lower.plot(second[handed], looks["packets"][handed], ".", ms=4, color="#0072b2")
lower.set_ylabel("packets\nin each window")
lower.set_xlabel("time since the stall began [s]")
for axis in (upper, lower):
    axis.axvspan(0, min((end - start) / 1e9, 1), color="#d55e00", alpha=0.2, linewidth=0)
    axis.set_xlim(-1, 1)
plt.show()

# %%
timeline.draw(trace)

# %%
print(trace.agreement["sentence"] if trace.agreement else "There is no witness.")

# %% [markdown]
# ## What netback says of it
#
# netback has a detector of its own. Where packets wait for slots for longer than `rx_stall_timeout_msecs`
# (60 s), it logs "Guest Rx stalled" and takes the link away; when there are as many slots as are needed, it
# logs "Guest Rx ready" and gives it back. In the trace those are flaps. Where the queue is stopped with no
# packet in netback, nothing waits for slots, and the detector is silent.

# %%
flaps = trace.tables["flaps"]
print(f"How often netback took the link of this guest away: {len(flaps)}")

# %% [markdown]
# ## "Ready" is no recovery
#
# The same detector and a guest that does not run at all: it was paused for 40 s. Packets that wait for
# longer than `rx_drain_timeout_msecs` are thrown away. Then none is left, the slots that are needed are none,
# as many are free, and netback says "ready" of a guest that is as deaf as before. The next packet begins it
# anew. So a flap neither begins nor ends a stall here, and `deaf` says for how long the stall went on after
# the link had come back. (This is of a second recording, with shorter timeouts of 15 s and 5 s. Where it
# is not at hand, it is of the trace above.)

# %%
PAUSED = Path("../tests/data/xen_netback/paused/trace.rxt")
other = toolkit.read(PAUSED) if PAUSED.exists() else trace
zero = other.meta["clock"]["monotonic_ns"]
flaps = other.tables["flaps"]
print(other.verdict)
pd.DataFrame(
    {
        "stalled [s]": (flaps["begin_ns"].astype(float) - zero) / 1e9,
        "ready [s]": (flaps["end_ns"].astype(float) - zero) / 1e9,
        "deaf after that [s]": flaps["after_ns"].astype(float) / 1e9,
    }
).round(3)

# %%
figure, axis = plt.subplots(figsize=(10, 2.2))
for stall in other.stalls.itertuples():
    axis.broken_barh([((stall.start_ns - zero) / 1e9, stall.duration_ns / 1e9)], (2, 0.8), color="#d55e00")
for gap in (other.agreement or {}).get("gaps", []):
    axis.broken_barh([((gap["start_ns"] - zero) / 1e9, gap["duration_ns"] / 1e9)], (1, 0.8), color="#333333")
for flap in flaps.itertuples():
    back = other.analysis.scan.ended if pd.isna(flap.end_ns) else flap.end_ns
    span = (flap.begin_ns - zero) / 1e9, (back - flap.begin_ns) / 1e9
    axis.broken_barh([span], (0, 0.8), color="#0072b2")
axis.set_yticks(
    [0.4, 1.4, 2.4], ["netback says\n“stalled”", "no answer\nto echo requests", "blocked,\nby its events"]
)
axis.set_ylim(0, 3)
axis.set_xlim(0, (int(other.analysis.scan.ended) - zero) / 1e9)
axis.set_xlabel("time since the trace began [s]")
plt.show()

# %%
trace.ledger.groupby("kind")[["attempted", "delivered", "dropped"]].sum().query("attempted > 0")
