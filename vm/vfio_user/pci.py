# SPDX-License-Identifier: GPL-2.0-only
"""A PCI function's configuration space (PCI Local Bus 3.0, chapter 6), as much of it as a NIC needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, pack_into

SIZE = 256
FIRST_CAPABILITY = 0x40
_COMMAND, _STATUS, _CACHE_LINE, _LATENCY, _BAR0, _CAPABILITIES, _INTERRUPT_LINE = 4, 6, 12, 13, 16, 0x34, 0x3C
# I/O, memory, bus master, parity errors, SERR, INTx off
_COMMAND_WRITABLE = 0x0547
_STATUS_HAS_CAPABILITIES = 0x10
_BAR_64_BIT = 0x4
_MSIX_ID, _MSIX_WRITABLE = 0x11, 0xC000


@dataclass(frozen=True)
class Identity:
    vendor: int
    device: int
    subsystem_vendor: int
    subsystem: int
    #: base class, subclass and interface
    class_code: int
    revision: int = 0


@dataclass(frozen=True)
class Capability:
    """A capability of the configuration space.

    :param body: what follows its id and the pointer to the next; `writable` says which bits of it are.
    """

    id: int
    body: bytes
    writable: bytes


def msix(vectors: int, table: tuple[int, int], pending: tuple[int, int]) -> Capability:
    """Return the MSI-X capability (PCI 3.0, 6.8.2).

    :param table: BAR and offset of the vector table; `pending` those of the pending bits.
    """
    body = pack("<HII", vectors - 1, table[1] | table[0], pending[1] | pending[0])
    return Capability(_MSIX_ID, body, pack("<HII", _MSIX_WRITABLE, 0, 0))


class ConfigurationSpace:
    """The bytes of a configuration space, and which of their bits a write may change.

    :param bars: size of the memory BAR by number; all are 64 bits wide, so that each takes two numbers.
    """

    def __init__(self, who: Identity, bars: dict[int, int], capabilities: Sequence[Capability]) -> None:
        self._bytes = bytearray(SIZE)
        self._writable = bytearray(SIZE)
        pack_into("<HH", self._bytes, 0, who.vendor, who.device)
        pack_into("<I", self._bytes, 8, who.class_code << 8 | who.revision)
        pack_into("<HH", self._bytes, 0x2C, who.subsystem_vendor, who.subsystem)
        pack_into("<H", self._writable, _COMMAND, _COMMAND_WRITABLE)
        for offset in (_CACHE_LINE, _LATENCY, _INTERRUPT_LINE):
            self._writable[offset] = 0xFF
        for number, size in bars.items():
            pack_into("<Q", self._bytes, _BAR0 + 4 * number, _BAR_64_BIT)
            pack_into("<Q", self._writable, _BAR0 + 4 * number, (1 << 64) - size)
        self._chain(capabilities)

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self._bytes[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Change the bits that may be changed; a driver's write to others has no effect."""
        for at, new in enumerate(data, offset):
            mask = self._writable[at]
            self._bytes[at] = self._bytes[at] & ~mask | new & mask

    def _chain(self, capabilities: Sequence[Capability]) -> None:
        link, at = _CAPABILITIES, FIRST_CAPABILITY
        for capability in capabilities:
            self._bytes[link] = at
            self._bytes[at] = capability.id
            self._bytes[at + 2 : at + 2 + len(capability.body)] = capability.body
            self._writable[at + 2 : at + 2 + len(capability.writable)] = capability.writable
            link = at + 1
            at += (2 + len(capability.body) + 3) & ~3
        if capabilities:
            pack_into("<H", self._bytes, _STATUS, _STATUS_HAS_CAPABILITIES)
