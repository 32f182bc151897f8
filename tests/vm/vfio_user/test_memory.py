# SPDX-License-Identifier: GPL-2.0-only
import errno
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vm.vfio_user.memory import DmaError, GuestMemory

READ, WRITE = 1, 2
SIZE = 1 << 16


@pytest.fixture
def ram() -> Iterator[int]:
    """A file of 64 KiB whose every page begins with its number."""
    descriptor = os.memfd_create("ram")
    os.truncate(descriptor, SIZE)
    for page in range(16):
        os.pwrite(descriptor, bytes([page]), page * 4096)
    yield descriptor
    os.close(descriptor)


def _mappings() -> int:
    return Path("/proc/self/maps").read_text().count("/memfd:ram")


def test_address_is_looked_up_in_its_own_map(ram: int) -> None:
    memory = GuestMemory()
    memory.map(0x10000, 8192, READ, ram, 4096)
    memory.map(0x40000, 4096, READ, ram, 8 * 4096)
    memory.map(0x0, 4096, READ, ram)
    assert len(memory) == 3
    assert [memory.read(at, 1)[0] for at in (0x0, 0x10000, 0x11000, 0x40000)] == [0, 1, 2, 8]


def test_what_is_written_is_in_the_file_and_the_other_way_round(ram: int) -> None:
    memory = GuestMemory()
    memory.map(0x10000, 4096, READ | WRITE, ram, 4096)
    memory.write(0x10010, b"by the device")
    assert os.pread(ram, 13, 4096 + 0x10) == b"by the device"
    view = memory.view(0x10020, 5)
    os.pwrite(ram, b"guest", 4096 + 0x20)
    assert bytes(view) == b"guest"


@pytest.mark.parametrize(
    ("address", "size"), [(0xFFFF, 1), (0xFFFF, 2), (0x12000, 1), (0x11FFF, 2), (0, 1), (1 << 64, 1)]
)
def test_range_outside_a_map_is_out_of_reach(ram: int, address: int, size: int) -> None:
    memory = GuestMemory()
    memory.map(0x10000, 8192, READ | WRITE, ram)
    with pytest.raises(DmaError, match=f"{size} bytes at {address:#x} are not mapped"):
        memory.read(address, size)


def test_range_across_two_maps_is_out_of_reach(ram: int) -> None:
    memory = GuestMemory()
    memory.map(0x10000, 4096, READ, ram)
    memory.map(0x11000, 4096, READ, ram, 4096)
    assert memory.read(0x10FFF, 1) + memory.read(0x11000, 1) == b"\0\1"
    with pytest.raises(DmaError):
        memory.read(0x10FFF, 2)


@pytest.mark.parametrize(
    ("flags", "read", "write"),
    [(0, False, False), (READ, True, False), (WRITE, False, True), (READ | WRITE, True, True)],
)
def test_map_is_used_only_as_it_allows(ram: int, flags: int, read: bool, write: bool) -> None:
    memory = GuestMemory()
    memory.map(0, 4096, flags, ram)
    uses: list[tuple[bool, Callable[[], object]]] = [
        (read, lambda: memory.read(0, 1)),
        (write, lambda: memory.write(0, b"x")),
    ]
    for allowed, act in uses:
        if allowed:
            act()
        else:
            with pytest.raises(DmaError, match=r"0x0 is mapped, but not for (read|writ)ing"):
                act()


def test_map_without_a_file_is_kept_and_of_no_use() -> None:
    memory = GuestMemory()
    memory.map(0, 4096, READ | WRITE)
    assert len(memory) == 1
    with pytest.raises(DmaError, match="mapped, but not for reading"):
        memory.read(0, 1)


@pytest.mark.parametrize(
    ("start", "size", "number"),
    [
        (0x10000, 0, errno.EINVAL),
        ((1 << 64) - 4096, 8192, errno.EINVAL),
        (0x20000, 4096, errno.EEXIST),
        (0x20FFF, 4096, errno.EEXIST),
        (0x1F001, 4096, errno.EEXIST),
        (0x1F000, 0x3000, errno.EEXIST),
    ],
)
def test_map_must_not_be_empty_nor_overlap(start: int, size: int, number: int) -> None:
    memory = GuestMemory()
    memory.map(0x20000, 4096, READ)
    with pytest.raises(OSError) as error:
        memory.map(start, size, READ)
    assert error.value.errno == number
    assert len(memory) == 1
    memory.map(0x1F000, 4096, READ)
    memory.map(0x21000, 4096, READ)


def test_file_must_be_as_large_as_its_map(ram: int) -> None:
    memory = GuestMemory()
    with pytest.raises(OSError, match="the file is smaller"):
        memory.map(0, 8192, READ, ram, SIZE - 4096)
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="no file"):
        memory.map(0, 4096, READ, reading)
    os.close(reading)
    os.close(writing)
    assert len(memory) == 0


def test_unmap_takes_exactly_one_map(ram: int) -> None:
    memory = GuestMemory()
    memory.map(0x10000, 8192, READ, ram)
    for start, size in ((0x10000, 4096), (0x11000, 4096), (0, 0x20000), (0x20000, 8192)):
        with pytest.raises(OSError) as error:
            memory.unmap(start, size)
        assert error.value.errno == errno.ENOENT
    assert memory.read(0x10000, 1) == b"\0"
    memory.unmap(0x10000, 8192)
    # Also if the map that was used last is the one that went.
    with pytest.raises(DmaError):
        memory.read(0x10000, 1)


def test_generation_changes_with_every_map_and_unmap(ram: int) -> None:
    memory = GuestMemory()
    seen = [memory.generation]
    steps: list[Callable[[], None]] = [
        lambda: memory.map(0, 4096, READ, ram),
        lambda: memory.unmap(0, 4096),
        lambda: memory.map(0, 4096, READ, ram),
        memory.unmap_all,
    ]
    for step in steps:
        step()
        seen.append(memory.generation)
    assert len(set(seen)) == 5
    assert len(memory) == 0


def test_file_is_mapped_once_and_as_long_as_it_is_used(ram: int) -> None:
    """QEMU sends tens of parts of one memfd."""
    memory = GuestMemory()
    for part in range(16):
        memory.map(part * 4096, 4096, READ, ram, part * 4096)
    assert _mappings() == 1
    kept = memory.view(0x3000, 1)
    memory.unmap_all()
    assert (_mappings(), bytes(kept)) == (1, b"\3")
    del kept
    assert _mappings() == 0


def test_file_that_grew_is_mapped_anew() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        memory = GuestMemory()
        memory.map(0, mmap.PAGESIZE, READ | WRITE, file.fileno())
        file.truncate(2 * mmap.PAGESIZE)
        memory.map(mmap.PAGESIZE, mmap.PAGESIZE, READ | WRITE, file.fileno(), mmap.PAGESIZE)
        memory.write(0, b"a")
        memory.write(mmap.PAGESIZE, b"b")
        assert os.pread(file.fileno(), 1, 0) + os.pread(file.fileno(), 1, mmap.PAGESIZE) == b"ab"
