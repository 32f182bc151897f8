# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toolkit.stalls import spans

INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


def _spans(intervals: list[tuple[int, int]]) -> spans.Spans:
    edges = np.array(intervals, np.int64).reshape(-1, 2)
    return spans.union(edges[:, 0], edges[:, 1])


def _moments(found: spans.Spans) -> set[int]:
    return {moment for begin, end in found.tolist() for moment in range(begin, end)}


@given(INTERVALS, INTERVALS)
def test_as_sets_of_moments(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    one, other = _spans(first), _spans(second)
    assert _moments(one) == {moment for begin, end in first for moment in range(begin, end)}
    assert _moments(spans.both(one, other)) == _moments(one) & _moments(other)
    assert _moments(spans.without(one, other)) == _moments(one) - _moments(other)
    assert spans.length(one) == len(_moments(one))
    for found in (one, spans.both(one, other), spans.without(one, other)):
        assert (np.diff(found.reshape(-1)) > 0).all()


@given(INTERVALS, INTERVALS)
def test_how_much_of_each_interval_is_covered(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    one, asked = _spans(first), np.array(second, np.int64).reshape(-1, 2)
    begins, ends = asked.min(axis=1, initial=40), asked.max(axis=1, initial=0)
    begins = np.minimum(begins, ends)
    expected = [len(_moments(one) & set(range(b, e))) for b, e in zip(begins, ends, strict=True)]
    assert spans.covered(one, begins, ends).tolist() == expected
