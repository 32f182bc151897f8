# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from tests.conftest import BEGAN, META, S, window, worker_stall
from toolkit.drivers import load
from toolkit.errors import UserError
from toolkit.live import conditions
from toolkit.live.conditions import Condition, Held, Seen
from toolkit.live.queues import Change, Live


def _seen(now: float, dropped: int = 0) -> Seen:
    """After `now` seconds, a second after the last look: a stall of 4 s of queue 0 has ended, one of queue 1
    began at 8 s; 3 refills of queue 0 had failed before."""
    live = Live([load("virtio_net")], META["devices"])
    live.take(
        np.concatenate(
            [*worker_stall(2, 6), *worker_stall(8, 9, queue=1)[:-1], window(7, refills=40, failed=40)]
        )
    )
    ended = [change for change in live.changes if change.lasted is not None]
    return Seen(live, ended, BEGAN + round(now * S), S, {(3, 0): 3}, dropped)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("stall > 1s", Condition("stall > 1s", "stall", 1e9)),
        ("  stall>200ms ", Condition("stall>200ms", "stall", 2e8)),
        ("silence > 50ms", Condition("silence > 50ms", "silence", 5e7)),
        ("failed > 100/s", Condition("failed > 100/s", "failed", 100)),
        ("failed > 0.5", Condition("failed > 0.5", "failed", 0.5)),
        ("dropped > 0", Condition("dropped > 0", "dropped", 0)),
    ],
)
def test_conditions_are_read(text: str, condition: Condition) -> None:
    assert conditions.parse(text) == condition


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stalls > 1s", "'stalls > 1s' is no condition: write 'stall > 1s', "),
        ("stall < 1s", "is no condition"),
        ("stall", "is no condition"),
        ("stall > 1/s", "'stall > 1/s': '1/s' is not a time such as 1s."),
        ("failed > many", "'failed > many': 'many' is not a rate such as 100/s."),
        ("dropped > 1.5", "'dropped > 1.5': '1.5' is not a number."),
    ],
)
def test_what_is_no_condition_is_said(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        conditions.parse(text)
    assert sentence in str(error.value)


def test_a_stall_counts_when_it_has_ended_and_while_it_lasts() -> None:
    more_than = conditions.parse("stall > 3s")
    found = conditions.held(more_than, _seen(9))
    assert found is not None and found.queue == (3, 0) and found.found == pytest.approx(4e9, rel=0.01)
    found = conditions.held(more_than, _seen(20))
    assert found is not None and found.queue == (3, 1) and found.found == pytest.approx(12e9, rel=0.01)
    assert conditions.held(conditions.parse("stall > 13s"), _seen(20)) is None


def test_a_silence_is_no_stall() -> None:
    seen = _seen(9)
    quiet = seen._replace(ended=[Change(BEGAN + 7 * S, 3, 1, "slow-poll", 5 * S)])
    found = conditions.held(conditions.parse("silence > 4s"), quiet)
    assert found == Held((3, 1), 5 * S)
    assert conditions.held(conditions.parse("stall > 4500ms"), quiet) is None
    assert conditions.held(conditions.parse("silence > 0s"), seen) is None


def test_failures_are_a_rate_since_the_last_look() -> None:
    live_failures = next(iter(_seen(9).live.queues.values())).failed
    rate = live_failures - 3
    assert conditions.held(conditions.parse(f"failed > {rate - 1}/s"), _seen(9)) == Held((3, 0), rate)
    assert conditions.held(conditions.parse(f"failed > {rate}/s"), _seen(9)) is None
    assert conditions.held(conditions.parse("failed > 0/s"), _seen(9)._replace(since=0)) is None


def test_dropped_events_are_of_the_whole_trace() -> None:
    assert conditions.held(conditions.parse("dropped > 0"), _seen(9, dropped=7)) == Held(None, 7)
    assert conditions.held(conditions.parse("dropped > 0"), _seen(9)) is None
