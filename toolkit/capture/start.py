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
    :param ifindexes: of the devices that were asked for; empty: all.
    :param program: the compiled program, and in words against what it was compiled.
    """

    options: Options
    facts: list[dict[str, Any]]
    identities: list[int | None]
    devices: list[dict[str, Any]]
    ifindexes: list[int]
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
    ifindexes = choose(devices, options)
    pool = ThreadPoolExecutor(1, "rxt-compile")
    compiled = pool.submit(_compile, options)
    pool.shutdown(wait=False)
    return Start(options, facts, identities, devices, ifindexes, compiled)


def _compile(options: Options) -> tuple[Any, str]:
    macros = program.defines(
        options.drivers,
        full=options.full,
        only_devices=bool(options.devices),
        only_queues=bool(options.queues),
    )
    return program.compile_program(options.drivers, macros)


def choose(devices: list[dict[str, Any]], options: Options) -> list[int]:
    """Return the interface indexes of the devices asked for; none: all.

    :raises UserError: if a device or a queue is not there.
    """
    by_name = {device["name"]: device for device in devices}
    names = ", ".join(driver.name for driver in options.drivers)
    if unknown := [name for name in options.devices if name not in by_name]:
        raise UserError(f"no device {unknown[0]!r} of {names}; there is: {', '.join(by_name) or 'none'}.")
    chosen = [by_name[name] for name in options.devices] or devices
    known = {queue["queue"] for device in chosen for queue in device["queues"]}
    # Of some devices only the events will tell.
    tell = all(device["queues"] for device in chosen)
    if tell and (unknown_queues := [queue for queue in options.queues if queue not in known]):
        raise UserError(
            f"no queue {unknown_queues[0]} on {', '.join(device['name'] for device in chosen)}; "
            f"there is: {', '.join(map(str, sorted(known)))}."
        )
    return [device["ifindex"] for device in chosen] if options.devices else []
