# SPDX-License-Identifier: GPL-2.0-only
from bench import overhead


def test_interval_is_that_of_the_order_statistics() -> None:
    """Of ten values, fewer than two on one side: 2 * (1 + 10) / 1024 = 2 %; fewer than three: 11 %."""
    assert overhead.interval([3.0, 1.0, 2.0, 10.0, 9.0, 8.0, 4.0, 5.0, 6.0, 7.0]) == (2.0, 9.0)
    assert overhead.interval([6.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == (1.0, 6.0)


def test_five_values_are_too_few() -> None:
    assert overhead.interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
