# SPDX-License-Identifier: GPL-2.0-only
"""Try everything that a trace needs, and say what is missing and how to mend it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from toolkit.capture import btf, compiler, elf, kernel, loader, maps, matching, packages, program
from toolkit.capture.btf import Btf
from toolkit.capture.packages import PackedKernel
from toolkit.driver import Driver
from toolkit.drivers import core
from toolkit.errors import UserError

#: Size of the ring of events in the check, in bytes.
_RING = 1 << 20
#: What the kernel's own types stand under, beside those of its modules.
_KERNEL = "vmlinux"

Verdict = Literal["fully observable", "partly observable", "cannot be traced", "no such driver"]


class Finding(NamedTuple):
    """The result of one check; `mend` is empty where the user has nothing to do.

    :param unknown: the columns of stalls and queues (docs/stalls.md) that are not known for it.
    """

    level: Literal["ok", "warn", "fail"]
    what: str
    found: str
    mend: str = ""
    unknown: tuple[str, ...] = ()


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Return in words what findings about a driver amount to; a packed kernel without it has none."""
    if not findings:
        return "no such driver"
    levels = {finding.level for finding in findings}
    if "fail" in levels:
        return "cannot be traced"
    return "partly observable" if "warn" in levels else "fully observable"


def check(driver: Driver) -> list[Finding]:
    """Check what tracing a driver needs, up to compiling and attaching the probes; then detach them.

    :return: findings in the order in which a trace needs them. A check that rests on a failed one is left
        out.
    """
    findings: list[Finding] = []
    look = partial(_look, findings)
    if look("user", _root, lambda _: "root"):
        look("lockdown", kernel.require_no_lockdown, str)
        look("addresses", kernel.require_addresses, lambda _: "in /proc/kallsyms")
        look("tracefs", kernel.require_tracefs, str)
    look("bcc", compiler.bcc, lambda module: f"version {getattr(module, '__version__', 'not known')}")
    facts = look(
        "module",
        lambda: kernel.facts(driver, kernel.devices(driver)),
        _module,
    )
    if any(finding.level == "fail" for finding in findings) or facts is None:
        return findings
    macros = look(
        "struct members",
        lambda: program.defines([driver], full=False, only_devices=False, only_queues=False),
        lambda macros: f"{_offsets(macros.common, *macros.local.values())} offsets from BTF",
    )
    if macros is None:
        return findings
    bpf = look(
        "probes",
        lambda: loader.load(program.compile_program([driver], macros), {"events": _RING}),
        lambda found: f"compile and load, against {found.compiled.headers}",
    )
    if bpf is None:
        return findings
    try:
        useless = maps.set_rings(bpf, [driver])
        hooks, functions = program.hooks([driver]), kernel.functions()
        for attached in program.attach(bpf, hooks, functions, strict=False, useless=useless):
            findings.append(_hook(attached))
    finally:
        loader.detach(bpf)
        loader.unload(bpf)
    devices = kernel.devices(driver)
    if devices:
        findings.append(Finding("ok", "devices", ", ".join(map(_device, devices))))
    else:
        findings.append(
            Finding("warn", "devices", "none is bound to this driver", "bring one up to see events")
        )
    return findings


