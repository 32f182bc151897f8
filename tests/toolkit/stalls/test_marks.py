# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import event
from toolkit.event import ALL_QUEUES
from toolkit.stalls.marks import (
    Marks,
    Queue,
    first_of,
    in_order,
    joined,
    last_of,
    last_until,
    look_up,
    queue_table,
    spread,
    turns,
)
from toolkit.trace.schema import EVENT

QUEUES = [
    Queue(0, 4, 1),
    Queue(0, 3, 0),
    Queue(0, 3, ALL_QUEUES),
    Queue(0, 3, 1),
    Queue(1, 3, 7),
    Queue(0, 9, ALL_QUEUES),
]

MARKS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=30)


def _marks(pairs: list[tuple[int, int]]) -> Marks:
    queue, moment = np.array(pairs, np.int64).reshape(-1, 2).T
    return Marks(queue, moment)


def test_events_are_looked_up_by_driver_device_and_number() -> None:
    events = np.concatenate(
        [event("irq", 1, ifindex=ifindex, queue=queue, driver=driver) for driver, ifindex, queue in QUEUES]
    )
    columns = {name: events[name] for name in EVENT.names or ()}
    assert look_up(columns, queue_table(QUEUES), np.array([0, 1, 2, 3, 4, 5])).tolist() == [0, 1, 2, 3, 4, 5]
    assert look_up(columns, queue_table(QUEUES), np.array([5, 1])).tolist() == [5, 1]


def test_an_event_of_the_whole_device_is_about_each_of_its_queues() -> None:
    row, queue = spread(np.array([0, 2, 4, 5, 1]), queue_table(QUEUES))
    assert list(zip(row.tolist(), queue.tolist(), strict=True)) == [(0, 0), (1, 1), (1, 3), (2, 4), (4, 1)]


def test_no_queue_is_no_event() -> None:
    row, queue = spread(np.empty(0, np.intp), queue_table([]))
    assert (len(row), len(queue)) == (0, 0)


def test_begins_and_ends_take_turns() -> None:
    begins = _marks([(0, 5), (0, 1), (0, 3), (1, 2)])
    ends = _marks([(0, 4), (0, 3), (0, 6), (0, 7), (1, 2), (2, 1)])
    (queue, moment), begin = turns(begins, ends)
    found = list(zip(queue.tolist(), moment.tolist(), begin.tolist(), strict=True))
    assert found == [
        (0, 1, True),
        (0, 3, False),
        (0, 3, True),
        (0, 4, False),
        (0, 5, True),
        (0, 6, False),
        (1, 2, False),
        (1, 2, True),
        (2, 1, False),
    ]


@given(MARKS, MARKS)
def test_the_last_mark_until_a_moment_is_of_the_same_queue(
    marks: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    marks = sorted(marks)
    for (queue, moment), place in zip(asked, last_until(_marks(marks), _marks(asked)).tolist(), strict=True):
        before = [index for index, mark in enumerate(marks) if mark[0] == queue and mark[1] <= moment]
        smaller = sum(mark[0] < queue for mark in marks)
        assert place == (before[-1] if before else smaller - 1)


@given(MARKS, MARKS)
def test_the_last_and_the_first_mark_of_a_queue_itself(
    pairs: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    marks, order = in_order(_marks(pairs))
    assert [pairs[place] for place in order] == sorted(pairs)
    last, first = last_of(marks, _marks(asked)).tolist(), first_of(marks, _marks(asked)).tolist()
    for (queue, moment), before, after in zip(asked, last, first, strict=True):
        own = [(index, mark[1]) for index, mark in enumerate(sorted(pairs)) if mark[0] == queue]
        assert before == max((index for index, at in own if at <= moment), default=-1)
        assert after == min((index for index, at in own if at >= moment), default=-1)


def test_marks_of_no_parts_are_none() -> None:
    assert len(joined([]).queue) == 0
    assert joined([_marks([(1, 2)]), _marks([(0, 3)])]).moment.tolist() == [2, 3]
