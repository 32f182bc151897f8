# SPDX-License-Identifier: GPL-2.0-only
import selectors
from pathlib import Path
from struct import pack, unpack

import pytest

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import MAC


@pytest.mark.parametrize(
    ("device", "size", "at", "mac_at"), [(0x8000, 512, 0x50080, 18), (0x8012, 20, 0, 12)]
)
def test_flash_has_the_address_and_its_checksum(
    tmp_path: Path, loop: selectors.BaseSelector, device: int, size: int, at: int, mac_at: int
) -> None:
    """qlge_get_8000_flash_params, qlge_get_8012_flash_params and qlge_validate_flash"""
    made = Bench(tmp_path, loop, device_id=device)
    words = [made.driver.read_behind(0x88, at + number) for number in range(size // 4)]
    data = pack(f"<{size // 4}I", *words)
    assert data[:4] == f"{device:04x}".encode() and data[mac_at : mac_at + 6] == MAC
    assert sum(unpack(f"<{size // 2}H", data)) & 0xFFFF == 0
    assert made.driver.read_behind(0x88, at + size // 4) == 0xFFFFFFFF
    made.close()
