# SPDX-License-Identifier: GPL-2.0-only
"""The shape of a trace's JSON: types, members and ranges, checked once so that nobody else has to."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

from toolkit.event import ALL_QUEUES
from toolkit.trace.ledger import COUNTS

LONGEST_NS = 1 << 62
"""The longest time, 146 years: the sum of two fits 64 bits."""


MOST_CPUS = 1 << 13
"""The most CPUs that Linux can be built for."""


LONGEST_NAME = 256
"""Characters of the name of a device, a driver, a kind of event."""


class ShapeError(ValueError):
    """A value of another shape; the text says where, such as "devices[0].ifindex is missing"."""


class Number(NamedTuple):
    """An integer from `low` to `high`."""

    low: int
    high: int


class Text(NamedTuple):
    """A string of at most `longest` characters."""

    longest: int


class Maybe(NamedTuple):
    """Null, or a value of this shape."""

    shape: "Shape"


class Many(NamedTuple):
    """An array of `least` to `most` values of this shape."""

    shape: "Shape"
    least: int = 0
    most: int = 1 << 20


class Named(NamedTuple):
    """An object whose members all have this shape, whatever their names are."""

    shape: "Shape"


class Members(NamedTuple):
    """An object with these members; others are ignored."""

    required: Mapping[str, "Shape"]
    optional: Mapping[str, "Shape"] = {}


Shape: TypeAlias = Number | Text | Maybe | Many | Named | Members

Place: TypeAlias = tuple[str | int, ...]
"""Names of members and numbers in arrays, from the outermost on; put into words only for an error."""

_TIME = Number(0, LONGEST_NS)
_U32 = Number(0, (1 << 32) - 1)
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
    "end": Members({}, {"reason": _TEXT, "missed": Named(Number(0, 1 << 62))}),
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


def check(value: object, shape: Shape, place: Place = ()) -> None:
    """Make sure that a value has a shape.

    :param place: where the value is; empty for the whole.
    :raises ShapeError: if the value has another shape.
    """
    match shape:
        case Number():
            _check_numbers([value], shape, place)
        case Members(required, optional):
            members = _object(value, place)
            for name, inner in required.items():
                if name not in members:
                    raise ShapeError(f"{_words((*place, name))} is missing")
                check(members[name], inner, (*place, name))
            for name, inner in optional.items():
                if name in members:
                    check(members[name], inner, (*place, name))
        case Named(inner):
            for name, item in _object(value, place).items():
                if len(name) > LONGEST_NAME:
                    raise ShapeError(f"a name in {_words(place)} is longer than {LONGEST_NAME} characters")
                check(item, inner, (*place, name))
        case Many(inner, least, most):
            if not isinstance(value, list):
                raise ShapeError(f"{_words(place)} is no array")
            if not least <= len(value) <= most:
                raise ShapeError(f"{_words(place)} has {len(value)} members, not {least} to {most}")
            if isinstance(inner, Number):
                _check_numbers(value, inner, place)
                return
            for number, item in enumerate(value):
                check(item, inner, (*place, number))
        case Text(longest):
            if not isinstance(value, str):
                raise ShapeError(f"{_words(place)} is no string")
            if len(value) > longest:
                raise ShapeError(f"{_words(place)} is longer than {longest} characters")
        case Maybe(inner):
            if value is not None:
                check(value, inner, place)


def _check_numbers(values: Sequence[object], shape: Number, place: Place) -> None:
    """Check an array at once: a ledger has thousands of numbers in each batch."""
    # isinstance takes true for an integer.
    if not set(map(type, values)) <= {int}:
        raise ShapeError(f"{_words(place)} is no integer")
    numbers = cast(Sequence[int], values)
    if numbers and not shape.low <= min(numbers) <= max(numbers) <= shape.high:
        raise ShapeError(f"{_words(place)} is not between {shape.low} and {shape.high}")


def _object(value: object, place: Place) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ShapeError(f"{_words(place)} is no object")
    return value


def _words(place: Place) -> str:
    """Put a place into words, such as "devices[0].ifindex"."""
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return words.removeprefix(".") or "it"
