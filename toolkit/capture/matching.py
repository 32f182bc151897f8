# SPDX-License-Identifier: GPL-2.0-only
"""Which of a driver's hooks and members a kernel has: one set of rules, whether it runs or is in packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from toolkit.capture.btf import Btf, Member
from toolkit.driver import Driver, Field, Hook, Ring
from toolkit.errors import UserError


class Place(NamedTuple):
    """A place that a hook may be attached to.

    :param place: as driver.toml spells it: ``kind:name``, or ``kind:module:name``.
    :param kind: fentry, kprobe, kretprobe, raw_tracepoint or clock; btf, if nothing is to be attached.
    :param module: the module that the function is of, if it is named.
    """

    place: str
    kind: str
    module: str
    name: str


class Found(NamedTuple):
    """What became of the members that a driver reads.

    :param macros: C macro -> bytes: ``OFF_<name>`` for a member, ``SIZE_<name>`` for a struct.
    :param missing: fields of which the kernel has no candidate.
    """

    macros: Mapping[str, int]
    missing: Sequence[Field]


def places(hook: Hook, has: Callable[[Place], bool]) -> Iterator[Place]:
    """Yield the candidates of a hook that the kernel has, in their order.

    :param has: tells whether the kernel has a place.
    """
    for text in hook.at:
        kind, _, function = text.partition(":")
        module, _, name = function.rpartition(":")
        place = Place(text, kind, module, name)
        if has(place):
            yield place


def modules(driver: Driver) -> set[str]:
    """Return the modules whose types or functions a driver's probes need; none for those of any driver."""
    hooked = (text.split(":")[1] for hook in driver.hooks for text in hook.at if text.count(":") > 1)
    named = (field.module for field in driver.fields)
    return {driver.module, *named, *hooked} - {""}


def members(fields: Iterable[Field], types: Callable[[Field], Btf]) -> Found:
    """Look up members and structs, each by the first of its candidates that is there.

    :param types: returns the BTF in which a field is looked up.
    """
    macros, missing = {}, []
    for field in fields:
        btf = types(field)
        for path in field.of:
            value = btf.resolve(path)
            if value is not None:
                macros[f"{'OFF' if '.' in path else 'SIZE'}_{field.name}"] = value
                break
        else:
            missing.append(field)
    return Found(macros, missing)


def ring(of: Ring, types: Btf) -> tuple[dict[str, Member], list[str]]:
    """Look up the members of a declared ring.

    :return: "napi", "fill", "clean", "count" or "mask" -> where it is; and the members that are not there.
    """
    found = {path: types.member(path) for path in of.members}
    names = ("napi", "fill", "clean", "count", "mask")
    named = {name: found[path] for name in names if (path := getattr(of, name))}
    return {name: place for name, place in named.items() if place}, [
        path for path in found if not found[path]
    ]


def require_members(owner: str, found: Found) -> None:
    """Make sure that no member is missing that is required.

    :param owner: the driver's name, for a sentence.
    :raises UserError: if there are any.
    """
    if lacking := [" or ".join(field.of) for field in found.missing if field.required]:
        raise UserError(
            f"{owner}: this kernel's BTF lacks {', '.join(lacking)}; "
            "the probes read that, so this kernel cannot be traced."
        )


def require_ring_buffer(btf: Btf) -> None:
    """Make sure that the kernel has a ring buffer for events.

    :param btf: the kernel's.
    :raises UserError: if it has none.
    """
    if "BPF_MAP_TYPE_RINGBUF" not in btf.enumerators("bpf_map_type"):
        raise UserError("this kernel has no BPF ring buffer; use a newer kernel: Linux 5.8 was the first.")
