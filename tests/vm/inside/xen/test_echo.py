# SPDX-License-Identifier: GPL-2.0-only
import numpy as np

from tests.conftest import MS
from vm.inside.xen import echo


def some(*milliseconds: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array([round(each * MS) for each in milliseconds], np.int64)


def test_a_gap_is_from_the_last_answer_to_the_next() -> None:
    sent = some(1000, 1050, 1100, 1150, 1600, 1650)
    answered = some(1001, 1051, 0, 1590, 1601, 1651)
    (gap,) = echo.gaps(sent, answered)
    assert gap == {"start_ns": 1051 * MS, "duration_ns": 539 * MS, "refused": 1}


def test_answers_that_never_come_leave_the_gap_open() -> None:
    (gap,) = echo.gaps(some(1000, 1050, 1100, 1300), some(1001, 1051, 0, 0))
    assert gap == {"start_ns": 1051 * MS, "duration_ns": 249 * MS, "refused": 1, "open": True}


def test_a_late_last_answer_is_no_gap() -> None:
    assert echo.gaps(some(1000, 1050), some(1001, 1200)) != []
    assert echo.gaps(some(1000, 1050), some(1001, 1090)) == []


def test_latency_is_that_of_answers_before_the_first_gap() -> None:
    sent = some(1000, 1050, 1100, 1150, 1600)
    answered = some(1004, 1054, 0, 1590, 1601)
    assert echo.latency(sent, answered, echo.gaps(sent, answered)) == 4 * MS
    assert echo.latency(sent, answered, [{"start_ns": 1000 * MS}]) == 0
    assert echo.latency(some(), some(), []) == 0


def test_nothing_sent_nothing_missed() -> None:
    assert echo.gaps(some(), some()) == []


def test_a_request_sums_up_to_all_ones() -> None:
    for number in (0, 1, 0xFFFF, 0x10000, 0x12345678):
        words = np.frombuffer(echo._request(number), ">u2").astype(np.int64)
        total = int(words.sum())
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert total == 0xFFFF
