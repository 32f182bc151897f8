# SPDX-License-Identifier: GPL-2.0-only
"""The BPF program of a trace: its text, the kernel's offsets in it, and what it is attached to."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.capture import headers, kernel, matching
from toolkit.capture.btf import kernel_btf, module_btf
from toolkit.driver import Driver, Hook
from toolkit.drivers import core, core_sources, load
from toolkit.errors import UserError
from toolkit.paths import PROBES

NO_FUNCTION = "no such function in this kernel"
"""Why a hook is not attached of which no place is there."""


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


def bcc() -> Any:
    """Return the bcc module.

    :raises UserError: if this interpreter does not have it, or it cannot be loaded.
    """
    try:
        import bcc as module
    except ImportError as error:
        raise UserError(_without_bcc(str(error))) from None
    except OSError as error:
        # It loads libbcc, which is linked with libclang and LLVM.
        raise UserError(
            f"bcc's library cannot be loaded ({error}); install what it needs "
            "(Debian, Ubuntu: apt install --reinstall libbpfcc, or the package of the library named here)."
        ) from None
    if not hasattr(module, "BPF"):
        raise UserError(
            f"the module bcc in {module.__file__} is another project's; uninstall it (pip uninstall bcc): "
            "BPF's comes with the distribution only."
        )
    return module


def _without_bcc(error: str, root: Path = kernel.ROOT) -> str:
    """Return the sentence about a bcc that cannot be imported.

    :param error: the import's own.
    :param root: where the distribution's files are.
    """
    there = sorted(root.glob("usr/lib*/python3*/*-packages/bcc/__init__.py"))
    venv = "make the virtual environment with /usr/bin/python3 -m venv --system-site-packages"
    if there:
        return (
            f"bcc is installed for the distribution's Python (/{there[0].parent.relative_to(root)}), "
            f"but this is {sys.executable}, which does not have it ({error}); {venv}."
        )
    return (
        "bcc is missing; install the distribution's package (Debian, Ubuntu: apt install python3-bpfcc; "
        f"Fedora: dnf install python3-bcc), and {venv}: any other does not see it."
    )


def fields(driver: Driver) -> dict[str, int]:
    """Look the members and structs that a driver's probe.c reads up in BTF.

    :return: C macro -> bytes: ``OFF_<name>`` for a member, ``SIZE_<name>`` for a struct, where there is one.
    :raises UserError: if there is no BTF, or a required one is not in it.
    """
    with contextlib.ExitStack() as stack:
        # What a kernel has built in is in its own BTF, which stands under each module's.
        modules = {driver.module, *(field.module for field in driver.fields if field.module)}
        btfs = {
            module: stack.enter_context(module_btf(module) if module else kernel_btf())
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


def defines(
    drivers: Sequence[Driver], *, ring: int, full: bool, only_devices: bool, only_queues: bool
) -> Macros:
    """Return all macros of the program: offsets, addresses, gfp bits and options.

    :param ring: size of the ring of events, in bytes; a power of two.
    :raises UserError: as `fields`.
    """
    flags = kernel.gfp_flags()
    macros: dict[str, int | str] = {
        "RXT_RING_PAGES": ring // mmap.PAGESIZE,
        "RXT_CPUS": cpus(),
        "RXT_NETNS": kernel.netns(),
        "RXT_GFP_DIRECT_RECLAIM": hex(flags.get("__GFP_DIRECT_RECLAIM", 0)),
        "RXT_GFP_NORETRY": hex(flags.get("__GFP_NORETRY", 0)),
        **core_fields(),
    }
    for number, driver in enumerate(drivers):
        macros[f"DRIVER_{driver.name}"] = number
        if driver.poll:
            macros[f"POLL_{driver.name}"] = f"{bcc().BPF.ksymname(driver.poll) & 0xFFFFFFFFFFFFFFFF:#x}ULL"
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


def compile_program(drivers: Sequence[Driver], macros: Macros) -> tuple[Any, str]:
    """Compile the texts of core and the drivers' probe.c as one program.

    Headers that come with the toolkit are tried first, then the distribution's.

    :return: a ``bcc.BPF``, nothing attached yet; and against what it was compiled, in words.
    :raises UserError: if it compiles against neither, with what the compiler said.
    """
    module = bcc()
    text, flags = _source(drivers, macros)
    reasons = []
    for source in (headers.from_btf, headers.from_distribution):
        try:
            with source() as found, _native_stderr() as said:
                return module.BPF(text=text, cflags=[*found.flags, *flags]), found.title
        except UserError as error:
            reasons.append(str(error).rstrip("."))
        except Exception as error:
            reasons.append(f"against {found.title}: {_first_error(said) or error}")
    raise UserError(
        f"the probes did not compile (a newer kernel may need a newer bcc): {'; '.join(reasons)}."
    )


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
    bpf: Any, wanted: Sequence[Hook], *, strict: bool = True, useless: Sequence[Attached] = ()
) -> list[Attached]:
    """Attach each hook to the first of its candidates that this kernel has.

    :param strict: whether a required one that is missing is an error.
    :param useless: hooks not to attach (maps.set_rings).
    :return: one entry a hook, in order.
    :raises UserError: if `strict` and a required one cannot be attached.
    """
    settled = [attached.hook for attached in useless]
    result = [useless[settled.index(hook)] if hook in settled else _attach_one(bpf, hook) for hook in wanted]
    for attached in result:
        if strict and attached.hook.required and attached.at is None:
            raise UserError(
                f"this kernel has none of {', '.join(attached.hook.at)}, which the probes need "
                f"({attached.why}); it cannot be traced."
            )
    return result


def _attach_one(bpf: Any, hook: Hook) -> Attached:
    why = NO_FUNCTION
    for place, kind, module, function_name in matching.places(hook, _has):
        # MODULE:FUNCTION, where several modules have a function of that name.
        name = f"{module}:{function_name}" if module else function_name
        function = hook.program_at(place)
        try:
            with _native_stderr() as said:
                match kind:
                    case "kprobe":
                        bpf.attach_kprobe(event=name, fn_name=function)
                    case "kretprobe":
                        bpf.attach_kretprobe(event=name, fn_name=function)
                    case "raw_tracepoint":
                        bpf.attach_raw_tracepoint(tp=name, fn_name=function)
                    case _:
                        raise ValueError(f"{place}: unknown kind of hook")
            return Attached(hook, place)
        except Exception as error:
            why = _first_error(said) or str(error)
    return Attached(hook, None, why)


def _has(place: matching.Place) -> bool:
    """Tell whether the running kernel may have a place; of a tracepoint only attaching to it will tell."""
    return place.kind == "raw_tracepoint" or bcc().BPF.ksymname(place.name) != -1


def detach(bpf: Any) -> None:
    """Take every probe off; the maps stay.

    bcc closes a probe, which takes it off, and then looks into tracefs for what is left of it. If that fails,
    as it does when tracefs was unmounted in the meantime, nothing has to be done.
    """
    for name in list(bpf.kprobe_fds):
        with contextlib.suppress(Exception):
            bpf.detach_kprobe_event(name)
    for name in list(bpf.raw_tracepoint_fds):
        with contextlib.suppress(Exception):
            bpf.detach_raw_tracepoint(name)


def regime(driver: Driver, programs: Collection[str]) -> str:
    """Return the name of the first regime that fits this kernel: how its driver retries a failed refill.

    :param programs: those that were attached.
    """
    return next(
        (
            each.name
            for each in driver.regimes
            if set(each.hooks) <= set(programs)
            and all(bcc().BPF.ksymname(function) != -1 for function in each.functions)
        ),
        "not known",
    )


def misses(bpf: Any) -> dict[str, int] | None:
    """Return how often the kernel skipped each program, since one was running on that CPU already.

    The kernel counts that as recursion_misses in fdinfo (bpf_prog_show_fdinfo in kernel/bpf/syscall.c, from
    5.12 on); None if it does not.
    """
    found = {}
    for name, function in bpf.funcs.items():
        about = Path(f"/proc/self/fdinfo/{function.fd}").read_text()
        if match := re.search(r"^recursion_misses:\s*(\d+)$", about, re.MULTILINE):
            found[name.decode()] = int(match[1])
    return found or None


def _first_error(said: list[str]) -> str:
    """Return the line of a compiler's or loader's output that matters most."""
    return next((line.strip() for line in said if "error:" in line), "")


@contextmanager
def _native_stderr() -> Iterator[list[str]]:
    """Collect what C libraries print on stderr meanwhile, which would run into the display."""
    said: list[str] = []
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            said.extend(file.read().decode(errors="replace").splitlines())
