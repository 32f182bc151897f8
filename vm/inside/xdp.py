# SPDX-License-Identifier: GPL-2.0-only
"""XDP programs of a few instructions, as bytes, and AF_XDP sockets: bpf(2) and socket(2), without a library.

Numbers and structs are those of include/uapi/linux/bpf.h and if_xdp.h.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from toolkit.capture.loader import bpf, verified
from toolkit.errors import UserError

_MAP_CREATE, _MAP_UPDATE, _LINK_CREATE = 0, 2, 28
_PROG_TYPE_XDP, _ATTACH_XDP, _DRIVER_MODE = 6, 37, 4
_MAP_TYPE_XSKMAP, _PSEUDO_MAP_FD = 17, 1
_REDIRECT_MAP, _KTIME = 51, 5
_XDP_PASS = 2

AF_XDP, SOL_XDP = 44, 283
_MMAP_OFFSETS, _RX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING = 1, 2, 4, 5, 6
_PGOFF_RX, _PGOFF_FILL = 0, 0x1_0000_0000
_ZEROCOPY, _NEED_WAKEUP = 4, 8
CHUNK = 4096
"""Bytes of a buffer."""

_libc = ctypes.CDLL(None, use_errno=True)


def busy(turns: int) -> bytes:
    """Return a program that asks for the time so often, and passes the frame on."""
    return b"".join(
        [
            _instruction(0xB7, 6, imm=turns),
            _instruction(0x85, imm=_KTIME),
            _instruction(0x07, 6, imm=-1),
            _instruction(0x55, 6, offset=-3),
            _instruction(0xB7, 0, imm=_XDP_PASS),
            _instruction(0x95),
        ]
    )


def _into(table: int) -> bytes:
    """Return a program that gives each frame to its queue's socket in a map, if there is one."""
    rx_queue_index = 16
    return b"".join(
        [
            _instruction(0x61, 2, 1, offset=rx_queue_index),
            _instruction(0x18, 1, _PSEUDO_MAP_FD, imm=table),
            _instruction(0),
            _instruction(0xB7, 3, imm=_XDP_PASS),
            _instruction(0x85, imm=_REDIRECT_MAP),
            _instruction(0x95),
        ]
    )


def _instruction(code: int, to: int = 0, source: int = 0, *, offset: int = 0, imm: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | to, offset, imm)


@contextmanager
def attached(device: str, name: str, program: bytes) -> Iterator[None]:
    """Have the driver of a device run a program for each frame, for the length of the block.

    :param name: of the program, of at most 15 characters: the kernel calls its function so.
    :raises UserError: if the kernel refuses.
    """
    loaded = _load(name, program)
    try:
        ifindex = socket.if_nametoindex(device)
        link = bpf(_LINK_CREATE, struct.pack("=IIII", loaded, ifindex, _ATTACH_XDP, _DRIVER_MODE))
    finally:
        os.close(loaded)
    try:
        yield
    finally:
        os.close(link)


def _load(name: str, program: bytes) -> int:
    """Load a program, and return its descriptor.

    :raises UserError: if the kernel refuses it, with its words.
    """
    try:
        return verified(_PROG_TYPE_XDP, name, program, "GPL")
    except OSError as error:
        raise UserError(f"the kernel refuses the XDP program: {error.strerror}.") from None


