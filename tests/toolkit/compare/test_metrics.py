# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.compare.metrics import METRICS, amount, change, number
from toolkit.runs import COLUMNS


def test_every_metric_is_a_column_of_a_run() -> None:
    assert {each.name for each in METRICS} <= set(COLUMNS)


@pytest.mark.parametrize(
    ("value", "unit", "plain", "whole", "signed"),
    [
        (1_500_000_000, "ns", "1.500", "1.500 s", "+1.500 s"),
        (-34_000, "ns", "-0.000034", "-0.000034 s", "-0.000034 s"),
        (0, "ns", "0.000", "0.000 s", "0.000 s"),
        (0.125, "share", "12.50", "12.50 %", "+12.50 percentage points"),
        (3.5, "stalls", "3.5", "3.5", "+3.5"),
    ],
)
def test_numbers_have_units(value: float, unit: str, plain: str, whole: str, signed: str) -> None:
    assert (number(value, unit), amount(value, unit), change(value, unit)) == (plain, whole, signed)
