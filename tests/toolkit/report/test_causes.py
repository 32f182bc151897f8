# SPDX-License-Identifier: GPL-2.0-only
"""Why a queue was blocked, in the words of its driver; and why a refill failed."""

from typing import Any

import pandas as pd
import pytest

from tests.conftest import S, Trace, event
from tests.toolkit.stalls.test_tables import AOE, NETBACK
from toolkit.report.causes import general, sentences
from toolkit.stalls.analysis import Analysis, analyze
from toolkit.trace.schema import Events


def posted(kind: str, at: float, skbs: int, flags: str = "") -> Events:
    return event(kind, at, posted_before=skbs, posted_after=skbs, flags=flags)


def blocked(at: float, posted: int, **members: Any) -> Events:
    return event("blocked", at, posted_before=posted, posted_after=posted, **members)


def analysis(make_trace: Trace, meta: dict[str, Any], *events: Events) -> Analysis:
    return analyze(make_trace(list(events), meta=meta))


@pytest.mark.parametrize(
    ("skbs", "flags", "cause", "words"),
    [
        (256, "held", "pool_held", "the network held all 256 skbs of the pool"),
        (
            256,
            "held|some_free",
            "pool_first_held",
            "the network held the first skb of the pool's 256, though others were free",
        ),
        (0, "held", "skbs_held", "the network held every skb"),
        (8, "", "no_frame", "no frame was free, though an skb was"),
    ],
)
def test_why_there_was_no_frame(make_trace: Trace, skbs: int, flags: str, cause: str, words: str) -> None:
    found = analysis(
        make_trace,
        AOE,
        posted("blocked", 2, skbs, flags),
        posted("timer", 2.1, skbs, f"{flags or 'held'}|kick"),
        posted("timer", 2.2, skbs, flags or "held"),
        event("unblocked", 4),
    )
    (stall,) = found.stalls.to_dict("records")
    assert (stall["name"], stall["state"], stall["duration_ns"]) == ("target-0", "blocked", 2 * S)
    assert (stall["cause"], stall["posted"]) == (cause, skbs)
    assert sentences(found.stalls).tolist() == [words]


def test_skbs_that_were_free_again_and_nobody_looked(make_trace: Trace) -> None:
    found = analysis(
        make_trace,
        AOE,
        posted("blocked", 2, 256, "held"),
        posted("timer", 3, 256, "held"),
        posted("timer", 4.5, 256),
        posted("timer", 5, 256),
    )
    (stall,) = found.stalls.to_dict("records")
    assert stall["open"]
    assert stall["relieved_ns"] == 2.5 * S
    assert sentences(found.stalls).tolist() == [
        "the network held all 256 skbs of the pool; 2.5 s later one was free"
    ]


def test_skbs_that_are_free_after_the_stall_were_not_in_it(make_trace: Trace) -> None:
    found = analysis(
        make_trace,
        AOE,
        posted("blocked", 2, 256, "held"),
        event("unblocked", 3),
        posted("blocked", 4, 256, "held"),
        posted("timer", 5, 256),
    )
    words = sentences(found.stalls)
    assert [cause.partition("; ")[2] for cause in words] == ["", "1.0 s later one was free"]
    assert set(general(found.stalls)) == {"the network held all 256 skbs of the pool"}


def test_the_cause_is_how_many_slots_were_free(make_trace: Trace) -> None:
    found = analysis(
        make_trace,
        NETBACK,
        blocked(1, 0),
        blocked(1.999, 256),
        event("unblocked", 2, posted_after=256),
        blocked(2.1, 5, flags="stopped"),
        event("unblocked", 2.105, posted_after=256),
        blocked(3, 17, flags="stopped"),
        blocked(3.1, 90, flags="stopped"),
        blocked(3.2, 254, flags="stopped"),
    )
    assert found.stalls["cause"].tolist() == ["slots", "stopped", "stopped"]
    assert sentences(found.stalls).tolist() == [
        "waiting for ring slots with 0 free",
        "queue stopped with 5 free",
        "queue stopped with 17 free, and still with 254",
    ]
    assert found.stalls["posted"].tolist() == [0, 5, 17]
    assert found.stalls["posted_later"].fillna(-1).tolist() == [-1, -1, 254]
    assert general(found.stalls).tolist() == [
        "waiting for ring slots with 0 free",
        *["queue stopped with 5 to 17 free"] * 2,
    ]
    assert found.stalls["open"].tolist() == [False, False, True]


def test_a_failed_refill_is_still_the_cause_of_other_stalls(make_trace: Trace) -> None:
    found = analyze(make_trace([event("refill", 1, gfp=0xA20, refills=1, failed=1, posted_after=0)]))
    assert sentences(found.stalls).tolist() == ["softirq refill failed (GFP_ATOMIC)"]
    assert pd.api.types.is_integer_dtype(found.stalls["posted"])
