# SPDX-License-Identifier: GPL-2.0-only
"""A driver that has a disk: why its target was blocked, and how long requests took."""

from typing import Any

import pandas as pd
import pytest

from tests.conftest import META, MS, S, Trace, event
from toolkit.report import text
from toolkit.stalls.analysis import Analysis, analyze, summary
from toolkit.trace.schema import Events

AOE: dict[str, Any] = {
    **META,
    "drivers": [{**META["drivers"][0], "name": "aoe", "module": "aoe", "hooks": []}],
    "devices": [{"ifindex": 3, "name": "eth1", "driver": "aoe", "bus": "virtio3", "queues": []}],
}


def posted(kind: str, at: float, skbs: int, flags: str = "") -> Events:
    return event(kind, at, posted_before=skbs, posted_after=skbs, flags=flags)


def analysis(make_trace: Trace, *events: Events) -> Analysis:
    return analyze(make_trace(list(events), meta=AOE))


@pytest.mark.parametrize(
    ("skbs", "flags", "cause"),
    [
        (256, "held", "the network held all 256 skbs of the pool"),
        (256, "held|some_free", "the network held the first skb of the pool's 256, though others were free"),
        (0, "held", "the network held every skb"),
    ],
)
def test_why_there_was_no_frame(make_trace: Trace, skbs: int, flags: str, cause: str) -> None:
    found = analysis(
        make_trace,
        posted("blocked", 2, skbs, flags),
        posted("timer", 2.1, skbs, f"{flags}|kick"),
        posted("timer", 2.2, skbs, flags),
        event("unblocked", 4),
    )
    (stall,) = found.stalls.to_dict("records")
    assert (stall["name"], stall["state"], stall["duration_ns"]) == ("target-0", "blocked", 2 * S)
    assert (stall["cause"], stall["posted"]) == (cause, skbs)


def test_skbs_that_were_free_again_and_nobody_looked(make_trace: Trace) -> None:
    found = analysis(
        make_trace,
        posted("blocked", 2, 256, "held"),
        posted("timer", 3, 256, "held"),
        posted("timer", 4.5, 256),
        posted("timer", 5, 256),
    )
    (stall,) = found.stalls.to_dict("records")
    assert stall["open"]
    assert stall["cause"] == "the network held all 256 skbs of the pool; 2.5 s later one was free"


def test_skbs_that_are_free_after_the_stall_were_not_in_it(make_trace: Trace) -> None:
    found = analysis(
        make_trace,
        posted("blocked", 2, 256, "held"),
        event("unblocked", 3),
        posted("blocked", 4, 256, "held"),
        posted("timer", 5, 256),
    )
    assert [cause.partition("; ")[2] for cause in found.stalls["cause"]] == ["", "1.0 s later one was free"]


def test_how_long_requests_took(make_trace: Trace) -> None:
    ended = [event("request", at, dur=took * MS) for at, took in ((1, 10), (2, 30), (3, 20))]
    found = analysis(make_trace, *ended, event("retransmit", 3, dur=S))
    (row,) = found.requests.to_dict("records")
    assert (row["device"], row["name"], row["requests"], row["retransmits"]) == ("eth1", "target-0", 3, 1)
    assert (row["p50_ns"], row["max_ns"]) == (20 * MS, 30 * MS)
    assert 20 * MS < row["p99_ns"] <= 30 * MS
    (told,) = summary(found)["requests"]
    assert told["requests"] == 3
    (line,) = (line for line in text.remarks(found, None) if "requests" in line)
    assert line.startswith("eth1 target-0: 3 requests of 10 ms and more, half of them in 20.0 ms")
    assert "1 frame sent again" in line


def test_frames_sent_again_without_a_request_that_ended(make_trace: Trace) -> None:
    (row,) = analysis(make_trace, event("retransmit", 3, dur=S)).requests.to_dict("records")
    assert (row["requests"], row["retransmits"]) == (0, 1)
    assert pd.isna(row["p50_ns"])


def test_a_driver_without_a_disk_has_none(make_trace: Trace) -> None:
    found = analyze(make_trace([event("blocked", 1)]))
    assert found.requests.empty
    assert summary(found)["requests"] == []
