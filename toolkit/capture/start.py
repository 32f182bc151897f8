# SPDX-License-Identifier: GPL-2.0-only
"""The first step of a trace: what is there to be traced, and the compiler at work on the probes.

Compiling takes longest, and needs neither numpy nor Arrow: those are imported while it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from toolkit.capture import command, kernel, program
from toolkit.drivers import Driver
from toolkit.errors import UserError


@dataclass(frozen=True)
class Options:
    """What to trace; empty lists mean all. The trace lasts for a `duration` [s] at most, and no longer than
    the `command` that runs meanwhile, if there is one."""

    drivers: Sequence[Driver]
    devices: Sequence[str] = ()
    queues: Sequence[int] = ()
    duration: float | None = None
    full: bool = False
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Start:
    """What a trace begins with.

    :param facts: of each driver's module (kernel.module_facts).
    :param identities: of each driver's module, to know when it is another (kernel.module_identity).
    :param devices: all of the drivers' devices (kernel.devices).
    :param chosen: the devices that were asked for, each by network namespace (inode number) and name; empty:
        all.
    :param program: the compiled program, and in words against what it was compiled.
    """

    options: Options
    facts: list[dict[str, Any]]
    identities: list[int | None]
    devices: list[dict[str, Any]]
    chosen: list[tuple[int, str]]
    program: Future[tuple[Any, str]]


def begin(options: Options) -> Start:
    """Look at what is there, and start the compiler in a thread of its own.

    :raises UserError: if the user may not trace, a module is not loaded, or a device, a queue or the command
        is not there.
    """
    kernel.require_root()
    command.require(options.command)
    drivers = options.drivers
    facts = [kernel.module_facts(driver.module) for driver in drivers]
    identities = [kernel.module_identity(driver.module) for driver in drivers]
    devices = [device for driver in drivers for device in kernel.devices(driver)]
    chosen = choose(devices, options)
    pool = ThreadPoolExecutor(1, "rxt-compile")
    compiled = pool.submit(_compile, options)
    pool.shutdown(wait=False)
    return Start(options, facts, identities, devices, chosen, compiled)


def _compile(options: Options) -> tuple[Any, str]:
    macros = program.defines(
        options.drivers,
        full=options.full,
        only_devices=bool(options.devices),
        only_queues=bool(options.queues),
    )
    return program.compile_program(options.drivers, macros)


def choose(devices: list[dict[str, Any]], options: Options) -> list[tuple[int, str]]:
    """Return the devices asked for, each by network namespace (inode number) and name; none: all.

    NAMESPACE/DEVICE is a device in a network namespace that has a name; only its events will tell whether it
    is there.

    :raises UserError: if a device, a queue or a namespace is not there.
    """
    names = ", ".join(driver.name for driver in options.drivers)
    there, here = kernel.namespaces(), kernel.netns()
    by_name = {device["name"]: device for device in devices}
    chosen = []
    for asked in options.devices:
        namespace, _, name = asked.rpartition("/")
        if namespace and namespace not in there:
            raise UserError(
                f"no network namespace {namespace!r}; there is: {', '.join(there) or 'none with a name'}."
            )
        if not namespace and name not in by_name:
            raise UserError(f"no device {name!r} of {names}; there is: {', '.join(by_name) or 'none'}.")
        chosen.append((there[namespace] if namespace else here, name))
    looked_at = [by_name[name] for name in options.devices if name in by_name] or devices
    known = {queue["queue"] for device in looked_at for queue in device["queues"]}
    # Of some devices only the events will tell.
    tell = all(device["queues"] for device in looked_at) and not any("/" in name for name in options.devices)
    if tell and (unknown_queues := [queue for queue in options.queues if queue not in known]):
        raise UserError(
            f"no queue {unknown_queues[0]} on {', '.join(device['name'] for device in looked_at)}; "
            f"there is: {', '.join(map(str, sorted(known)))}."
        )
    return chosen
