# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit import quantities


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1s", 10**9),
        ("0.5", 500_000_000),
        ("200ms", 200_000_000),
        ("3us", 3000),
        ("10m", 6 * 10**11),
        ("1h", 36 * 10**11),
    ],
)
def test_times_have_units(text: str, found: int) -> None:
    assert quantities.nanoseconds(text) == found


@pytest.mark.parametrize(
    ("text", "found"), [("64M", 64 << 20), ("1G", 1 << 30), ("0.5K", 512), ("4096", 4096)]
)
def test_sizes_have_units(text: str, found: int) -> None:
    assert quantities.size(text) == found


@pytest.mark.parametrize("text", ["", "s", "1 s", "-1s", "1d", "1,5s", "1M"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as 1s or 200ms"):
        quantities.nanoseconds(text)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0s"), (10**9, "1s"), (1_500_000_000, "1500ms"), (20_000, "20us"), (10_000_001, "10000.001us")],
)
def test_a_time_is_spelled_as_it_is_read(ns: int, text: str) -> None:
    assert quantities.spelled(ns) == text
    assert quantities.nanoseconds(text) == ns


def test_what_is_no_size_is_said() -> None:
    with pytest.raises(ValueError, match="'1s' is not a size such as 64M or 1G"):
        quantities.size("1s")


@pytest.mark.parametrize(
    ("text", "found"), [("10m", (600 * 10**9, None)), ("10M", (None, 10 << 20)), ("0", (0, None))]
)
def test_an_amount_is_a_time_or_a_size(text: str, found: tuple[int | None, int | None]) -> None:
    assert quantities.amount(text) == found


@pytest.mark.parametrize("text", ["", "4x", "M", "10MB"])
def test_what_is_neither_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a time such as 10m nor a size such as 256M"):
        quantities.amount(text)
