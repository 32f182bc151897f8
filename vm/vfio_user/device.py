# SPDX-License-Identifier: GPL-2.0-only
"""The parts of a PCI device that a server offers: regions, vectors and a way to reset it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vm.vfio_user.irqs import Irqs
from vm.vfio_user.memory import GuestMemory

#: Indices that <linux/vfio.h> gives the regions of a PCI device; its BARs are 0 to 5.
CONFIG_REGION, REGIONS = 7, 9
#: Interrupt types: INTx, MSI, MSI-X, errors, requests.
MSIX_INDEX, IRQ_TYPES = 2, 5


@dataclass(frozen=True)
class Region:
    """A region of the device.

    :param read: takes offset and bytes; the access is known to lie inside the region.
    :param write: takes offset and data.
    :param descriptor: a file as large as the region; `areas` (offset and size) of it the client may map. What
        it writes there arrives without a message.
    """

    size: int
    read: Callable[[int, int], bytes]
    write: Callable[[int, bytes], None]
    descriptor: int | None = None
    areas: tuple[tuple[int, int], ...] = ()


@dataclass
class Device:
    """A PCI device.

    :param regions: by index; the others are of size 0.
    :param reset: is called when the client asks for it, and when it has gone.
    """

    regions: dict[int, Region]
    irqs: Irqs
    reset: Callable[[], None]
    memory: GuestMemory = field(default_factory=GuestMemory)
