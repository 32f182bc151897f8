# SPDX-License-Identifier: GPL-2.0-only
"""Turn a work queue's control block into the frames that it means (qlge_send, qlge_map_send)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from vm.models.qlge_nic import offload
from vm.models.qlge_nic.headers import TCP, UDP
from vm.models.qlge_nic.registers import (
    MAX_FRAME,
    OB_RSP_E,
    OB_RSP_L,
    OB_RSP_S,
    OB_TRANSPORT_HDR_SHIFT,
    OB_TSO_IC,
    OB_TSO_LSO,
    OB_TSO_TC,
    OB_TSO_UC,
    OB_V,
    OPCODE_OB_MAC_TSO_IOCB,
    TX_DESC_C,
    TX_DESC_E,
    TX_DESC_LEN_MASK,
)
from vm.vfio_user.memory import GuestMemory

_REQUEST = Struct("<BxBB8xIIIHHHH")
_DESCRIPTORS_AT = _REQUEST.size
_DESCRIPTOR = Struct("<QI")
#: A frame's length has 18 bits (OB_MAC_IOCB_LEN_MASK).
_LONGEST = 0x3FFFF
_ETHERNET = 14


class Request(NamedTuple):
    """struct qlge_ob_mac_tso_iocb_req; a request without offload is the same with zeros."""

    opcode: int
    flags2: int
    flags3: int
    length: int
    transaction: int
    work_queue: int
    headers: int
    offsets: int
    vlan: int
    mss: int

    @classmethod
    def parse(cls, block: memoryview) -> Request:
        return cls._make(_REQUEST.unpack_from(block))

    @property
    def network(self) -> int:
        return self.offsets & (1 << OB_TRANSPORT_HDR_SHIFT) - 1

    @property
    def transport(self) -> int:
        return self.offsets >> OB_TRANSPORT_HDR_SHIFT


def gather(block: memoryview, memory: GuestMemory) -> bytearray:
    """Return the frame that a control block's descriptors list.

    A descriptor may lead to a longer list (struct qlge_oal).

    :raises DmaError: if a part is out of reach.
    """
    frame = bytearray()
    at, listed = _DESCRIPTORS_AT, False
    while at + _DESCRIPTOR.size <= len(block) and len(frame) <= _LONGEST:
        address, word = _DESCRIPTOR.unpack_from(block, at)
        length = word & TX_DESC_LEN_MASK
        at += _DESCRIPTOR.size
        if not word & TX_DESC_C:
            frame += memory.view(address, length)
        elif listed:
            break
        else:
            block, at, listed = memory.view(address, length), 0, True
        if word & TX_DESC_E:
            break
    return frame


def frames(request: Request, frame: bytearray) -> tuple[Iterable[bytearray], int]:
    """Return the frames for the wire, and what the completion says of them (OB_MAC_IOCB_RSP)."""
    if len(frame) != request.length:
        return (), OB_RSP_E
    if len(frame) < _ETHERNET:
        return (), OB_RSP_S
    offloaded = request.opcode == OPCODE_OB_MAC_TSO_IOCB
    if offloaded and not _ETHERNET <= request.network < request.transport <= len(frame) - 8:
        return (), OB_RSP_E
    if offloaded and request.flags2 & OB_TSO_LSO:
        if not request.mss or not request.transport + 20 <= request.headers < len(frame):
            return (), OB_RSP_E
        cut = offload.segments(frame, request.network, request.transport, request.headers, request.mss)
        return (_tagged(request, segment) for segment in cut), 0
    if offloaded:
        _fill(request, frame)
    return (_tagged(request, frame),), OB_RSP_L if len(frame) > MAX_FRAME else 0


def _fill(request: Request, frame: bytearray) -> None:
    if request.flags3 & OB_TSO_IC and frame[request.network] >> 4 == 4:
        offload.fill_ip_checksum(frame, request.network)
    if request.flags2 & (OB_TSO_TC | OB_TSO_UC):
        tcp = request.flags2 & OB_TSO_TC and request.transport + 20 <= len(frame)
        offload.fill_checksum(frame, request.transport, TCP if tcp else UDP)


def _tagged(request: Request, frame: bytearray) -> bytearray:
    if request.flags3 & OB_V:
        offload.tag(frame, request.vlan)
    return frame
