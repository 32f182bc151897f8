# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.english import count, cpus, duration, listed


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 stalls"), (1, "1 stall"), (2, "2 stalls"), (1234, "1,234 stalls")]
)
def test_a_number_agrees_with_its_noun(number: int, said: str) -> None:
    assert count(number, "stall") == said


def test_a_number_of_cpus_may_be_unknown() -> None:
    assert [cpus(number) for number in (1, 2, None)] == ["1 CPU", "2 CPUs", "an unknown number of CPUs"]


@pytest.mark.parametrize(
    ("nanoseconds", "said"),
    [
        (0, "0 ns"),
        (1500, "1.5 us"),
        (10_000_000, "10 ms"),
        (9_999_999, "9.999999 ms"),
        (1_500_000_000, "1.5 s"),
        (7200 * 10**9, "7200 s"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(nanoseconds: int, said: str) -> None:
    assert duration(nanoseconds) == said


def test_a_list_ends_with_and() -> None:
    assert [listed("abc"[:number]) for number in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
