# SPDX-License-Identifier: GPL-2.0-only
"""The shape of a trace's JSON: types, members and ranges, checked once so that nobody else has to."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from toolkit.event import ALL_QUEUES
from toolkit.trace.ledger import COUNTS

LONGEST_NS = 1 << 62
"""The longest time, 146 years: the sum of two fits 64 bits."""


MOST_CPUS = 1 << 13
"""The most CPUs that Linux can be built for."""


LONGEST_NAME = 256
"""Characters of the name of a device, a driver, a kind of event."""


class ShapeError(ValueError):
    """A value of another shape; the text says where, such as "devices[0].ifindex is missing".

    :param wrong: what is wrong, with {} for the place.
    :param place: names of members and numbers in arrays; who looks into an object or array puts its own in
        front.
    """

    def __init__(self, wrong: str, *place: str | int) -> None:
        self.wrong, self.place = wrong, list(place)

    def __str__(self) -> str:
        words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.place)
        return self.wrong.format(words.removeprefix(".") or "it")


class Number(NamedTuple):
    """An integer from `low` to `high`."""

    low: int
    high: int

    def check(self, value: object) -> None:
        """Make sure that a value has this shape, as all shapes do.

        :raises ShapeError: if the value has another shape.
        """
        # isinstance takes true for an integer.
        if type(value) is not int:
            raise ShapeError("{} is no integer")
        if not self.low <= value <= self.high:
            raise ShapeError(f"{{}} is not between {self.low} and {self.high}")

    def check_all(self, values: Sequence[Any]) -> None:
        """Check an array at once: a ledger may have thousands of numbers in each batch."""
        if not set(map(type, values)) <= {int}:
            raise ShapeError("{} is no integer")
        # The least and the greatest tell.
        for value in (min(values), max(values)) if values else ():
            self.check(value)


class Text(NamedTuple):
    """A string of at most `longest` characters."""

    longest: int

    def check(self, value: object) -> None:
        if not isinstance(value, str):
            raise ShapeError("{} is no string")
        if len(value) > self.longest:
            raise ShapeError(f"{{}} is longer than {self.longest} characters")


class Maybe(NamedTuple):
    """Null, or a value of this shape."""

    shape: "Shape"

    def check(self, value: object) -> None:
        if value is not None:
            self.shape.check(value)


class Many(NamedTuple):
    """An array of `least` to `most` values of this shape."""

    shape: "Shape"
    least: int = 0
    most: int = 1 << 20

    def check(self, value: object) -> None:
        if not isinstance(value, list):
            raise ShapeError("{} is no array")
        if not self.least <= len(value) <= self.most:
            raise ShapeError(f"{{}} has {len(value)} members, not {self.least} to {self.most}")
        if isinstance(self.shape, Number):
            self.shape.check_all(value)
            return
        for number, item in enumerate(value):
            _check_inside(number, item, self.shape)


class Named(NamedTuple):
    """An object whose members all have this shape, whatever their names are."""

    shape: "Shape"

    def check(self, value: object) -> None:
        for name, item in _object(value).items():
            if len(name) > LONGEST_NAME:
                raise ShapeError(f"a name in {{}} is longer than {LONGEST_NAME} characters")
            _check_inside(name, item, self.shape)


class Members(NamedTuple):
    """An object with these members; others are ignored."""

    required: Mapping[str, "Shape"]
    optional: Mapping[str, "Shape"] = {}

    def check(self, value: object) -> None:
        members = _object(value)
        for name, shape in self.required.items():
            if name not in members:
                raise ShapeError("{} is missing", name)
            _check_inside(name, members[name], shape)
        for name, shape in self.optional.items():
            if name in members:
                _check_inside(name, members[name], shape)


Shape: TypeAlias = Number | Text | Maybe | Many | Named | Members


def _check_inside(step: str | int, value: object, shape: Shape) -> None:
    """Check a member of an object or of an array, which is `step` there."""
    try:
        shape.check(value)
    except ShapeError as error:
        error.place.insert(0, step)
        raise


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ShapeError("{} is no object")
    return value


_TIME = Number(0, LONGEST_NS)
_U32 = Number(0, (1 << 32) - 1)
_BYTES_OR_NS = Number(0, LONGEST_NS)
_NAME = Text(LONGEST_NAME)
_TEXT = Text(4096)
_COUNTS = Many(Number(0, LONGEST_NS), most=1 << 16)

_QUEUE = Members(
    {"queue": Number(0, ALL_QUEUES - 1)},
    {"name": _NAME, "size": Maybe(_U32)},
)
_DEVICES = Many(
    Members(
        {"ifindex": _U32, "name": _NAME, "driver": _NAME, "queues": Many(_QUEUE)},
        {"bus": Maybe(_NAME)},
    )
)
_HOOK = Members(
    {"program": _NAME},
    {"at": Many(_TEXT), "attached": Maybe(_TEXT), "missing": _TEXT, "why": Maybe(_TEXT)},
)
_DRIVER = Members(
    {"name": _NAME},
    {
        **dict.fromkeys(("module", "srcversion", "build_id", "version", "variant", "regime"), Maybe(_NAME)),
        "parameters": Named(Maybe(_TEXT)),
        "hooks": Many(_HOOK),
    },
)

FORMAT_SHAPE = Members({"format": Number(1, 1 << 31)})
"""The shape of every trace, also of one that is newer than this toolkit."""

META = Members(
    {
        "clock": Members({"monotonic_ns": _TIME, "realtime_ns": _TIME, "boottime_ns": _TIME}),
        "drivers": Many(_DRIVER, least=1, most=256),
    },
    {
        **dict.fromkeys(("toolkit", "host", "kernel", "arch"), _NAME),
        "cpus": Number(1, 1 << 16),
        "options": Members({}, {"detail": _NAME, "devices": Many(_NAME), "queues": Many(_U32)}),
        "gfp_flags": Named(_U32),
        "headers": _TEXT,
        "devices": _DEVICES,
    },
)
"""The shape of the JSON object of a whole trace (docs/trace-file.md)."""

_NOTE: Mapping[str, Shape] = {
    "devices": _DEVICES,
    "threads": Many(Members({"tid": _U32, "name": _NAME})),
    "memory": Many(
        Members({"at_ns": _TIME}, dict.fromkeys(("free", "min", "low", "some_ns", "full_ns"), _BYTES_OR_NS))
    ),
    "steal": Many(Members({"at_ns": _TIME, "ns": Many(_TIME, most=MOST_CPUS)})),
    "stacks": Many(Members({"stack": _U32, "functions": Many(_NAME)})),
    "end": Members(
        {},
        {
            "reason": _TEXT,
            "missed": Named(Number(0, 1 << 62)),
            "counters": Named(Named(Number(0, LONGEST_NS))),
        },
    ),
}
_CPUS = Many(Number(0, MOST_CPUS - 1), most=MOST_CPUS)
_CHANGES = Many(Number(-LONGEST_NS, LONGEST_NS), most=MOST_CPUS)

NOTES = {
    1: Members({"now_ns": _TIME}, {**_NOTE, "ledger": Named(Members(dict.fromkeys(COUNTS, _COUNTS)))}),
    2: Members(
        {"now_ns": _TIME, "before": Text(8)},
        {**_NOTE, "ledger": Named(Members({"cpu": _CPUS, **dict.fromkeys(COUNTS, _CHANGES)}))},
    ),
}
"""The shape of the JSON object of a batch, by format."""
