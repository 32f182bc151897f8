# SPDX-License-Identifier: GPL-2.0-only
"""The counters of the MAC, in the registers from which ``ethtool -S`` reads them (qlge_update_stats)."""

from __future__ import annotations

from bisect import bisect_left

#: Upper ends of the size classes but the last, bytes without the check sequence.
_SIZES = (64, 127, 255, 511, 1023, 1518)
_CLASS = bytes(bisect_left(_SIZES, size) for size in range(_SIZES[-1] + 1))
_BROADCAST = b"\xff" * 6


class Direction:
    """Counters of frames in one direction."""

    def __init__(self) -> None:
        self.frames = self.bytes = self.broadcast = self.multicast = self.oversize = self.undersize = 0
        self.sizes = [0] * (len(_SIZES) + 1)

    def count(self, destination: bytes, size: int) -> None:
        self.frames += 1
        self.bytes += size
        self.sizes[_CLASS[size] if size < len(_CLASS) else len(_SIZES)] += 1
        if destination[0] & 1:
            if destination == _BROADCAST:
                self.broadcast += 1
            else:
                self.multicast += 1

    @property
    def unicast(self) -> int:
        return self.frames - self.broadcast - self.multicast


class Statistics:
    def __init__(self) -> None:
        self.rx, self.tx = Direction(), Direction()
        #: Frames for which the NIC had no room: no buffer, or no place in the completion queue.
        self.fifo_drops = 0

    def register(self, address: int) -> int:
        """Return half of a 64-bit counter: the low half at a multiple of 8, the high half behind it."""
        value = self._counters().get(address & ~7, 0)
        return value >> 32 & 0xFFFFFFFF if address & 4 else value & 0xFFFFFFFF

    def _counters(self) -> dict[int, int]:
        tx, rx = self.tx, self.rx
        sent = (tx.frames, tx.bytes, tx.multicast, tx.broadcast, tx.unicast, 0, 0, *tx.sizes, tx.undersize)
        good = (rx.bytes, rx.bytes, rx.frames, rx.frames, rx.broadcast, rx.multicast, rx.unicast)
        counters = {0x200 + 8 * number: value for number, value in enumerate((*sent, tx.oversize))}
        counters |= {0x300 + 8 * number: value for number, value in enumerate(good)}
        counters |= {0x338: rx.undersize, 0x340: rx.oversize, 0x358: self.fifo_drops, 0x5B8: self.fifo_drops}
        return counters | {0x390 + 8 * number: value for number, value in enumerate(rx.sizes)}
