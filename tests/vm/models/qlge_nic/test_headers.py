# SPDX-License-Identifier: GPL-2.0-only
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vm.models.qlge_nic.frames import datagram, tcp
from vm.models.qlge_nic.headers import NOTHING, examine


def seen(frame: bytes) -> tuple[int, int, int, int]:
    headers = examine(memoryview(frame))
    return headers.flags1, headers.flags2, headers.flags3, headers.port


@pytest.mark.parametrize("size", [42, 43, 60, 999, 1500, 9014])
def test_udp_header_is_told(size: int) -> None:
    assert seen(datagram(size, 9005)) == (0, 0x20, 0x08, 9005)


@pytest.mark.parametrize(("version", "flags3"), [(4, 0x08), (6, 0x10)])
@pytest.mark.parametrize("data", [b"", b"x", b"some data"])
def test_tcp_header_is_told(version: int, flags3: int, data: bytes) -> None:
    assert seen(tcp(data, version=version)) == (0, 0x40, flags3, 2)


def test_padding_does_not_count() -> None:
    assert seen(tcp(b"") + b"padding") == (0, 0x40, 0x08, 2)


def test_udp_without_checksum() -> None:
    frame = bytearray(datagram(60))
    frame[40:42] = b"\0\0"
    assert seen(bytes(frame)) == (0x08, 0x20, 0x08, 9000)


def test_fragment_has_no_ports() -> None:
    frame = bytearray(datagram(60))
    frame[20] |= 0x20
    frame[24:26] = ((int.from_bytes(frame[24:26], "big") - 0x2000) % 0xFFFF).to_bytes(2, "big")
    assert seen(bytes(frame)) == (0, 0, 0x08, -1)


def test_truncated_headers_are_none() -> None:
    for version in (4, 6):
        frame = tcp(b"some data", version=version)
        assert all(examine(memoryview(frame[:size])) == NOTHING for size in range(len(frame)))


@given(st.binary(min_size=14, max_size=100), st.sampled_from([b"\x08\0\x45", b"\x86\xdd\x60", b""]))
def test_any_bytes_can_be_examined(data: bytes, kind: bytes) -> None:
    frame = data[:12] + kind + data[12 + len(kind) :]
    examine(memoryview(frame))
