# SPDX-License-Identifier: GPL-2.0-only
"""The parts of the guest's memory that the client has mapped for the device."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from bisect import bisect_right
from dataclasses import dataclass
from weakref import WeakValueDictionary


class DmaError(Exception):
    """An address that the device cannot reach."""


class _File(mmap.mmap):
    """One mapping of a whole file; it ends when the last view of it is gone."""


@dataclass(frozen=True)
class Map:
    """A stretch of the guest's physical addresses. `view` is None where the client sent no descriptor."""

    start: int
    end: int
    view: memoryview | None
    readable: bool
    writeable: bool


_NOWHERE = Map(0, 0, None, False, False)


class GuestMemory:
    """The maps of the guest's memory, by address.

    A range must lie in one map: QEMU's maps are those of the machine's RAM, and no buffer of a driver crosses
    their borders.

    A file is mapped once, however many of its parts are: QEMU sends tens of parts of one memfd.
    """

    def __init__(self) -> None:
        #: Changes with each map and unmap: then a caller that keeps a view must look it up again.
        self.generation = 0
        self._maps: list[Map] = []
        self._starts: list[int] = []
        self._last = _NOWHERE
        self._files: WeakValueDictionary[tuple[int, int, bool], _File] = WeakValueDictionary()

    def map(self, start: int, size: int, flags: int, descriptor: int | None = None, offset: int = 0) -> None:
        """Add a map.

        :param flags: MAP_READABLE and MAP_WRITEABLE; a map that is neither is accepted, and of no use.
        :param descriptor: the file that backs it; stays the caller's.
        :raises OSError: EEXIST over another map, EINVAL if the range or the file is too small for it.
        """
        end = start + size
        if size == 0 or end > 1 << 64:
            raise OSError(errno.EINVAL, "the range is empty or too large")
        at = bisect_right(self._starts, start)
        if (at and self._maps[at - 1].end > start) or (at < len(self._maps) and self._maps[at].start < end):
            raise OSError(errno.EEXIST, "the range is mapped")
        readable, writeable = bool(flags & 1), bool(flags & 2)
        view = None
        if descriptor is not None:
            view = self._whole(descriptor, writeable, offset + size)[offset : offset + size]
        self._maps.insert(at, Map(start, end, view, readable, writeable))
        self._changed()

    def unmap(self, start: int, size: int) -> None:
        """Remove a map.

        :raises OSError: ENOENT unless exactly this range was mapped.
        """
        at = bisect_right(self._starts, start) - 1
        if at < 0 or (self._maps[at].start, self._maps[at].end) != (start, start + size):
            raise OSError(errno.ENOENT, "the range is not mapped")
        del self._maps[at]
        self._changed()

    def unmap_all(self) -> None:
        self._maps.clear()
        self._changed()

    def __len__(self) -> int:
        return len(self._maps)

    def view(self, address: int, size: int, *, write: bool = False) -> memoryview:
        """Return the guest's memory itself; see `generation`.

        :raises DmaError: if the range is not all in one map, or may not be accessed in this way.
        """
        found = self._last
        if not (found.start <= address and address + size <= found.end):
            found = self._find(address, size)
        if found.view is None or not (found.writeable if write else found.readable):
            raise DmaError(f"{address:#x} is mapped, but not for {'writing' if write else 'reading'}")
        offset = address - found.start
        return found.view[offset : offset + size]

    def read(self, address: int, size: int) -> bytes:
        """Read from the guest's memory.

        :raises DmaError: as :meth:`view` does.
        """
        return bytes(self.view(address, size))

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write to the guest's memory.

        :raises DmaError: as :meth:`view` does.
        """
        self.view(address, len(data), write=True)[:] = data

    def _find(self, address: int, size: int) -> Map:
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address + size > self._maps[at].end:
            raise DmaError(f"{size} bytes at {address:#x} are not mapped")
        self._last = self._maps[at]
        return self._last

    def _changed(self) -> None:
        self._starts = [each.start for each in self._maps]
        self._last = _NOWHERE
        self.generation += 1

    def _whole(self, descriptor: int, writeable: bool, needed: int) -> memoryview:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size < needed:
            raise OSError(errno.EINVAL, "the file is smaller than the map, or no file")
        key = (status.st_dev, status.st_ino, writeable)
        whole = self._files.get(key)
        if whole is None or len(whole) < needed:
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if writeable else 0)
            whole = self._files[key] = _File(descriptor, status.st_size, mmap.MAP_SHARED, protection)
        return memoryview(whole)
