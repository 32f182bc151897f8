# SPDX-License-Identifier: GPL-2.0-only
"""The metrics by which runs are compared; less is better for each."""

from typing import Literal, NamedTuple

from toolkit import drivers
from toolkit.driver import REFUSED


class Metric(NamedTuple):
    """A number that each run has.

    Attributes: `name`, its column in a frame of runs; `title`, in words; `unit`, "ns", "share" (0 to 1),
    "ns/h" or "1/h" (per hour that was traced), or the thing that is counted; `role`: a metric that "decides"
    can make a verdict, one that "guards" can only spoil it, one that "informs" is shown.
    """

    name: str
    title: str
    unit: str
    role: Literal["decides", "guards", "informs"]


METRICS = (
    Metric("stalled_ns", "stalled time", "ns", "decides"),
    Metric("longest_ns", "longest stall", "ns", "decides"),
    Metric("open", "open stalls", "stalls", "decides"),
    Metric("refused", REFUSED, "share", "decides"),
    # A stall that became a spin is not cured: the queue is polled, and still receives nothing.
    Metric("spin_ns", "spin time", "ns", "guards"),
    # Nor is it where its time went into refills and polls that take long.
    Metric("silent_ns", "silence outside of stalls", "ns", "guards"),
    Metric("stalls", "stalls", "stalls", "informs"),
    Metric("failed", "failed refills", "refills", "informs"),
    Metric("recovery_ns", "recovery", "ns", "informs"),
)


def of_driver(driver: str) -> tuple[Metric, ...]:
    """Return METRICS in the words of a driver; in the usual words if the driver is not known."""
    word = drivers.word("refused", [driver])
    return tuple(each._replace(title=word) if each.name == "refused" else each for each in METRICS)


_UNITS = {"ns": "s", "share": "%", "ns/h": "s/h", "1/h": "/h"}
"""The units that people read."""


def heading(title: str, unit: str) -> str:
    """Return a heading for numbers of :func:`number`: the metric's title and its unit."""
    return f"{title} [{_UNITS[unit]}]" if unit in _UNITS else title


def number(value: float, unit: str) -> str:
    """Return a value without its unit: in s for ns, in % for a share."""
    if unit in ("ns", "ns/h"):
        # To the microsecond below a millisecond, else to the millisecond.
        return f"{value / 1e9:.6f}" if 0 < abs(value) < 1_000_000 else f"{value / 1e9:.3f}"
    if unit == "1/h":
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{100 * value:.2f}" if unit == "share" else f"{value:g}"


def amount(value: float, unit: str) -> str:
    """Return a value with its unit."""
    return number(value, unit) + (f" {_UNITS[unit]}" if unit in _UNITS else "")


def change(value: float, unit: str) -> str:
    """Return a difference with its sign and its unit."""
    sign = "+" if value > 0 else ""
    return sign + (f"{number(value, unit)} percentage points" if unit == "share" else amount(value, unit))
