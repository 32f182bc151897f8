# SPDX-License-Identifier: GPL-2.0-only
"""The first step of a trace: what is there to be traced, and the compiler at work on the probes.

That needs neither numpy nor Arrow: those are imported meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from toolkit import drivers
from toolkit.capture import command, kernel, loader, maps, program
from toolkit.capture.kernel import Functions
from toolkit.capture.loader import Loaded
from toolkit.capture.maps import Chosen
from toolkit.driver import Driver
from toolkit.errors import UserError


@dataclass(frozen=True)
class Options:
    """What to trace; empty lists mean all. The trace lasts for a `duration` [s] at most, and no longer than
    the `command` that runs meanwhile, if there is one. While no refill fails, batches are written every
    `flush` [s]; None: as often as while one fails.
    """

    drivers: Sequence[Driver]
    devices: Sequence[str] = ()
    queues: Sequence[int] = ()
    duration: float | None = None
    full: bool = False
    ring_mib: int | None = None
    command: Sequence[str] = ()
    flush: float | None = None


@dataclass(frozen=True)
class Start:
    """What a trace begins with.

    :param facts: of each driver's module (kernel.module_facts).
    :param identities: of each driver's module; another identity means that the module was loaded again
        (kernel.module_identity).
    :param devices: those of the drivers (devices_of).
    :param chosen: the devices that were asked for, or that probes for any driver are for; of other drivers,
        all if none was asked for.
    :param ring: size of the kernel's ring of events, in bytes.
    :param program: the program whose maps are in the kernel, and the kernel's functions then.
    """

    options: Options
    facts: list[dict[str, Any]]
    identities: list[int | None]
    devices: list[dict[str, Any]]
    chosen: list[Chosen]
    ring: int
    program: Future[tuple[Loaded, Functions]]


def drivers_to_trace(names: Sequence[str], devices: Sequence[str]) -> list[Driver]:
    """Return the drivers that were named; or else those of some devices; or else all that are there.

    A device whose driver has no directory is left to the probes for any driver, which are the last.

    :param devices: as in Options.
    :raises UserError: if a driver is not known, or none is left.
    """
    if names:
        chosen = [drivers.load(name) for name in dict.fromkeys(names)]
        return sorted(chosen, key=lambda driver: driver.of_any)
    known = [drivers.load(name) for name in drivers.names()]
    loaded = [driver for driver in known if kernel.module_identity(driver.module) is not None]
    own, of_any = [driver for driver in loaded if not driver.of_any], drivers.of_any()
    # A device in another network namespace may be of any of those that have probes of their own.
    if any("/" in name for name in devices):
        own = [driver for driver in own if not driver.by_polls]
        if not own:
            raise UserError("name the driver of a device in another network namespace (toolkit drivers).")
        return own
    bound = {driver.name: {path.name for path in kernel.paths(driver, devices)} for driver in loaded}
    asked = set(devices) or {name for name in bound[of_any.name] if kernel.is_up(name)}
    own = [driver for driver in own if bound[driver.name] & asked or not (devices or driver.by_polls)]
    left = asked - {name for driver in own for name in bound[driver.name]}
    if left and not left <= bound[of_any.name]:
        raise UserError(
            f"there is no NIC {min(left - bound[of_any.name])!r}; there is: "
            f"{', '.join(sorted(set().union(*bound.values()))) or 'none'}."
        )
    if not own and not left:
        raise UserError("no NIC is up, and no module is loaded that could be traced without one.")
    return [*own, of_any] if left else own


def devices_of(options: Options) -> list[dict[str, Any]]:
    """Return the devices of the drivers that are to be traced, each once (kernel.devices).

    Of those that are traced by their polls, these are the ones that were asked for, or that are up.
    """
    found: dict[int, dict[str, Any]] = {}
    for driver in options.drivers:
        for device in kernel.devices(driver, options.devices):
            name = device["name"]
            if driver.by_polls and not (name in options.devices if options.devices else kernel.is_up(name)):
                continue
            found.setdefault(device["ifindex"], device)
    return list(found.values())


def untraced(options: Options, traced: Collection[str]) -> set[str]:
    """Return the NICs that are up and that the probes of a running trace do not see.

    :param traced: names of the devices that are traced.
    """
    own = {path.name for driver in options.drivers if not driver.by_polls for path in kernel.paths(driver)}
    every = {path.name for path in kernel.paths(drivers.of_any())}
    return {name for name in every - own - set(traced) if kernel.is_up(name)}


def begin(options: Options) -> Start:
    """Look at what is there, and start the compiler in a thread of its own.

    :raises UserError: if the user may not trace this kernel, a module is not loaded, or a device, a queue or
        the command is not there.
    """
    kernel.require_root()
    kernel.require_open()
    command.require(options.command)
    chosen_drivers = options.drivers
    devices = devices_of(options)
    facts = [
        kernel.facts(driver, [device for device in devices if device["driver"] == driver.name])
        for driver in chosen_drivers
    ]
    identities = [kernel.module_identity(driver.module) for driver in chosen_drivers]
    chosen = choose(devices, options)
    ring = ring_bytes(options.ring_mib)
    pool = ThreadPoolExecutor(1, "rxt-compile")
    loaded = pool.submit(
        load,
        chosen_drivers,
        ring,
        full=options.full,
        only_devices=bool(options.devices),
        only_queues=bool(options.queues),
    )
    pool.shutdown(wait=False)
    return Start(options, facts, identities, devices, chosen, ring, loaded)


def ring_bytes(mib: int | None) -> int:
    """Return the size of the kernel's ring of events, a power of two.

    By default it is the largest up to 1/128 of this machine's memory, but 8 MiB at least and 128 at most:
    of a million events a second, 8 MiB hold those of 0.1 s, and 128 MiB those of nearly two seconds.

    :param mib: what was asked for; it is rounded up.
    """
    if mib is not None:
        return (1 << (mib - 1).bit_length()) << 20
    share = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 128
    return min(max(1 << share.bit_length() - 1, 8 << 20), 128 << 20)


def load(
    chosen_drivers: Sequence[Driver],
    ring: int,
    *,
    full: bool = False,
    only_devices: bool = False,
    only_queues: bool = False,
) -> tuple[Loaded, Functions]:
    """Compile the probes of drivers, make their maps, and tell them where the poll functions are.

    :param ring: size of the ring of events, in bytes; a power of two.
    :return: the program, of which nothing is attached yet, and the kernel's functions.
    :raises UserError: if this kernel lacks what the probes read, or they do not compile.
    """
    macros = program.defines(chosen_drivers, full=full, only_devices=only_devices, only_queues=only_queues)
    bpf = loader.load(program.compile_program(chosen_drivers, macros), {"events": ring})
    functions = kernel.functions()
    maps.set_polls(bpf, chosen_drivers, functions)
    return bpf, functions


def choose(devices: list[dict[str, Any]], options: Options) -> list[Chosen]:
    """Return the devices asked for; empty: all. Probes for any driver take only those that they are given.

    NAMESPACE/DEVICE is a device in a network namespace that has a name. Only its events will tell whether the
    device is there.

    :raises UserError: if a device, a queue or a namespace is not there.
    """
    names = ", ".join(driver.name for driver in options.drivers)
    there, here = kernel.namespaces(), kernel.netns()
    by_name = {device["name"]: device for device in devices}
    by_polls = {driver.name: number for number, driver in enumerate(options.drivers) if driver.by_polls}
    chosen = []
    for asked in options.devices:
        namespace, _, name = asked.rpartition("/")
        if namespace and namespace not in there:
            raise UserError(
                f"no network namespace {namespace!r}; there is: {', '.join(there) or 'none with a name'}."
            )
        if not namespace and name not in by_name:
            raise UserError(f"no device {name!r} of {names}; there is: {', '.join(by_name) or 'none'}.")
        # Only the drivers that were named tell what a device in another namespace is traced by.
        by = by_name[name]["driver"] if name in by_name and not namespace else options.drivers[-1].name
        chosen.append(Chosen(there[namespace] if namespace else here, name, by_polls.get(by)))
    if by_polls and not options.devices:
        chosen = [Chosen(here, device["name"], by_polls.get(device["driver"])) for device in devices]
    looked_at = [by_name[name] for name in options.devices if name in by_name] or devices
    known = {queue["queue"] for device in looked_at for queue in device["queues"]}
    # The queues of some devices are known by their events only.
    tell = all(device["queues"] for device in looked_at) and not any("/" in name for name in options.devices)
    if tell and (unknown_queues := [queue for queue in options.queues if queue not in known]):
        raise UserError(
            f"no queue {unknown_queues[0]} on {', '.join(device['name'] for device in looked_at)}; "
            f"there is: {', '.join(map(str, sorted(known)))}."
        )
    return chosen
