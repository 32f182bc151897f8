# SPDX-License-Identifier: GPL-2.0-only
"""Which completion queue a frame goes to: addresses, VLANs, the 16 routing slots, and RSS."""

from __future__ import annotations

import logging
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from vm.models.qlge_nic.headers import Headers
from vm.models.qlge_nic.registers import (
    CAM_OUT_CQ_ID_SHIFT,
    IB_B,
    IB_IE,
    IB_M_IPV4,
    IB_M_IPV6,
    IB_M_PROM,
    IB_M_REG,
    IB_M_TCP_V4,
    IB_M_TCP_V6,
    IB_P,
    IB_T,
    IB_TE,
    IB_V4,
    IDX_E,
    MAC_ADDR_TYPE_CAM_MAC,
    MAC_ADDR_TYPE_MULTI_MAC,
    MAC_ADDR_TYPE_VLAN,
    NIC_RCV_CFG_DFQ_SHIFT,
    NIC_RCV_CFG_VLAN_MASK,
    NIC_RCV_CFG_VLAN_MATCH_AND_NON,
    NIC_RCV_CFG_VLAN_MATCH_ONLY,
    NIC_RCV_CFG_VLAN_NONE_AND_NON,
    RSS_RI4,
    RSS_RI6,
    RSS_RT4,
    RSS_RT6,
    RT_IDX_BCAST,
    RT_IDX_CAM_HIT,
    RT_IDX_DST_CAM_Q,
    RT_IDX_DST_RSS,
    RT_IDX_IP_CSUM_ERR,
    RT_IDX_MAX_NIC_SLOTS,
    RT_IDX_MCAST,
    RT_IDX_MCAST_MATCH,
    RT_IDX_RSS_MATCH,
    RT_IDX_TU_CSUM_ERR,
    RT_IDX_TYPE_NICQ,
    RT_IDX_VALID,
)

log = logging.getLogger(__name__)

_BROADCAST = b"\xff" * 6
#: struct ricb: base queue, flags, mask, 1024 queues, the two keys.
RICB = Struct("<BBH1024s40s16s")


class Destination(NamedTuple):
    """Where a frame goes, and how it matched.

    :param queue: the completion queue.
    :param flags1: how a multicast or broadcast frame matched; `flags2` whether only promiscuity took it;
        `flags3` how RSS matched; `rss` its hash. All are bits of the completion.
    """

    queue: int
    flags1: int = 0
    flags2: int = 0
    flags3: int = 0
    rss: int = 0


class Rss:
    """The RSS control block (qlge_start_rss): Toeplitz hashes of flows, and the queues by hash."""

    def __init__(self, control_block: bytes) -> None:
        base, flags, mask, queues, key6, key4 = RICB.unpack(control_block)
        self.base, self.flags, self.mask, self.queues = int(base) & 0x7F, int(flags), int(mask), bytes(queues)
        self.hash4, self.hash6 = (lru_cache(1024)(_Toeplitz(key)) for key in (key4, key6))

    def match(self, headers: Headers) -> tuple[int, int]:
        """Return flags3 of the completion and the hash of a frame; 0, 0 if no part of it is hashed."""
        four, tcp = headers.flags3 & IB_V4, headers.flags2 & IB_T
        digest = self.hash4 if four else self.hash6
        if tcp and self.flags & (RSS_RT4 if four else RSS_RT6):
            return IB_M_TCP_V4 if four else IB_M_TCP_V6, digest(headers.flow)
        if headers.addresses and self.flags & (RSS_RI4 if four else RSS_RI6):
            return IB_M_IPV4 if four else IB_M_IPV6, digest(headers.addresses)
        return 0, 0

    def queue(self, digest: int) -> int:
        return self.base + self.queues[digest & self.mask & 1023]


class _Toeplitz:
    """The hash of RSS (Microsoft's definition): for each bit set in the data, 32 bits of the key."""

    def __init__(self, key: bytes) -> None:
        self.key, self.bits = int.from_bytes(key, "big"), 8 * len(key)

    def __call__(self, data: bytes) -> int:
        digest, number, bits = 0, int.from_bytes(data, "big"), 8 * len(data)
        for bit in range(bits):
            if number >> (bits - 1 - bit) & 1:
                digest ^= self.key >> (self.bits - 32 - bit)
        return digest & 0xFFFFFFFF


