# SPDX-License-Identifier: GPL-2.0-only
from functools import cache

import pandas as pd
import pytest

from tests.toolkit.fleet.recorded import arrow, copies, recorded
from toolkit.fleet import findings
from toolkit.fleet.frames import Fleet, frames


@cache
def _fleet() -> Fleet:
    """Return two copies of each of three hosts, of which one is not known and one is twice as silent."""
    hosts = ["calm", "worse", None] * 2
    return frames(
        arrow(copies(hosts, only="stock/001", stalls=[1, 2, 1] * 2, silences=[1, 2, 1] * 2, kernel="6.1"))
    )


def test_hosts_are_ranked_by_silence_for_each_traced_hour() -> None:
    found = findings.silent(_fleet(), "host")
    assert found["host"].astype("object").where(found["host"].notna(), None).tolist() == [
        "worse",
        "calm",
        None,
    ]
    calm, worse = found.loc[1], found.loc[0]
    assert worse["silence_ns_per_h"] == pytest.approx(2 * calm["silence_ns_per_h"])
    trace = recorded()["traces"].set_index("place").loc["virtio_net_variants/stock/001/trace.rxt"]
    assert calm["stalled_ns"] == 2 * trace["stalled_ns"]
    assert calm["silence_ns"] == 2 * (trace["stalled_ns"] + trace["silent_ns"])
    share = (trace["stalled_ns"] + trace["silent_ns"]) / trace["duration_ns"]
    assert calm["silence_ns_per_h"] == pytest.approx(share * findings.HOUR_NS)
    assert (calm["traces"], calm["silent"], calm["stalls"]) == (2, 2, 6)
    assert (calm["state"], calm["cause"]) == ("napi-off", "allocation_failed")
    # All hosts that are not known are one row, which counts no host.
    assert found["hosts"].tolist() == [1, 1, 0]
    assert found.loc[2, "state"] == "napi-off"


@pytest.mark.parametrize("group", findings.GROUPS)
def test_each_group_adds_up_to_the_whole(group: str) -> None:
    fleet = frames(arrow(recorded()))
    found = findings.silent(fleet, group)
    assert found["silence_ns"].sum() == fleet.traces["silence_ns"].sum()
    assert not found.duplicated(findings.GROUPS[group]).any()
    if group != "device":
        assert found["traced_ns"].sum() == fleet.traces["duration_ns"].sum()
        assert findings.parts(fleet, group).sum().sum() == fleet.traces["silence_ns"].sum()


def test_what_a_driver_cannot_tell_is_not_zero() -> None:
    found = findings.silent(frames(arrow(recorded())), "driver").set_index("driver")
    assert found["silent_ns"].isna().sum() == 2
    assert found["silent_ns"].notna().sum() == 3


def test_states_and_causes_add_up() -> None:
    fleet = frames(arrow(recorded()))
    states, causes = findings.states(fleet), findings.why(fleet)
    assert states["duration_ns"].sum() == fleet.traces["silence_ns"].sum()
    assert causes["duration_ns"].sum() == fleet.traces["stalled_ns"].sum()
    assert states["duration_ns"].is_monotonic_decreasing
    assert causes["intervals"].sum() == (fleet.intervals["what"] == "stall").sum()
    blocked = causes[causes["cause"] == "stopped"].iloc[0]
    assert blocked["posted"] <= blocked["most"]


def test_why_traces_are_not_whole() -> None:
    rows = recorded()["traces"].head(6)
    rows = rows.assign(status=["whole", "damaged", "damaged", "newer", "whole", "whole"])
    rows["reason"] = pd.Series(
        [
            None,
            f"{rows['place'][1]} is cut off after 12.5 s (3,000 bytes).",
            f"{rows['place'][2]} is cut off after 3 s (17 bytes).",
            "it has a newer format",
            None,
            None,
        ],
        dtype="object",
    )
    # Two drivers, one trace.
    twice = pd.concat([rows, rows.iloc[[0]].assign(driver="b")])
    found = findings.reasons(frames(arrow(recorded() | {"traces": twice})).traces)
    assert found[["status", "traces"]].values.tolist() == [["whole", 3], ["damaged", 2], ["newer", 1]]
    assert found["reason"].iloc[1] == "the trace is cut off after … s (… bytes)."
    assert found["example"].iloc[2] == rows["place"].iloc[3]
