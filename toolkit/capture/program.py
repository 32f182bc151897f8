# SPDX-License-Identifier: GPL-2.0-only
"""The BPF program of a trace: its text, the kernel's offsets in it, and what it is attached to."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from toolkit.capture import compiled, compiler, headers, kernel, loader, matching
from toolkit.capture.btf import Function, kernel_btf, module_btf
from toolkit.capture.compiled import Compiled
from toolkit.capture.kernel import Functions
from toolkit.capture.loader import Loaded
from toolkit.driver import Driver, Hook
from toolkit.drivers import core, core_sources, load
from toolkit.errors import UserError
from toolkit.paths import PROBES

NO_FUNCTION = "no such function in this kernel"
"""Why a hook is not attached of which no place is there."""
_SKIPPED = re.compile(r"^recursion_misses:\s*(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Attached:
    """What became of a hook: where it was attached (None: nowhere) and, if nowhere, why."""

    hook: Hook
    at: str | None
    why: str = ""


@dataclass(frozen=True)
class Macros:
    """The C macros of a program.

    :param common: what all of the program sees: options, addresses, and the offsets of core's fields.
    :param local: driver -> what only its own probe.c sees: its fields, its own kinds of events and flags.
    """

    common: Mapping[str, int | str]
    local: Mapping[str, Mapping[str, int]]


def fields(driver: Driver) -> dict[str, int]:
    """Look the members and structs that a driver's probe.c reads up in BTF.

    :return: C macro -> bytes: ``OFF_<name>`` for a member, ``SIZE_<name>`` for a struct, where there is one.
    :raises UserError: if there is no BTF, or a required one is not in it.
    """
    with contextlib.ExitStack() as stack:
        # What a kernel has built in is in its own BTF, which stands under each module's.
        modules = {driver.module, *(field.module for field in driver.fields if field.module)}
        btfs = {
            module: stack.enter_context(
                kernel_btf() if not module or kernel.is_built_in(module) else module_btf(module)
            )
            for module in modules
            if module == driver.module or kernel.has_btf(module)
        }
        own = btfs[driver.module]
        found = matching.members(driver.fields, lambda field: btfs.get(field.module, own))
    matching.require_members(driver.name, found)
    return dict(found.macros)


def core_fields() -> dict[str, int]:
    """Look the members that core reads up in the kernel's BTF, as `fields` does.

    :raises UserError: also if the kernel has no ring buffer.
    """
    with kernel_btf() as btf:
        matching.require_ring_buffer(btf)
        found = matching.members(core()[1], lambda _: btf)
    matching.require_members("core", found)
    return dict(found.macros)


def own_names(driver: Driver) -> dict[str, int]:
    """Return what a driver's probes call the kinds of events and the flags that are its own.

    :return: C macro -> number: ``KIND_<name>`` for a kind, ``FLAG_<name>`` for a flag.
    """
    return {f"KIND_{event.name}": event.number for event in driver.events} | {
        f"FLAG_{flag.name}": flag.number for flag in driver.flags
    }


def defines(drivers: Sequence[Driver], *, full: bool, only_devices: bool, only_queues: bool) -> Macros:
    """Return all macros of the program: offsets, gfp bits and options.

    :raises UserError: as `fields`.
    """
    flags = kernel.gfp_flags()
    macros: dict[str, int | str] = {
        "RXT_CPUS": cpus(),
        "RXT_NETNS": kernel.netns(),
        "RXT_GFP_DIRECT_RECLAIM": hex(flags.get("__GFP_DIRECT_RECLAIM", 0)),
        "RXT_GFP_NORETRY": hex(flags.get("__GFP_NORETRY", 0)),
        **core_fields(),
    }
    for number, driver in enumerate(drivers):
        macros[f"DRIVER_{driver.name}"] = number
    if full:
        macros["RXT_DETAIL_FULL"] = 1
    if only_devices:
        macros["RXT_ONLY_DEVICES"] = 1
    if only_queues:
        macros["RXT_ONLY_QUEUES"] = 1
    return Macros(macros, {driver.name: fields(driver) | own_names(driver) for driver in _written(drivers)})


def _written(drivers: Sequence[Driver]) -> list[Driver]:
    """Return the drivers whose C is used, each once."""
    return list(
        {
            driver.like or driver.name: load(driver.like) if driver.like else driver for driver in drivers
        }.values()
    )


def cpus() -> int:
    """Return how many CPUs this machine may ever have: their numbers are below that."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().replace("-", ",").split(",")[-1]
    return int(last) + 1


def compile_program(drivers: Sequence[Driver], macros: Macros) -> Compiled:
    """Compile the texts of core and the drivers' probe.c as one program, or find it where it is kept.

    :raises UserError: if it does not compile, with what the compiler said.
    """
    text, flags = _source(drivers, macros)
    ours = [path.read_text() for path in sorted((PROBES / "headers").rglob("*.h"))]
    given = os.environ.get(headers.VARIABLE)
    name = compiled.key(text, flags, ours, given, list(os.uname())[2:], compiler.bcc_version())
    program = compiled.kept(name, compiled.DIRECTORY)
    if program is None:
        program = compiler.run(text, flags)
        compiled.keep(name, program, compiled.DIRECTORY)
    return program


def _source(drivers: Sequence[Driver], macros: Macros) -> tuple[str, list[str]]:
    """Return the program's text and the compiler's flags for it.

    bcc rewrites map accesses in the main file only, so the files become one text, each under its own name.
    """
    parts = [_named(path) for path in core_sources()]
    for driver in _written(drivers):
        local = macros.local.get(driver.name, {})
        parts += [f"#define {name} {value}\n" for name, value in local.items()]
        parts.append(_named(driver.source))
        parts += [f"#undef {name}\n" for name in local]
    return "".join(parts), [f"-I{PROBES}", *(f"-D{name}={value}" for name, value in macros.common.items())]


