# SPDX-License-Identifier: GPL-2.0-only
import pandas as pd
import pytest

from toolkit.errors import UserError
from toolkit.fleet.conditions import Condition, choose, parse

TRACES = pd.DataFrame(
    {
        "host": ["a", "b", None, "web-1"],
        "kernel": pd.Categorical(["6.1.0-56", "6.12.3", "6.12.3", None]),
        "driver": "virtio_net",
        "build": ["stock", "paced", "stock", "stock"],
        "day": pd.to_datetime(pd.Series(["2026-11-01", "2026-11-08", "2026-11-09", None])),
    }
)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("kernel=6.1.*", [0]),
        ("kernel=6.1*", [0, 1, 2]),
        ("kernel=6.12.3 build=stock", [2]),
        ("kernel!=6.12.?", [0]),
        ("host=web-*", [3]),
        ("host!=a", [1, 3]),
        ("day>=2026-11-08", [1, 2]),
        ("day<2026-11-08", [0]),
        ("day>2026-11-01 day<=2026-11-08", [1]),
        ("day=2026-11-09", [2]),
    ],
)
def test_all_conditions_hold_and_what_is_not_known_fits_none(text: str, chosen: list[int]) -> None:
    assert list(TRACES.index[choose(TRACES, text)]) == chosen


def test_conditions_are_separated_by_blanks() -> None:
    assert parse(" kernel=6.1.*  day>=2026-11-08 ") == [
        Condition("kernel", "=", "6.1.*"),
        Condition("day", ">=", "2026-11-08"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no condition"),
        ("6.1", "'6.1' is no condition"),
        ("size=3", "there are place, host, kernel, driver, build, regime, day"),
        ("kernel>6.1", "only a day is compared by >"),
        ("day>=yesterday", "'yesterday' is no day: write it as 2026-11-08"),
        ("kernel=5.*", "no trace has kernel=5.*; there are the kernels 6.1.0-56, 6.12.3."),
        ("day>2027-01-01", "the days are 2026-11-01 to 2026-11-09"),
    ],
)
def test_mistakes_are_one_sentence(text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        choose(TRACES, text)
    assert words in str(error.value) and str(error.value).endswith(".")
