# SPDX-License-Identifier: GPL-2.0-only
"""The registry of drivers: one directory under probes/ each, described by its driver.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from toolkit import PROBES
from toolkit.errors import UserError
from toolkit.event import KIND

POSTED = "posted receive buffers"
"""What most drivers' queues hold."""

REFUSED = "refused frames"
"""What a witness counts of most drivers."""

#: Members of Driver that a driver.toml may leave out.
_WORDS = ("netif", "rx", "posted", "polls", "refused", "does", "deaf")
_OPERATORS = frozenset({"eq", "ne", "gt", "ge", "lt", "le"})

#: Column of an event -> operator -> value; an event matches when every one of them holds.
Condition = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Hook:
    """A BPF function and the ordered places it may be attached to (``kprobe:function`` …).

    The first place that the kernel has is taken. If the hook is `required`, the kernel has to have one.

    :param tells: the columns of stalls and queues (docs/stalls.md) that are not known without it.
    :param programs: place -> the BPF function that is attached there instead of `program`, where the kernel's
        function has other arguments.
    """

    program: str
    at: tuple[str, ...]
    required: bool
    missing: str
    tells: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)

    def program_at(self, place: str) -> str:
        """Return the BPF function for one of the places."""
        return self.programs.get(place, self.program)


@dataclass(frozen=True)
class Field:
    """A member of a kernel struct, the first of ``of`` that BTF knows; ``OFF_<name>`` in C.

    Its name is the driver's own: another driver may use it for another member. `module` is whose BTF has
    the member, where that is neither the driver's own nor the kernel's.
    """

    name: str
    of: tuple[str, ...]
    required: bool
    module: str = ""


@dataclass(frozen=True)
class Regime:
    """How a failed refill is retried: told by hooks that were attached, and functions that are there."""

    name: str
    hooks: tuple[str, ...]
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """An interval of one queue: from an event that matches any of begin to one that matches any of end."""

    name: str
    begin: tuple[Condition, ...]
    end: tuple[Condition, ...]


@dataclass(frozen=True)
class Driver:
    """One driver as its driver.toml describes it.

    :param rings: where an rx queue has several rings of buffers, what each is called; each is a queue.
    :param netif: of a driver that binds no network device, the files (a pattern) that name what it uses.
    :param rx: what comes before the number of a queue.
    :param posted: what is counted as posted.
    :param polls: what is counted as polls.
    :param refused: what a witness counts as refused.
    :param does: what a queue does when it is not stalled, and `deaf`, what it is when it is.
    """

    name: str
    module: str
    title: str
    queue: str
    poll: str
    directory: Path
    hooks: tuple[Hook, ...]
    fields: tuple[Field, ...]
    regimes: tuple[Regime, ...]
    states: tuple[State, ...]
    rings: tuple[str, ...] = ()
    netif: str = ""
    rx: str = "rx"
    posted: str = POSTED
    polls: str = "NAPI polls"
    refused: str = REFUSED
    does: str = "receives"
    deaf: str = "deaf"

    def queues_of(self, rx: int) -> range:
        """:return: the numbers of the queues that an rx queue of the device has, one for each ring."""
        rings = len(self.rings) or 1
        return range(rx * rings, (rx + 1) * rings)

    def queue_name(self, number: int) -> str:
        """:return: what a queue is called: its rx queue, as sysfs has it, and which of its rings it is."""
        rx, ring = divmod(number, len(self.rings) or 1)
        return f"{self.rx}-{rx} {self.rings[ring]}" if self.rings else f"{self.rx}-{rx}"

    def queue_label(self, number: int) -> str:
        """:return: what a queue is called in a sentence: by its number, where it is just an rx queue."""
        return self.queue_name(number) if self.rings or self.rx != "rx" else f"queue {number}"


def word(which: str, of: Iterable[str]) -> str:
    """A word for people: a member of Driver, such as "refused".

    :param of: names of drivers.
    :return: their word; the usual one, where they have several or none of them is known.
    """
    found = {str(getattr(load(name), which)) for name in set(of) & set(names())}
    return found.pop() if len(found) == 1 else str(getattr(Driver, which))


def names() -> list[str]:
    """All drivers that have a directory with a driver.toml, sorted."""
    return sorted(path.parent.name for path in PROBES.glob("*/driver.toml"))


@cache
def load(name: str) -> Driver:
    """Return one driver by name; its file is read once.

    :raises UserError: if there is no such driver.
    """
    if name not in names():
        raise UserError(f"unknown driver {name!r}; known are: {', '.join(names())}.")
    directory = PROBES / name
    with (directory / "driver.toml").open("rb") as file:
        table = tomllib.load(file)
    return Driver(
        name=table["name"],
        module=table["module"],
        title=table["title"],
        queue=table["queue"],
        poll=table.get("poll", ""),
        directory=directory,
        hooks=_hooks(table),
        fields=_fields(table),
        regimes=tuple(
            Regime(entry["name"], tuple(entry["hooks"]), tuple(entry.get("functions", [])))
            for entry in table["regime"]
        ),
        states=tuple(
            State(
                entry["name"],
                tuple(_condition(condition) for condition in entry["begin"]),
                tuple(_condition(condition) for condition in entry["end"]),
            )
            for entry in table["state"]
        ),
        rings=tuple(table.get("rings", [])),
        **{name: table[name] for name in _WORDS if name in table},
    )


@cache
def core() -> tuple[tuple[Hook, ...], tuple[Field, ...]]:
    """Return the hooks and the fields of core, which every driver has."""
    table = _core_table()
    return _hooks(table), _fields(table)


def core_sources() -> list[Path]:
    """Return the C texts of core, in their order."""
    return [PROBES / "core" / name for name in _core_table()["sources"]]


@cache
def _core_table() -> Mapping[str, Any]:
    with (PROBES / "core" / "core.toml").open("rb") as file:
        return tomllib.load(file)


def _hooks(table: Mapping[str, Any]) -> tuple[Hook, ...]:
    """Return the ``[[hook]]`` entries of a driver.toml or of core.toml.

    A place is a string, or a table of the place and of the program for it.
    """
    hooks = []
    for entry in table.get("hook", []):
        places = [{"place": place} if isinstance(place, str) else place for place in entry["at"]]
        hooks.append(
            Hook(
                entry["program"],
                tuple(place["place"] for place in places),
                entry.get("required", False),
                entry.get("missing", ""),
                tuple(entry.get("tells", [])),
                {place["place"]: place["program"] for place in places if "program" in place},
            )
        )
    return tuple(hooks)


def _fields(table: Mapping[str, Any]) -> tuple[Field, ...]:
    """The ``[[field]]`` entries of a driver.toml or of core.toml."""
    return tuple(
        Field(entry["name"], tuple(entry["of"]), entry.get("required", False), entry.get("module", ""))
        for entry in table.get("field", [])
    )


def _condition(entry: Mapping[str, Any]) -> Condition:
    """{kind = "refill", posted_after = {gt = 0}} -> {"kind": {"eq": 2}, "posted_after": {"gt": 0}}."""
    condition: dict[str, dict[str, int]] = {}
    for column, wanted in entry.items():
        if column == "kind":
            wanted = int(KIND[wanted])
        operators = wanted if isinstance(wanted, dict) else {"eq": wanted}
        if unknown := operators.keys() - _OPERATORS:
            raise ValueError(f"{column}: unknown operator {', '.join(sorted(unknown))}")
        condition[column] = {operator: int(value) for operator, value in operators.items()}
    return condition
