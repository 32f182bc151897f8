# SPDX-License-Identifier: GPL-2.0-only
from typing import Any

import pandas as pd

from tests.conftest import BEGAN, META, S, Trace, event
from toolkit.event import ALL_QUEUES
from toolkit.report import text
from toolkit.stalls.analysis import Analysis, analyze, summary
from toolkit.trace.schema import Events

NETBACK: dict[str, Any] = {
    **META,
    "drivers": [{**META["drivers"][0], "name": "xen_netback", "module": "xen_netback", "hooks": []}],
    "devices": [
        {
            "ifindex": 3,
            "name": "vif-guest1",
            "driver": "xen_netback",
            "bus": "vif-1-0",
            "queues": [{"queue": 0, "name": "rx-0", "size": None}],
        }
    ],
}


def blocked(at: float, posted: int, **members: Any) -> Events:
    return event("blocked", at, posted_before=posted, posted_after=posted, **members)


def carrier(at: float, which: str) -> Events:
    return event(f"carrier_{which}", at, queue=ALL_QUEUES)


def analysis(make_trace: Trace, *events: Events) -> Analysis:
    return analyze(make_trace(list(events), meta=NETBACK))


def test_a_driver_that_says_ready_ends_no_stall(make_trace: Trace) -> None:
    found = analysis(
        make_trace,
        blocked(1, 0),
        carrier(3, "off"),
        carrier(4, "on"),
        carrier(5, "off"),
        event("unblocked", 6, posted_after=256),
        carrier(7, "on"),
    )
    (stall,) = found.stalls.to_dict("records")
    assert (stall["state"], stall["duration_ns"], stall["open"]) == ("blocked", 5 * S, False)
    assert ((found.flaps["off_ns"] - BEGAN) / S).tolist() == [3, 5]
    assert ((found.flaps["on_ns"] - BEGAN) / S).tolist() == [4, 7]
    assert found.flaps["deaf_ns"].tolist() == [2 * S, 0]
    assert set(found.flaps["device"]) == {"vif-guest1"}
    (sentence,) = text._flaps(found)
    assert sentence == (
        "xen_netback gave vif-guest1 its link back 1 time in a stall (at 4.0 s), which went on for 2.0 s."
    )
    assert [flap["deaf_ns"] for flap in summary(found)["flaps"]] == [2 * S, 0]


def test_a_link_that_stays_away(make_trace: Trace) -> None:
    found = analysis(make_trace, blocked(1, 0), carrier(3, "off"))
    assert found.flaps["on_ns"].isna().all() and found.flaps["deaf_ns"].isna().all()
    assert text._flaps(found) == []


def test_a_link_that_returns_where_there_was_no_stall(make_trace: Trace) -> None:
    found = analysis(make_trace, carrier(3, "off"), carrier(4, "on"))
    assert found.flaps["deaf_ns"].tolist() == [0]


def test_no_driver_said_anything(make_trace: Trace) -> None:
    assert analysis(make_trace, blocked(1, 0)).flaps.empty


def test_the_cause_is_how_many_slots_were_free(make_trace: Trace) -> None:
    found = analysis(
        make_trace,
        blocked(1, 0),
        blocked(1.999, 256),
        event("unblocked", 2, posted_after=256),
        blocked(2.1, 5, flags="stopped"),
        event("unblocked", 2.105, posted_after=256),
        blocked(3, 17, flags="stopped"),
        blocked(3.1, 90, flags="stopped"),
        blocked(3.2, 254, flags="stopped"),
    )
    assert found.stalls["cause"].tolist() == [
        "waiting for ring slots with 0 free",
        "queue stopped with 5 free",
        "queue stopped with 17 free, and still with 254",
    ]
    assert found.stalls["posted"].tolist() == [0, 5, 17]
    assert found.stalls["open"].tolist() == [False, False, True]


def test_a_failed_refill_is_still_the_cause_of_other_stalls(make_trace: Trace) -> None:
    found = analyze(make_trace([event("refill", 1, gfp=0xA20, refills=1, failed=1, posted_after=0)]))
    assert found.stalls["cause"].tolist() == ["softirq refill failed (GFP_ATOMIC)"]
    assert pd.api.types.is_integer_dtype(found.stalls["posted"])
