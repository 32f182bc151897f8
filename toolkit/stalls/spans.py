# SPDX-License-Identifier: GPL-2.0-only
"""Sets of moments, each as an array of spans: begin and end [ns] a row, sorted and apart."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Spans: TypeAlias = NDArray[np.int64]
"""An array of shape (n, 2): begin and end of each span [ns]."""

_FIRST, _LAST = -(1 << 63), (1 << 63) - 1


def union(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Spans:
    """Return the moments that are in any of some intervals; these may overlap and be in any order."""
    return _counted(np.column_stack([begins, ends]).astype(np.int64).reshape(-1, 2), 1)


def both(one: Spans, other: Spans) -> Spans:
    """Return the moments that are in both spans."""
    return _counted(np.concatenate([one, other]), 2)


def without(one: Spans, other: Spans) -> Spans:
    """Return the moments of the first spans that are not in the second."""
    edges = np.concatenate([[_FIRST], other.reshape(-1), [_LAST]])
    return both(one, edges.reshape(-1, 2))


def length(spans: Spans) -> int:
    """Return the total length of the spans [ns]."""
    return int((spans[:, 1] - spans[:, 0]).sum())


def covered(spans: Spans, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how much of each interval is in the spans [ns]."""
    if not len(spans):
        return np.zeros(len(begins), np.int64)
    before = np.concatenate([[0], np.cumsum(spans[:, 1] - spans[:, 0])])

    def until(moments: NDArray[np.int64]) -> NDArray[np.int64]:
        place = np.searchsorted(spans[:, 0], moments, "right") - 1
        span = spans[np.maximum(place, 0)]
        inside = np.clip(moments - span[:, 0], 0, span[:, 1] - span[:, 0])
        return np.asarray(before[np.maximum(place, 0)] + inside, np.int64)

    return until(ends) - until(np.minimum(begins, ends))


def _counted(spans: Spans, wanted: int) -> Spans:
    """Return where at least `wanted` of some intervals overlap."""
    spans = spans[spans[:, 0] < spans[:, 1]]
    moments = spans.T.reshape(-1)
    steps = np.repeat([1, -1], len(spans))
    # Two spans that touch have no gap between them.
    order = np.lexsort((-steps, moments))
    inside = np.cumsum(steps[order]) >= wanted
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    found = moments[order][edges].reshape(-1, 2)
    return found[found[:, 0] < found[:, 1]]
