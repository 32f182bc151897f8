# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.compare.metrics import METRICS, amount, change, heading, number
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
        (2_500_000_000, "ns/h", "2.500", "2.500 s/h", "+2.500 s/h"),
        (0.75, "1/h", "0.75", "0.75 /h", "+0.75 /h"),
        (-12345.6, "1/h", "-12,346", "-12,346 /h", "-12,346 /h"),
    ],
)
def test_numbers_have_units(value: float, unit: str, plain: str, whole: str, signed: str) -> None:
    assert (number(value, unit), amount(value, unit), change(value, unit)) == (plain, whole, signed)


def test_headings_have_units() -> None:
    units = ("ns", "share", "ns/h", "1/h", "stalls")
    assert [heading("x", unit) for unit in units] == ["x [s]", "x [%]", "x [s/h]", "x [/h]", "x"]
