# SPDX-License-Identifier: GPL-2.0-only
"""From how long an interval counts: what a silence is, and which stalls are brief."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.english import duration
from toolkit.errors import UserError
from toolkit.event import WINDOW_NS
from toolkit.quantities import spelled

SHORTEST_NS = WINDOW_NS
"""The shortest silence that a trace tells: the probes add up shorter polls and refills in windows of this
length, and send no shorter wait for a poll."""

LONGEST_NS = 10**18
"""No trace is as long: 31 years."""


@dataclass(frozen=True)
class Thresholds:
    """The lengths of time [ns] from which intervals count. docs/stalls.md justifies the defaults.

    Attributes: `silence_over_ns`, a refill in softirq, a poll or a wait for a poll of this length or longer
    is a silence; `brief_under_ns`, a stall that is shorter is brief.

    :raises UserError: if no trace can tell such silences, or no stall can have such a length.
    """

    silence_over_ns: int = SHORTEST_NS
    brief_under_ns: int = 10_000_000

    def __post_init__(self) -> None:
        # `not … >=` refuses nan, too.
        if not self.silence_over_ns >= SHORTEST_NS:
            raise UserError(
                f"a trace does not tell silences of {duration(self.silence_over_ns)}, because it adds up "
                f"shorter polls and refills in windows of {duration(SHORTEST_NS)}: give "
                f"{spelled(SHORTEST_NS)} or more."
            )
        if not self.brief_under_ns >= 0:
            raise UserError(f"no stall is shorter than {self.brief_under_ns} ns: give 0 or more.")
        if (longest := max(self.silence_over_ns, self.brief_under_ns)) > LONGEST_NS:
            raise UserError(f"no trace is as long as {duration(longest)}: give a shorter time.")


DEFAULT = Thresholds()


def choose(silence_over_ns: int | None = None, brief_under_ns: int | None = None) -> Thresholds:
    """Return thresholds; those that are None have their default.

    :raises UserError: as Thresholds.
    """
    given = {"silence_over_ns": silence_over_ns, "brief_under_ns": brief_under_ns}
    return Thresholds(**{name: value for name, value in given.items() if value is not None})


def member(thresholds: Thresholds) -> dict[str, Mapping[str, Any]]:
    """Return the member `thresholds` of a JSON object; nothing for the defaults."""
    return {} if thresholds == DEFAULT else {"thresholds": asdict(thresholds)}


def options(thresholds: Thresholds) -> list[str]:
    """Return the options of a command that choose these thresholds; none for the defaults."""
    words = []
    if thresholds.silence_over_ns != DEFAULT.silence_over_ns:
        words += ["--silence-over", spelled(thresholds.silence_over_ns)]
    if thresholds.brief_under_ns != DEFAULT.brief_under_ns:
        words += ["--brief-under", spelled(thresholds.brief_under_ns)]
    return words


def sentence(thresholds: Thresholds) -> str | None:
    """Say which thresholds are not the defaults; None if all are."""
    parts = []
    if (length := thresholds.silence_over_ns) != DEFAULT.silence_over_ns:
        usual = duration(DEFAULT.silence_over_ns)
        parts.append(f"a silence lasts {duration(length)} or longer (default: {usual})")
    if (length := thresholds.brief_under_ns) != DEFAULT.brief_under_ns:
        usual = duration(DEFAULT.brief_under_ns)
        brief = f"a stall shorter than {duration(length)} is brief" if length else "no stall is brief"
        parts.append(f"{brief} (default: {'' if length else 'shorter than '}{usual})")
    return f"Thresholds: {'; '.join(parts)}." if parts else None