def check_packed(driver: Driver, packed: PackedKernel) -> list[Finding]:
    """Check what tracing a driver needs of a kernel in packages: its module, types and functions.

    Only a kernel that runs can tell whether the probes compile, and whether a function takes a probe.

    :return: findings; none if the kernel does not have the driver.
    """
    findings: list[Finding] = []
    look = partial(_look, findings)
    if not (driver.of_any or driver.module in packed.modules or driver.module in packed.built_in):
        return findings
    with contextlib.ExitStack() as stack:

        def types() -> dict[str, Btf]:
            if not packed.btf:
                raise UserError("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF); use a kernel that has.")
            base = stack.enter_context(btf.parse(packed.btf))
            matching.require_ring_buffer(base)
            found = {_KERNEL: base}
            for name in packed.modules.keys() & matching.modules(driver):
                found[name] = stack.enter_context(btf.parse(packages.module_types(packed, name), base))
            return found

        def members() -> matching.Found:
            base = by_module[_KERNEL]
            own = by_module.get(driver.module, base)
            of_driver = matching.members(driver.fields, lambda field: by_module.get(field.module, own))
            every = [("core", matching.members(core()[1], lambda _: base)), (driver.name, of_driver)]
            for owner, found in every:
                matching.require_members(owner, found)
            return matching.Found(
                {name: value for _, found in every for name, value in found.macros.items()},
                [field for _, found in every for field in found.missing],
            )

        kind = "built in" if driver.module in packed.built_in else "a module"
        whose = "the kernel's own" if driver.of_any else f"{driver.module}, {kind}"
        by_module = look("types", types, lambda _: f"{whose}, with BTF")
        if by_module is None:
            return findings
        look("struct members", members, _members)
        functions = {name: elf.functions(packed.modules[name]) for name in by_module if name != _KERNEL}

        def of_module(name: str, module: str) -> bool:
            """Whether a module has a function, or a copy of it that has its arguments."""
            if name in functions[module]:
                return True
            copied = re.compile(re.escape(name) + kernel.COPIED)
            only_one = len([*filter(copied.fullmatch, functions[module])]) == 1
            return only_one and by_module[module].function(name) is not None

        def has(place: matching.Place) -> bool:
            if place.kind in ("clock", "btf"):
                return True
            if place.kind == "raw_tracepoint":
                return any(each.has_tracepoint(place.name) for each in by_module.values())
            if place.module:
                return place.module in functions and of_module(place.name, place.module)
            return place.name in (packed.functions or ()) or any(
                of_module(place.name, module) for module in functions
            )

        useless: list[program.Attached] = []
        if driver.ring:
            _, lacking = matching.ring(driver.ring, by_module.get(driver.module, by_module[_KERNEL]))
            useless = maps.without_ring(driver, lacking) if lacking else []
        for hook in program.hooks([driver]):
            attached = next((each for each in useless if each.hook == hook), None)
            if attached is None:
                at = next((found.place for found in matching.places(hook, has)), None)
                attached = program.Attached(hook, at, "" if at else program.NO_FUNCTION)
            findings.append(_hook(attached))
    return findings


def packed_names(drivers: Sequence[Driver]) -> tuple[set[str], set[str]]:
    """Return what has to be read of a kernel for `check_packed`: the modules, and the kernel's functions."""
    modules = {module for driver in drivers for module in matching.modules(driver)}
    functions: set[str] = set()
    for hook in program.hooks(drivers):
        functions |= {place.name for place in matching.places(hook, lambda _: True)}
    return modules, functions


def _look(findings: list[Finding], what: str, act: Callable[[], Any], say: Callable[[Any], str]) -> Any:
    """Return what a check returns, and note it; None if it fails."""
    try:
        value = act()
    except UserError as error:
        found, _, mend = str(error).partition("; ")
        findings.append(Finding("fail", what, found, mend))
        return None
    findings.append(Finding("ok", what, say(value)))
    return value


def _module(facts: Mapping[str, Any]) -> str:
    variant = facts["variant"] or "not known"
    return f"{facts['module']}, {variant if variant == kernel.BUILT_IN else f'variant {variant}'}"


def _members(found: matching.Found) -> str:
    without = ", ".join(" or ".join(field.of) for field in found.missing)
    return f"{_offsets(found.macros)} offsets from BTF" + (f", without {without}" if without else "")


def _offsets(*macros: Mapping[str, object]) -> int:
    """Return how many members' offsets were found."""
    return sum(name.startswith("OFF_") for found in macros for name in found)


def _device(device: Mapping[str, Any]) -> str:
    """Return the device's name, and how many queues it has if that is known before they have events."""
    return f"{device['name']} ({len(device['queues'])} queues)" if device["queues"] else str(device["name"])


def _root() -> str:
    kernel.require_root()
    return os.environ.get("SUDO_USER", "root")


def _hook(attached: program.Attached) -> Finding:
    what = f"hook {attached.hook.program}"
    if attached.at:
        return Finding("ok", what, attached.at)
    if attached.hook.required:
        return Finding(
            "fail", what, f"none of {', '.join(attached.hook.at)} ({attached.why})", "trace on another kernel"
        )
    lacks = f"not here, so a trace lacks {attached.hook.missing} ({attached.why})"
    return Finding("warn", what, lacks, unknown=attached.hook.tells)
