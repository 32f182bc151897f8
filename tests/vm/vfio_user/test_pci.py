# SPDX-License-Identifier: GPL-2.0-only
from struct import unpack_from

from vm.vfio_user import pci

WHO = pci.Identity(0x1077, 0x8000, 0x1077, 0x0027, 0x020000, 1)


def space() -> pci.ConfigurationSpace:
    capabilities = [pci.Capability(0x09, b"\x04v1", bytes(3)), pci.msix(16, (1, 0x2000), (1, 0x3000))]
    return pci.ConfigurationSpace(WHO, {1: 0x4000, 3: 0x100000}, capabilities)


def test_configuration_space_has_the_devices_identity() -> None:
    data = space().read(0, pci.SIZE)
    assert unpack_from("<HH", data) == (0x1077, 0x8000)
    assert unpack_from("<HH", data, 0x2C) == (0x1077, 0x0027)
    assert unpack_from("<I", data, 8) == (0x02000001,)


def test_capabilities_are_chained() -> None:
    data = space().read(0, pci.SIZE)
    assert data[6] & 0x10
    at, ids = data[0x34], []
    while at:
        ids.append(data[at])
        last, at = at, data[at + 1]
    assert ids == [0x09, 0x11]
    assert unpack_from("<HII", data, last + 2) == (15, 0x2001, 0x3001)


def test_size_of_a_bar_is_found_by_writing_ones() -> None:
    made = space()
    made.write(0x14, b"\xff" * 8)
    made.write(0x1C, b"\xff" * 8)
    first, second = unpack_from("<QQ", made.read(0x14, 16))
    assert (first & 15, second & 15) == (4, 4)
    assert (-(first & ~15) & (1 << 64) - 1, -(second & ~15) & (1 << 64) - 1) == (0x4000, 0x100000)
    assert made.read(0x10, 4) == bytes(4)


def test_only_writable_bits_change() -> None:
    made = space()
    made.write(0, b"\xff" * pci.SIZE)
    data = made.read(0, pci.SIZE)
    assert unpack_from("<HHH", data) == (0x1077, 0x8000, 0x0547)
    assert unpack_from("<H", data, 0x48 + 2) == (0xC00F,)
    assert unpack_from("<II", data, 0x48 + 4) == (0x2001, 0x3001)
