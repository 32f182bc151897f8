# SPDX-License-Identifier: GPL-2.0-only
"""What runs are compared by; of each metric, less is better."""

from typing import Literal, NamedTuple

from toolkit import drivers


class Metric(NamedTuple):
    """A number that each run has.

    Attributes: `name`, its column in a frame of runs; `title`, in words; `unit`, "ns", "share" (0 to 1)
    or what is counted; `role`: a verdict rests on those that decide, one that guards may only spoil it,
    the others inform.
    """

    name: str
    title: str
    unit: str
    role: Literal["decides", "guards", "informs"]


METRICS = (
    Metric("stalled_ns", "stalled time", "ns", "decides"),
    Metric("longest_ns", "longest stall", "ns", "decides"),
    Metric("open", "open stalls", "stalls", "decides"),
    Metric("refused", drivers.REFUSED, "share", "decides"),
    # A stall that became a spin is not cured: the queue is polled, and still receives nothing.
    Metric("spin_ns", "spin time", "ns", "guards"),
    # Nor is it where its time went into refills and polls that take long.
    Metric("silent_ns", "time in slow refills and polls", "ns", "guards"),
    Metric("stalls", "stalls", "stalls", "informs"),
    Metric("failed", "failed refills", "refills", "informs"),
    Metric("recovery_ns", "recovery", "ns", "informs"),
)


def of_driver(driver: str) -> tuple[Metric, ...]:
    """:return: METRICS in a driver's words; in the usual ones, if it is not known."""
    word = drivers.word("refused", [driver])
    return tuple(each._replace(title=word) if each.name == "refused" else each for each in METRICS)


def heading(title: str, unit: str) -> str:
    """:return: a metric's title over numbers of :func:`number`, with their unit."""
    return title + {"ns": " [s]", "share": " [%]"}.get(unit, "")


def number(value: float, unit: str) -> str:
    """:return: a value without its unit: in s for ns, in % for a share."""
    if unit == "ns":
        # To the microsecond below a millisecond, else to the millisecond.
        return f"{value / 1e9:.6f}" if 0 < abs(value) < 1_000_000 else f"{value / 1e9:.3f}"
    return f"{100 * value:.2f}" if unit == "share" else f"{value:g}"


def amount(value: float, unit: str) -> str:
    """:return: a value with its unit."""
    return number(value, unit) + {"ns": " s", "share": " %"}.get(unit, "")


def change(value: float, unit: str) -> str:
    """:return: a difference with its sign and unit."""
    sign = "+" if value > 0 else ""
    return sign + number(value, unit) + {"ns": " s", "share": " percentage points"}.get(unit, "")
