# SPDX-License-Identifier: GPL-2.0-only
"""Columns of a table before it is a frame: arrays by name, and what pandas makes of unknown values."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Draft: TypeAlias = dict[str, Any]
"""A table that is not a frame yet: columns by name, of NumPy or, where a value may be unknown, of pandas."""


def take(columns: Mapping[str, Any], rows: NDArray[np.bool_] | NDArray[np.intp]) -> Draft:
    """Return some rows of each column."""
    return {name: column[rows] for name, column in columns.items()}


def integers(numbers: NDArray[Any], known: NDArray[np.bool_]) -> pd.arrays.IntegerArray:
    """Return a column of numbers that is null where they are not known."""
    return pd.arrays.IntegerArray(numbers.astype(np.int64), ~known)


def booleans(flags: NDArray[np.bool_], known: NDArray[np.bool_]) -> pd.arrays.BooleanArray:
    """Return a column of flags that is null where they are not known."""
    return pd.arrays.BooleanArray(flags, ~known)


def words(texts: Sequence[str | None] | NDArray[Any]) -> pd.api.extensions.ExtensionArray:
    """Return a column of words that is null where a text is None."""
    return pd.array(np.asarray(texts, object), "string")


def names(texts: Sequence[str] | NDArray[Any]) -> pd.api.extensions.ExtensionArray:
    """Return a column of words of which all are known."""
    return pd.array(np.asarray(texts, object), "str")
