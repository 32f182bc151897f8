# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pandas as pd

from toolkit.stalls.columns import booleans, integers, names, take, words

KNOWN = np.array([True, False])


def test_numbers_and_flags_that_are_not_known_are_null() -> None:
    frame = pd.DataFrame(
        {"number": integers(np.array([3, 4]), KNOWN), "flag": booleans(np.array([True, True]), KNOWN)}
    )
    assert frame["number"].tolist() == [3, pd.NA] and frame["flag"].tolist() == [True, pd.NA]
    assert frame.dtypes.astype(str).tolist() == ["Int64", "boolean"]


def test_words_may_be_null_and_names_may_not() -> None:
    frame = pd.DataFrame({"word": words(["a", None]), "name": names(["b", "c"])})
    assert frame["word"].tolist() == ["a", pd.NA] and frame["name"].tolist() == ["b", "c"]
    assert (frame["name"] == "b").tolist() == [True, False]
    assert len(words([])) == len(names([])) == 0


def test_some_rows_of_all_columns() -> None:
    found = take({"a": np.array([1, 2, 3]), "b": words(["x", None, "z"])}, np.array([2, 0]))
    assert found["a"].tolist() == [3, 1] and found["b"].tolist() == ["z", "x"]