class Steering:
    """The tables, as the driver writes them through MAC_ADDR_IDX and RT_IDX."""

    def __init__(self) -> None:
        self.rss: Rss | None = None
        self.receive_config = 0
        #: Queues by UDP or TCP destination port. No such rule is in the hardware: an experiment places frames
        #: with it on a ring that neither ARP nor IPv6 reaches.
        self.ports: dict[int, int] = {}
        self._words: dict[tuple[int, int, int], int] = {}
        self._unicast: dict[bytes, int] = {}
        self._multicast: dict[int, bytes] = {}
        self._vlans: set[int] = set()
        #: Mask and kind of destination of each slot; the first slot that matches decides.
        self._slots = [(0, 0)] * RT_IDX_MAX_NIC_SLOTS
        self._used: list[tuple[int, int]] = []

    def address_word(self, kind: int, index: int, word: int) -> int:
        """Read MAC_ADDR_DATA (qlge_get_mac_addr_reg)."""
        return self._words.get((kind, index, word), 0)

    def set_address_word(self, kind: int, index: int, word: int, value: int, enabled: bool) -> None:
        """Write MAC_ADDR_DATA (qlge_set_mac_addr_reg).

        An address comes in a lower and an upper word, an address of the adapter itself also with the queue.
        An address of zeros is none.
        """
        self._words[kind, index, word] = value
        if kind == MAC_ADDR_TYPE_CAM_MAC and word == 2:
            self._unicast = self._own_addresses()
            log.info("addresses: %s", ", ".join(each.hex(":") for each in self._unicast) or "none")
        elif kind == MAC_ADDR_TYPE_MULTI_MAC and word == 1:
            self._multicast[index] = self._address(kind, index) if enabled else b""

    def set_vlan(self, vlan: int, enabled: bool) -> None:
        (self._vlans.add if enabled else self._vlans.discard)(vlan)

    def slot(self, index: int) -> int:
        """Read RT_DATA (qlge_get_routing_reg)."""
        return self._slots[index % RT_IDX_MAX_NIC_SLOTS][0]

    def set_slot(self, control: int, mask: int) -> None:
        """Write RT_DATA (qlge_set_routing_reg); `control` is what RT_IDX holds."""
        if control >> 16 & 0xF != RT_IDX_TYPE_NICQ:
            return
        index = control >> 8 & (RT_IDX_MAX_NIC_SLOTS - 1)
        self._slots[index] = (mask if control & IDX_E else 0, control >> 20 & 7)
        self._used = [slot for slot in self._slots if slot[0]]

    def accepts_vlan(self, tag: int) -> bool:
        """Tell whether frames of a VLAN are accepted.

        :param tag: of the frame, with its priority; -1 without one.
        """
        mode = self.receive_config & NIC_RCV_CFG_VLAN_MASK
        if tag < 0:
            return mode != NIC_RCV_CFG_VLAN_MATCH_ONLY
        if mode in (NIC_RCV_CFG_VLAN_MATCH_ONLY, NIC_RCV_CFG_VLAN_MATCH_AND_NON):
            return tag & 0xFFF in self._vlans
        return mode != NIC_RCV_CFG_VLAN_NONE_AND_NON

    def find(self, address: bytes, headers: Headers) -> Destination | None:
        """Find the completion queue of a frame.

        :param address: the frame's destination.
        :return: None if nobody wants the frame.
        """
        matched, own = self._match(address)
        if matched & (RT_IDX_CAM_HIT | RT_IDX_BCAST | RT_IDX_MCAST_MATCH):
            if headers.flags1 & IB_IE:
                matched |= RT_IDX_IP_CSUM_ERR
            elif headers.flags1 & IB_TE:
                matched |= RT_IDX_TU_CSUM_ERR
        flags3 = digest = 0
        if matched & RT_IDX_CAM_HIT:
            if headers.port in self.ports:
                return Destination(self.ports[headers.port])
            if self.rss is not None and not headers.flags1 & (IB_IE | IB_TE):
                flags3, digest = self.rss.match(headers)
                if flags3:
                    matched |= RT_IDX_RSS_MATCH
        for mask, kind in self._used:
            if not mask & matched:
                continue
            if kind == RT_IDX_DST_RSS and self.rss is not None:
                return Destination(self.rss.queue(digest), 0, 0, flags3, digest)
            queue = own if kind == RT_IDX_DST_CAM_Q else self.default_queue
            return Destination(queue, _cast(matched), IB_P if mask == RT_IDX_VALID else 0)
        return None

    @property
    def default_queue(self) -> int:
        return self.receive_config >> NIC_RCV_CFG_DFQ_SHIFT & 0x7F

    def _match(self, address: bytes) -> tuple[int, int]:
        if address == _BROADCAST:
            return RT_IDX_VALID | RT_IDX_BCAST, 0
        if address[0] & 1:
            known = RT_IDX_MCAST_MATCH if address in self._multicast.values() else 0
            return RT_IDX_VALID | RT_IDX_MCAST | known, 0
        own = self._unicast.get(address)
        return (RT_IDX_VALID, 0) if own is None else (RT_IDX_VALID | RT_IDX_CAM_HIT, own)

    def _address(self, kind: int, index: int) -> bytes:
        lower, upper = (self._words.get((kind, index, word), 0) for word in (0, 1))
        return ((upper & 0xFFFF) << 32 | lower).to_bytes(6, "big")

    def _own_addresses(self) -> dict[bytes, int]:
        found = {}
        for kind, index, word in self._words:
            if (kind, word) == (MAC_ADDR_TYPE_CAM_MAC, 2):
                output = self._words[kind, index, word]
                found[self._address(kind, index)] = output >> CAM_OUT_CQ_ID_SHIFT & 0x7F
        found.pop(bytes(6), None)
        return found


def address_control(value: int) -> tuple[int, int, int, bool]:
    """Return the kind, index and word that MAC_ADDR_IDX names, and its enable bit."""
    return value >> 16 & 0xF, value >> 4 & 0xFFF, value & 0xF, bool(value & IDX_E)


def is_vlan(value: int) -> bool:
    """Tell whether MAC_ADDR_IDX names a VLAN: then there is no data word."""
    return value >> 16 & 0xF == MAC_ADDR_TYPE_VLAN


def _cast(matched: int) -> int:
    if matched & RT_IDX_BCAST:
        return IB_B
    if matched & RT_IDX_MCAST_MATCH:
        return IB_M_REG
    return IB_M_PROM if matched & RT_IDX_MCAST else 0