class Socket:
    """An AF_XDP socket that has all frames of a queue put into its own buffers, without a copy.

    The kernel takes free buffers from the fill ring and puts those with frames on the rx ring. Both are rings
    of numbers in shared memory, each with a producer's and a consumer's place.

    :param wakeup: whether the driver may sleep when it has no buffer, until it is woken up.
    :raises UserError: if the driver has no such sockets.
    """

    def __init__(self, device: str, queue: int, buffers: int, *, wakeup: bool) -> None:
        self._socket = socket.socket(AF_XDP, socket.SOCK_RAW, 0)
        self.buffers = mmap.mmap(-1, buffers * CHUNK)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffers))
        umem = struct.pack("=QQIIII", address, len(self.buffers), CHUNK, 0, 0, 0)
        self._socket.setsockopt(SOL_XDP, _UMEM_REG, umem[:32])
        for ring in (_FILL_RING, _COMPLETION_RING, _RX_RING):
            self._socket.setsockopt(SOL_XDP, ring, buffers)
        # Of each ring: producer, consumer, descriptors, flags; of rx, tx, fill and completion.
        places = struct.unpack("=16Q", self._socket.getsockopt(SOL_XDP, _MMAP_OFFSETS, 128))
        self._rx = Ring(self._socket, _PGOFF_RX, places[0:4], buffers, "=QII")
        self._fill = Ring(self._socket, _PGOFF_FILL, places[8:12], buffers, "=Q")
        for number in range(buffers):
            self._fill.put(number * CHUNK)
        flags = _ZEROCOPY | (_NEED_WAKEUP if wakeup else 0)
        name = struct.pack("=HHIII", AF_XDP, flags, socket.if_nametoindex(device), queue, 0)
        if _libc.bind(self._socket.fileno(), name, len(name)):
            why = os.strerror(ctypes.get_errno())
            raise UserError(f"{device}: no AF_XDP socket without a copy: {why}.")

    def fileno(self) -> int:
        """Return the descriptor, which is readable when frames are on the rx ring."""
        return self._socket.fileno()

    def give_back(self) -> int:
        """Hand all buffers with frames back to the kernel; return how many there were."""
        count = 0
        while found := self._rx.take():
            self._fill.put(found[0] // CHUNK * CHUNK)
            count += 1
        return count

    @contextmanager
    def receiving(self, device: str) -> Iterator[None]:
        """Have the device's frames given to this socket, for the length of the block."""
        table = bpf(_MAP_CREATE, struct.pack("=IIII", _MAP_TYPE_XSKMAP, 4, 4, 64))
        key, value = ctypes.c_uint32(0), ctypes.c_uint32(self.fileno())
        words = map(ctypes.addressof, (key, value))
        bpf(_MAP_UPDATE, struct.pack("=I4xQQQ", table, *words, 0))
        with attached(device, "into_socket", _into(table)):
            yield


class HasFileno(Protocol):
    """What can be mapped."""

    def fileno(self) -> int:
        """Return its descriptor."""
        ...


class Ring:
    """One ring of an AF_XDP socket, mapped from its descriptor.

    :param page: where the ring is, among those of the socket.
    :param places: offsets of the producer's place, the consumer's, the descriptors, and flags.
    :param size: how many descriptors the ring has room for.
    :param layout: of a descriptor.
    """

    def __init__(self, owner: HasFileno, page: int, places: tuple[int, ...], size: int, layout: str) -> None:
        self._producer, self._consumer, self._descriptors, _ = places
        self._size, self._layout = size, struct.Struct(layout)
        length = self._descriptors + size * self._layout.size
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._memory = mmap.mmap(owner.fileno(), length, flags, protection, offset=page)

    def put(self, *words: int) -> None:
        """Add a descriptor. There is always room: the ring is as large as there are buffers."""
        place = self._get(self._producer)
        self._layout.pack_into(self._memory, self._at(place), *words)
        self._set(self._producer, place + 1)

    def take(self) -> tuple[int, ...] | None:
        """Take the oldest descriptor; None if there is none."""
        place = self._get(self._consumer)
        if place == self._get(self._producer):
            return None
        found = self._layout.unpack_from(self._memory, self._at(place))
        self._set(self._consumer, place + 1)
        return found

    def _at(self, place: int) -> int:
        return self._descriptors + place % self._size * self._layout.size

    def _get(self, offset: int) -> int:
        return int(ctypes.c_uint32.from_buffer(self._memory, offset).value)

    def _set(self, offset: int, value: int) -> None:
        ctypes.c_uint32.from_buffer(self._memory, offset).value = value & 0xFFFFFFFF
