# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.english import count, cpus, listed


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 stalls"), (1, "1 stall"), (2, "2 stalls"), (1234, "1,234 stalls")]
)
def test_a_number_agrees_with_its_noun(number: int, said: str) -> None:
    assert count(number, "stall") == said


def test_a_number_of_cpus_may_be_unknown() -> None:
    assert [cpus(number) for number in (1, 2, None)] == ["1 CPU", "2 CPUs", "an unknown number of CPUs"]


def test_a_list_ends_with_and() -> None:
    assert [listed("abc"[:number]) for number in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
