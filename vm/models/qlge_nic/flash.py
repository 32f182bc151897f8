# SPDX-License-Identifier: GPL-2.0-only
"""The part of the flash that the driver reads at probe: who the adapter is."""

from struct import pack_into, unpack

from vm.models.qlge_nic.registers import DEVICE_ID_8000, DEVICE_ID_8012

#: By device: the address in dwords, size in bytes, and where in it the size, the checksum and the MAC are
#: (struct flash_params_8000 and _8012; FUNC0_FLASH_OFFSET).
_LAYOUT = {
    DEVICE_ID_8000: (0x140200 // 4, 512, 6, 8, 18),
    DEVICE_ID_8012: (0, 20, 4, 6, 12),
}


def image(device: int, mac: bytes) -> dict[int, int]:
    """Return the adapter's parameters, valid for ``qlge_validate_flash``: the little-endian 16-bit words sum
    to 0.

    :param device: 0x8000 or 0x8012.
    :param mac: six octets.
    :return: 32-bit words by their address in dwords.
    """
    address, size, size_at, checksum_at, mac_at = _LAYOUT[device]
    data = bytearray(size)
    data[:4] = f"{device:04x}".encode()
    pack_into("<H", data, size_at, size)
    data[mac_at : mac_at + 6] = mac
    pack_into("<H", data, checksum_at, -sum(unpack(f"<{size // 2}H", data)) & 0xFFFF)
    words = unpack(f"<{size // 4}I", data)
    return {address + number: word for number, word in enumerate(words)}
