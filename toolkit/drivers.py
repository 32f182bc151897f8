# SPDX-License-Identifier: GPL-2.0-only
"""The registry of drivers: one directory under probes/ each, whose driver.toml is read here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.driver import Also, Cause, Condition, Driver, Field, Hook, Own, Regime, Ring, State, Table
from toolkit.errors import UserError
from toolkit.event import FLAG, KIND, NOT_KNOWN
from toolkit.paths import PROBES

#: Members of Driver that a driver.toml may leave out.
_WORDS = ("netif", "rx", "posted", "polls", "refused", "does", "deaf")
_OPERATORS = frozenset({"eq", "ne", "gt", "ge", "lt", "le"})


def word(which: str, of: Iterable[str]) -> str:
    """Return the wording that these drivers share, or the usual wording if they differ or none is known.

    :param which: a member of Driver that people read, such as "refused".
    :param of: names of drivers; a name that this toolkit does not know is left out.
    """
    found = {str(getattr(load(name), which)) for name in set(of) & set(names())}
    return found.pop() if len(found) == 1 else str(getattr(Driver, which))


def names() -> list[str]:
    """Return the names of all drivers that have a directory with a driver.toml, sorted."""
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
    if "ring" in table:
        return _declared(table, directory)
    events, flags = (
        tuple(
            Own(entry["name"], numbers[entry[of]], entry["means"], entry.get("silent", ""))
            for entry in table.get(which, [])
        )
        for which, of, numbers in (("event", "kind", KIND), ("flag", "flag", FLAG))
    )
    words = _Words(
        KIND | {event.name: event.number for event in events},
        {flag["name"]: flag["flag"] for flag in table.get("flag", [])},
    )
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
        states=tuple(_state(entry, words) for entry in table["state"]),
        ring_states=tuple(_state(entry, words) for entry in table.get("ring_state", [])),
        events=events,
        flags=flags,
        causes=tuple(_cause(entry, words) for entry in table.get("cause", [])),
        tables=tuple(_table(entry, words) for entry in table.get("table", [])),
        rings=tuple(table.get("rings", [])),
        unknown=tuple(table.get("unknown", [])),
        **{name: table[name] for name in _WORDS if name in table},
    )


def _declared(table: Mapping[str, Any], directory: Path) -> Driver:
    """Return a driver without C: the probes of another, those for any driver, and what its ring tells."""
    like, ring = load(table["like"]), table["ring"]
    declared = replace(
        like,
        **{key: table[key] for key in ("name", "module", "title", "queue")},
        directory=directory,
        states=(*like.ring_states, *like.states),
        unknown=tuple(column for column in like.unknown if column != "posted_min"),
        like=like.name,
        ring=Ring(**ring | {"functions": tuple(ring.get("functions", []))}),
    )
    return replace(declared, hooks=(*like.hooks, *declared.ring_hooks))


def of_any() -> Driver:
    """Return the probes for NICs of any driver."""
    return next(driver for driver in map(load, names()) if driver.of_any)


def known(name: str) -> Driver | None:
    """Return one driver by name, or None if there is no such driver, as in a trace of another version."""
    return load(name) if name in names() else None


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
    """Return the ``[[field]]`` entries of a driver.toml or of core.toml."""
    return tuple(
        Field(entry["name"], tuple(entry["of"]), entry.get("required", False), entry.get("module", ""))
        for entry in table.get("field", [])
    )


class _Words(NamedTuple):
    """What a driver.toml may call things: kinds by name, and its own flags as event.h calls them."""

    kinds: Mapping[str, int]
    flags: Mapping[str, str]


def _condition(entry: Mapping[str, Any], words: _Words) -> Condition:
    """Turn the words of a condition in a driver.toml into operators and numbers.

    {kind = "refill", posted_after = {gt = 0}} -> {"kind": {"eq": 2}, "posted_after": {"gt": 0}}
    """
    condition: dict[str, dict[str, int]] = {}
    for column, wanted in entry.items():
        if column == "kind":
            wanted = words.kinds[wanted]
        operators = wanted if isinstance(wanted, dict) else {"eq": wanted}
        if unknown := operators.keys() - _OPERATORS:
            raise ValueError(f"{column}: unknown operator {', '.join(sorted(unknown))}")
        condition[words.flags.get(column, column)] = {
            operator: NOT_KNOWN if value == "not_known" else int(value)
            for operator, value in operators.items()
        }
    return condition


def _state(entry: Mapping[str, Any], words: _Words) -> State:
    return State(
        entry["name"],
        tuple(_condition(condition, words) for condition in entry["begin"]),
        tuple(_condition(condition, words) for condition in entry["end"]),
        entry["means"],
        entry.get("losing", False),
    )


def _cause(entry: Mapping[str, Any], words: _Words) -> Cause:
    relief = entry.get("relief")
    return Cause(
        entry["name"],
        _condition(entry["when"], words),
        entry["says"],
        entry.get("later", ""),
        _condition(relief, words) if relief else None,
        entry.get("relieved", ""),
    )


def _table(entry: Mapping[str, Any], words: _Words) -> Table:
    first, second = entry.get("pair", (None, None))
    return Table(
        entry["name"],
        (words.kinds[first], words.kinds[second]) if first else None,
        words.kinds[entry["lasts"]] if "lasts" in entry else 0,
        entry.get("says", ""),
        entry.get("noun", ""),
        tuple(
            Also(
                also["noun"],
                also["says"],
                also.get("name", ""),
                words.kinds[also["kind"]] if "kind" in also else 0,
                also.get("column", ""),
            )
            for also in entry.get("also", [])
        ),
    )
