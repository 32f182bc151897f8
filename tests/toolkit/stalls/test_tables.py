# SPDX-License-Identifier: GPL-2.0-only
"""Tables that a driver declares: of events that last, as requests of a disk, and of pairs, as a link's."""

from typing import Any

import pandas as pd

from tests.conftest import BEGAN, META, MS, S, Trace, event
from toolkit.event import ALL_QUEUES
from toolkit.report.own_tables import own_tables
from toolkit.stalls.analysis import Analysis, analyze, summary
from toolkit.trace.schema import Events

AOE: dict[str, Any] = {
    **META,
    "drivers": [{**META["drivers"][0], "name": "aoe", "module": "aoe", "hooks": []}],
    "devices": [{"ifindex": 3, "name": "eth1", "driver": "aoe", "bus": "virtio3", "queues": []}],
}


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


def carrier(at: float, which: str) -> Events:
    return event(f"carrier_{which}", at, queue=ALL_QUEUES)


def analysis(make_trace: Trace, meta: dict[str, Any], *events: Events) -> Analysis:
    return analyze(make_trace(list(events), meta=meta))


def test_how_long_requests_took(make_trace: Trace) -> None:
    ended = [event("request", at, dur=took * MS) for at, took in ((1, 10), (2, 30), (3, 20))]
    found = analysis(make_trace, AOE, *ended, event("retransmit", 3, dur=S))
    (row,) = found.tables["requests"].to_dict("records")
    assert (row["device"], row["name"], row["count"], row["retransmits"]) == ("eth1", "target-0", 3, 1)
    assert (row["p50_ns"], row["max_ns"]) == (20 * MS, 30 * MS)
    assert 20 * MS < row["p99_ns"] <= 30 * MS
    (told,) = summary(found)["tables"]["requests"]
    assert told["count"] == 3
    (line,) = own_tables(found)
    assert line.startswith("eth1 target-0: 3 requests of 10 ms and more, half of them in 20.0 ms")
    assert "1 frame sent again" in line


def test_frames_sent_again_without_a_request_that_ended(make_trace: Trace) -> None:
    (row,) = analysis(make_trace, AOE, event("retransmit", 3, dur=S)).tables["requests"].to_dict("records")
    assert (row["count"], row["retransmits"]) == (0, 1)
    assert pd.isna(row["p50_ns"])


def test_a_driver_that_says_ready_ends_no_stall(make_trace: Trace) -> None:
    found = analysis(
        make_trace,
        NETBACK,
        event("blocked", 1),
        carrier(3, "off"),
        carrier(4, "on"),
        carrier(5, "off"),
        event("unblocked", 6, posted_after=256),
        carrier(7, "on"),
    )
    (stall,) = found.stalls.to_dict("records")
    assert (stall["state"], stall["duration_ns"], stall["open"]) == ("blocked", 5 * S, False)
    assert ((found.tables["flaps"]["begin_ns"] - BEGAN) / S).tolist() == [3, 5]
    assert ((found.tables["flaps"]["end_ns"] - BEGAN) / S).tolist() == [4, 7]
    assert found.tables["flaps"]["after_ns"].tolist() == [2 * S, 0]
    assert set(found.tables["flaps"]["device"]) == {"vif-guest1"}
    (sentence,) = own_tables(found)
    assert sentence == (
        "xen_netback gave vif-guest1 its link back 1 time in a stall (at 4.0 s), which went on for 2.0 s."
    )
    assert [flap["after_ns"] for flap in summary(found)["tables"]["flaps"]] == [2 * S, 0]


def test_a_link_that_stays_away(make_trace: Trace) -> None:
    found = analysis(make_trace, NETBACK, event("blocked", 1), carrier(3, "off"))
    assert found.tables["flaps"]["end_ns"].isna().all() and found.tables["flaps"]["after_ns"].isna().all()
    assert own_tables(found) == []


def test_a_link_that_returns_where_there_was_no_stall(make_trace: Trace) -> None:
    found = analysis(make_trace, NETBACK, carrier(3, "off"), carrier(4, "on"))
    assert found.tables["flaps"]["after_ns"].tolist() == [0]


def test_no_driver_said_anything(make_trace: Trace) -> None:
    assert analysis(make_trace, NETBACK, event("blocked", 1)).tables["flaps"].empty


def test_a_driver_that_declares_none_has_none(make_trace: Trace) -> None:
    found = analyze(make_trace([event("blocked", 1)]))
    assert found.tables == summary(found)["tables"] == {}
