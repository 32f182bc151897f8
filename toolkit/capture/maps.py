# SPDX-License-Identifier: GPL-2.0-only
"""What a program is told by its maps (filters, declared rings, whether to send), and the names in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from toolkit.capture import kernel, matching
from toolkit.capture.btf import Member, kernel_btf, module_btf
from toolkit.capture.kernel import Functions
from toolkit.capture.program import Attached
from toolkit.driver import Driver
from toolkit.errors import UserError


class Chosen(NamedTuple):
    """A device that is traced: its network namespace (inode number), its name there, and the number of its
    driver if that is traced by its polls (Driver.by_polls)."""

    netns: int
    name: str
    by_polls: int | None = None


class Tables(Protocol):
    """A program in the kernel, by the names of its maps (loader.Loaded)."""

    def __getitem__(self, name: str, /) -> Any: ...


#: RXT_BY_OWN_PROBES and RXT_BY_POLLS in probes/core/device.c.
_BY_OWN_PROBES, _BY_POLLS = 1, 2


def set_filters(bpf: Tables, devices: Collection[Chosen], queues: Collection[int]) -> None:
    """Tell the program which devices and queues to send events of; empty means all."""
    table = bpf["only_devices"]
    for device in devices:
        by = _BY_OWN_PROBES if device.by_polls is None else _BY_POLLS + device.by_polls
        table[table.Key(device.netns, device.name.encode())] = table.Leaf(by)
    table = bpf["only_queues"]
    for number in queues:
        table[table.Key(number)] = table.Leaf(1)


def set_polls(bpf: Tables, drivers: Sequence[Driver], functions: Functions) -> None:
    """Tell the program where the poll functions of those drivers are that name one."""
    table = bpf["poll_functions"]
    for number, driver in enumerate(drivers):
        if driver.poll and (address := functions.address(driver.poll)):
            table[table.Key(number)] = table.Leaf(address)


def set_rings(bpf: Tables, drivers: Sequence[Driver]) -> list[Attached]:
    """Tell the program where the members of declared rings are.

    :return: the hooks that are of no use, since this kernel lacks members of the ring, and which.
    """
    useless = []
    for number, driver in enumerate(drivers):
        if not driver.ring:
            continue
        try:
            with module_btf(driver.module) if kernel.has_btf(driver.module) else kernel_btf() as types:
                places, missing = matching.ring(driver.ring, types)
        except UserError as error:
            places, missing = {}, [str(error)]
        if missing:
            useless += without_ring(driver, missing)
            continue
        table = bpf["rings"]
        table[table.Key(number)] = ring_leaf(table.Leaf(), driver, places)
    return useless


def without_ring(driver: Driver, missing: Sequence[str]) -> list[Attached]:
    """Return the hooks at which a declared ring is seen, of no use since these members of it are missing."""
    why = f"this kernel's BTF lacks {', '.join(missing)}"
    return [Attached(hook, None, why) for hook in driver.ring_hooks]


def ring_leaf(leaf: Any, driver: Driver, places: Mapping[str, Member]) -> Any:
    """Return a struct rxt_ring (probes/core/ring.c), filled for a declared ring.

    :param places: as matching.ring returns them.
    """
    assert driver.ring
    for name, place in places.items():
        if name == "napi":
            leaf.napi = place.offset + 1
            continue
        member = getattr(leaf, "count" if name == "mask" else name)
        member.offset, member.size = place.offset, place.size
        member.pointer = 0 if place.pointer is None else place.pointer + 1
    leaf.more, leaf.size = int("mask" in places), driver.ring.size
    leaf.step, leaf.behind = driver.ring.step, driver.ring.behind
    return leaf


def device_name(bpf: Tables, number: int) -> tuple[int, str] | None:
    """Ask the program what it knows of a device.

    :param number: what events call it.
    :return: its network namespace (inode number) and its name there; None if no queue of it was ever seen.
    """
    table = bpf["devices"]
    found = table.get(table.Key(number))
    return None if found is None else (int(found.name.netns), found.name.name.decode(errors="replace"))


def thread_name(bpf: Tables, tid: int) -> str | None:
    """Return what a thread was called when it had a CPU for long; None if the program does not know."""
    table = bpf["threads"]
    found = table.get(table.Key(tid))
    return None if found is None else found.name.decode(errors="replace")


def stack(bpf: Tables, number: int) -> list[int]:
    """Return the addresses that a stack of the kernel is made of, by the number that events call it.

    :return: the outermost comes first. Empty if the program does not know the stack.
    """
    table = bpf["stacks"]
    found = table.get(table.Key(number))
    return [address for address in reversed(found.ip) if address] if found is not None else []


def arm(bpf: Tables, on: bool) -> None:
    """Let events through, or drop them.

    Events are dropped until all hooks are attached: an entry probe without its return probe would record
    refills that never end.
    """
    table = bpf["armed"]
    table[table.Key(0)] = table.Leaf(int(on))
