# SPDX-License-Identifier: GPL-2.0-only
import pandas as pd
import pytest

from tests.conftest import Trace, event, failed, worker_stall
from toolkit.event import ALL_QUEUES
from toolkit.stalls.analysis import analyze
from toolkit.stalls.classes import BRIEF, CALLED, RECONFIGURATION, STALL
from toolkit.trace.schema import Events


def called(at: float, end: float) -> list[Events]:
    """Return what a worker does that no failed refill called."""
    return worker_stall(at, end)[2:]


def _classes(trace: Trace, *events: Events) -> list[str]:
    return [str(each) for each in analyze(trace(list(events))).stalls["class"]]


def test_a_stall_is_brief_below_10_ms(make_trace: Trace) -> None:
    # The worker turns NAPI off and the refill leaves the ring empty: from `at` on.
    assert _classes(make_trace, *worker_stall(2, 2.0099), *worker_stall(4, 4.01)) == [BRIEF, STALL]


def test_a_stall_that_has_not_ended_is_never_brief(make_trace: Trace) -> None:
    assert _classes(make_trace, failed(9.999)) == [STALL]


def test_a_worker_that_no_failed_refill_called_is_a_reconfiguration(make_trace: Trace) -> None:
    found = analyze(make_trace(called(2, 2.004), called(4, 5))).stalls
    assert found["class"].tolist() == [RECONFIGURATION] * 2
    assert set(found["cause"]) == {CALLED}
    assert pd.isna(found[["order", "gfp", "context", "posted"]]).all(axis=None)


def test_a_failure_before_the_last_invocation_is_not_the_cause_of_this_one(make_trace: Trace) -> None:
    assert _classes(make_trace, *worker_stall(2, 3), *called(5, 5.004)) == [STALL, RECONFIGURATION]


@pytest.mark.parametrize("at", [3.5, 4.9])
def test_a_failure_since_the_last_invocation_is_the_cause(make_trace: Trace, at: float) -> None:
    again = failed(at, posted_after=9)
    assert _classes(make_trace, *worker_stall(2, 3), again, *called(5, 5.1)) == [STALL, STALL]


def test_a_failure_while_the_last_invocation_began_may_call_for_the_next(make_trace: Trace) -> None:
    """PENDING is clear a moment before the worker's first instruction: so it comes twice for one failure."""
    out = event("worker_out", 3.001, queue=ALL_QUEUES, flags="process|in_worker")
    assert _classes(make_trace, *worker_stall(2, 3), out, *called(3.01, 3.03)) == [STALL, STALL]


def test_a_failure_before_the_trace_may_have_called_the_first_worker(make_trace: Trace) -> None:
    assert _classes(make_trace, *called(0.4, 0.6)) == [STALL]
    assert _classes(make_trace, *called(1.4, 1.6)) == [RECONFIGURATION]


def test_a_failure_of_another_queue_of_the_device_calls_the_worker_too(make_trace: Trace) -> None:
    assert _classes(make_trace, failed(1.9, posted_after=9, queue=1), *called(2, 2.1)) == [STALL]
    other = failed(1.9, posted_after=9, queue=0, ifindex=9)
    assert _classes(make_trace, other, *called(2, 2.1)) == [RECONFIGURATION]


def test_without_the_hook_of_the_worker_nothing_is_said_of_it(make_trace: Trace) -> None:
    napi = [event("napi_off", 2, flags="in_worker"), event("napi_on", 2.1)]
    assert _classes(make_trace, *napi) == [STALL]
    other = event("worker_in", 1, queue=ALL_QUEUES, ifindex=9)
    assert _classes(make_trace, other, *napi) == [STALL]