def _named(path: Path) -> str:
    """Return a file's text, of which the compiler says where it comes from."""
    return f'#line 1 "{path}"\n{path.read_text()}'


def hooks(drivers: Sequence[Driver]) -> list[Hook]:
    """Return the hooks of core and of the drivers, each once, in the order in which they are attached."""
    every: list[Hook] = []
    for hook in (*core()[0], *(hook for driver in drivers for hook in driver.hooks)):
        if hook not in every:
            every.append(hook)
    return every


def attach(
    bpf: Loaded,
    wanted: Sequence[Hook],
    functions: Functions,
    *,
    strict: bool = True,
    useless: Sequence[Attached] = (),
) -> list[Attached]:
    """Attach each hook to the first of its candidates that this kernel has.

    :param functions: those of this kernel.
    :param strict: whether a required one that is missing is an error.
    :param useless: hooks not to attach (maps.set_rings).
    :return: one entry a hook, in order.
    :raises UserError: if `strict` and a required one cannot be attached.
    """
    entries = _entries(wanted)
    settled = [*useless, *_attach_clocks(bpf, wanted)]
    known = [attached.hook for attached in settled]

    def settle(hook: Hook) -> Attached:
        return settled[known.index(hook)] if hook in known else _attach_one(bpf, hook, functions, entries)

    with ThreadPoolExecutor(loader.AT_ONCE) as pool:
        result = list(pool.map(settle, wanted))
    for attached in result:
        if strict and attached.hook.required and attached.at is None:
            raise UserError(
                f"this kernel has none of {', '.join(attached.hook.at)}, which the probes need "
                f"({attached.why}); it cannot be traced."
            )
    return result


def _entries(wanted: Sequence[Hook]) -> dict[str, Function]:
    """Return the kernel's own functions, by name, of which a hook is to be called where they begin."""
    places = (
        place for hook in wanted for place in matching.places(hook, lambda place: place.kind == "fentry")
    )
    names = {place.name for place in places}
    if not names:
        return {}
    with kernel_btf() as types:
        return {name: found for name in names if (found := types.function(name))}


def _attach_clocks(bpf: Loaded, wanted: Sequence[Hook]) -> list[Attached]:
    """Attach the hooks at clocks: those at the same one share it, and what the kernel says of them."""
    result = []
    for place in dict.fromkeys(hook.at[0] for hook in wanted if hook.at[0].startswith("clock:")):
        hooks = [hook for hook in wanted if hook.at[0] == place]
        why = ""
        try:
            loader.tick(bpf, int(place.removeprefix("clock:")), [hook.program for hook in hooks])
        except OSError as error:
            why = error.strerror or str(error)
        result += [Attached(hook, None if why else place, why) for hook in hooks]
    return result


def _attach_one(bpf: Loaded, hook: Hook, functions: Functions, entries: Mapping[str, Function]) -> Attached:
    why = NO_FUNCTION
    copies: dict[str, str] = {}

    def has(place: matching.Place) -> bool:
        nonlocal why
        if place.kind == "fentry":
            return place.name in entries
        # Of a tracepoint only attaching to it tells whether the kernel has it.
        if place.kind in ("raw_tracepoint", "btf") or place.name in functions:
            return True
        if copy := functions.copy(place.name):
            if _has_type(place.name, copy[1]):
                copies[place.name] = copy[0]
                return True
            why = f"there is {copy[0]} only, whose arguments may be others"
        return False

    for place, kind, module, function in matching.places(hook, has):
        # MODULE:FUNCTION, where several modules have a function of that name.
        symbol = copies.get(function, function)
        name = f"{module}:{symbol}" if module else symbol
        try:
            if kind == "fentry":
                loader.enter(bpf, entries[name], hook.program_at(place))
            elif kind != "btf":
                loader.attach(bpf, kind, name, hook.program_at(place))
            return Attached(hook, f"{kind}:{name}" if function in copies else place)
        except OSError as error:
            why = error.strerror or str(error)
    return Attached(hook, None, why)


def _has_type(function: str, module: str) -> bool:
    """Tell whether BTF has a function of which there is a changed copy only: then the arguments are the same.

    What has others, pahole leaves out (--btf_gen_optimized in scripts/pahole-flags.sh), and before version
    1.25 all copies.
    """
    try:
        with module_btf(module) if module else kernel_btf() as types:
            return types.function(function) is not None
    except UserError:
        return False


def regime(driver: Driver, programs: Collection[str], functions: Functions) -> str:
    """Return the name of the first regime that fits this kernel: how its driver retries a failed refill.

    :param programs: those that were attached.
    :param functions: those of this kernel.
    """
    return next(
        (
            each.name
            for each in driver.regimes
            if set(each.hooks) <= set(programs) and all(function in functions for function in each.functions)
        ),
        "not known",
    )


def misses(bpf: Loaded) -> dict[str, int] | None:
    """Return how often the kernel skipped each program, since a program or kprobe was at work on that CPU.

    The kernel counts that as recursion_misses in fdinfo (bpf_prog_show_fdinfo in kernel/bpf/syscall.c, from
    5.12 on); None if it does not. A kprobe that is hit inside another never gets that far; it is counted from
    6.7 on (loader.skipped).
    """
    kprobes = loader.skipped(bpf)
    found = {}
    for name, descriptor in bpf.functions.items():
        about = kernel.read(Path(f"/proc/self/fdinfo/{descriptor}")) or ""
        if match := _SKIPPED.search(about):
            found[name] = int(match[1]) + kprobes[name]
    return found or None
