# SPDX-License-Identifier: GPL-2.0-only
"""What the Vagrantfile tells libvirt of a machine."""

import os
from pathlib import Path
from typing import Any

from vm.image import image
from vm.machines import Machine
from vm.qemu import command
from vm.qemu.accel import Accel, remembered
from vm.vagrant import box, processes

#: On pcie.0, above the slots that libvirt gives out; later NICs follow, so that they are eth1, eth2, ...
FIRST_NIC_SLOT = 0x10


def describe(machine: Machine, home: Path, key: str) -> dict[str, Any]:
    """Return all that the Vagrantfile does not know by itself.

    :param home: Vagrant's own directory, which has the boxes.
    :param key: the public key that Vagrant comes with.
    """
    there = (home / "boxes" / box.name(machine).replace("/", "-VAGRANTSLASH-")).is_dir()
    name = _box(machine, there)
    own_box = name.startswith(box.OURS)
    files = processes.files(machine.name)
    description = {
        "hindrance": _hindrance(machine, there),
        "box": name,
        "own_box": own_box,
        "accel": accel(),
        "directory": str(files.directory),
        "emulator": str(files.directory / "qemu") if needs_newer_qemu(machine) else None,
        "memory_mb": machine.memory_mb,
        "shares_memory": machine.shares_memory,
        "cpus": machine.cpus,
        "management": machine.management,
        "swap": machine.swap and {"gib": machine.swap.gib, "bytes_per_second": machine.swap.bytes_per_second},
        "cmdline": " ".join(machine.cmdline),
        "packages": list(machine.packages),
        "environment": image.environment(machine),
        "start": list(machine.start),
        "wires": {
            f"eth{number + 1}": str(files.nic(number))
            for number, nic in enumerate(machine.nics)
            if not nic.hub
        },
    }
    if description["hindrance"] is None:
        description["argv"] = _argv(machine) + (command.authorized_key(key) if own_box else [])
    return description


def accel() -> Accel:
    """Return the accelerator: RXSTALL_ACCEL, or what a trial boot of `python -m vm` has shown."""
    wanted = os.environ.get("RXSTALL_ACCEL")
    if wanted is None:
        return remembered()
    return "kvm" if wanted == "kvm" else "tcg"


def needs_newer_qemu(machine: Machine) -> bool:
    """Whether the system's QEMU may be too old: for a NIC of our own, or an emulated CPU."""
    return machine.shares_memory or accel() == "tcg"


def _hindrance(machine: Machine, there: bool) -> str | None:
    """Return why Vagrant cannot run a machine; None if it can."""
    if _must_own(machine) and not there:
        return f"it needs a box of its own (`python -m vm box {machine.name}` makes it)"
    if machine.foreign:
        return f"only `python -m vm` emulates {machine.architecture}"
    if machine.config:
        return "it boots a kernel that only `python -m vm` compiles"
    if any(nic.queues > 1 for nic in machine.nics):
        return "it has a NIC of a kind that only `python -m vm` can make"
    return None


def _box(machine: Machine, there: bool) -> str:
    """Return the box that `python -m vm box` added, else Debian's own from the public registry."""
    wanted = os.environ.get("RXSTALL_BOX")
    if wanted and not _must_own(machine):
        return wanted
    return box.name(machine) if there else f"debian/{machine.release}64"


def _must_own(machine: Machine) -> bool:
    """Whether only a box of ours has what the machine boots."""
    return bool(machine.xen or machine.kernel)


def _argv(machine: Machine) -> list[str]:
    """Return what QEMU is told besides what libvirt tells it."""
    words = []
    for number, nic in enumerate(machine.nics):
        place = {"bus": "pcie.0", "addr": f"{FIRST_NIC_SLOT + number:#x}"}
        words += command.nic(number, nic, processes.files(machine.name), place)
    if accel() == "tcg":
        # Of several, the last one counts.
        words += ["-cpu", command.cpu(machine, "tcg")]
    return words
