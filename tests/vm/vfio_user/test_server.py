# SPDX-License-Identifier: GPL-2.0-only
import errno
import mmap
import os
import selectors
import socket
from pathlib import Path

import pytest

from tests.vm.vfio_user.client import Client, RefusedError, turn
from tests.vm.vfio_user.conftest import AREA, SIZE, Scratch, gained_descriptors
from vm.vfio_user import messages as m
from vm.vfio_user.memory import DmaError
from vm.vfio_user.messages import Command
from vm.vfio_user.server import Server

RAM = 1 << 20


def memfd(size: int = RAM) -> int:
    descriptor = os.memfd_create("ram")
    os.truncate(descriptor, size)
    return descriptor


def refused(client: Client, command: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> int:
    with pytest.raises(RefusedError) as error:
        client.call(command, payload, fds)
    return error.value.number


def test_version_is_agreed_on_as_a_subset(server: Server) -> None:
    client = Client(server.path, server.loop)
    agreed = client.negotiate(
        write_multiple=False, migration={"pgsize": 4096}, twin_socket={"supported": True}
    )
    assert agreed == {"max_msg_fds": 16, "max_data_xfer_size": 1 << 20}
    assert refused(client, Command.VERSION, m.VERSION.pack(0, 1)) == errno.EINVAL
    client.close()


def test_version_without_capabilities_and_of_a_higher_minor(server: Server) -> None:
    client = Client(server.path, server.loop)
    assert client.call(Command.VERSION, m.VERSION.pack(0, 9)) == m.VERSION.pack(0, 1)
    client.close()


@pytest.mark.parametrize(
    "first",
    [
        m.command(1, Command.DEVICE_RESET),
        m.command(1, Command.VERSION, m.VERSION.pack(1, 0)),
        m.command(1, Command.VERSION, m.VERSION.pack(0, 1) + b"no JSON\0"),
        m.command(1, Command.VERSION, m.VERSION.pack(0, 1) + b"[]\0"),
        m.command(1, Command.VERSION, m.VERSION.pack(0, 1) + b'{"capabilities": 3}\0'),
        m.command(1, Command.VERSION, m.VERSION.pack(0, 1) + b"[" * 5000),
        m.HEADER.pack(1, Command.VERSION, 15, 0, 0),
        m.HEADER.pack(1, Command.VERSION, m.MAX_SIZE + 1, 0, 0),
        m.HEADER.pack(1, Command.VERSION, 16, m.REPLY, 0),
    ],
)
def test_first_message_that_ends_the_connection(server: Server, first: bytes) -> None:
    client = Client(server.path, server.loop)
    client.send(first)
    assert client.hung_up()
    client.close()
    again = Client(server.path, server.loop)
    assert again.negotiate()
    again.close()


def test_device_info_counts_regions_and_irqs(client: Client) -> None:
    answer = client.call(Command.DEVICE_GET_INFO, m.DEVICE_INFO.pack(16, 0, 0, 0))
    assert m.DEVICE_INFO.unpack(answer) == (16, m.DEVICE_RESETS | m.DEVICE_IS_PCI, 9, 5)
    assert refused(client, Command.DEVICE_GET_INFO, m.DEVICE_INFO.pack(15, 0, 0, 0)) == errno.EINVAL


def test_region_info_has_size_and_flags(client: Client) -> None:
    assert client.region_info(0) == ((32, m.REGION_READS | m.REGION_WRITES, 0, 0, SIZE, 0), b"", [])
    assert client.region_info(8)[0] == (32, 0, 8, 0, 0, 0)
    assert (
        refused(client, Command.DEVICE_GET_REGION_INFO, m.REGION_INFO.pack(32, 0, 9, 0, 0, 0)) == errno.EINVAL
    )


def test_mapped_area_is_shared(client: Client, scratch: Scratch) -> None:
    info, capabilities, received = client.region_info(1)
    assert info[:5] == (64, 15, 1, 32, SIZE)
    assert m.SPARSE_MMAP.unpack_from(capabilities) == (1, 1, 0, 1, 0)
    assert m.AREA.unpack_from(capabilities, m.SPARSE_MMAP.size) == AREA
    with mmap.mmap(received[0], AREA[1], offset=info[5] + AREA[0]) as mapped:
        os.close(received[0])
        mapped[4:8] = b"bell"
        assert scratch.shared[AREA[0] + 4 : AREA[0] + 8] == b"bell"
    assert client.read(1, AREA[0] + 4, 4) == b"bell"


def test_region_is_read_and_written(client: Client, scratch: Scratch) -> None:
    client.write(0, 12, b"abcd")
    assert scratch.plain[12:16] == b"abcd" and client.read(0, 12, 4) == b"abcd"
    assert client.read(0, 0, SIZE) == scratch.plain


@pytest.mark.parametrize(
    ("offset", "region", "count"), [(SIZE - 3, 0, 4), (0, 2, 4), (0, 0, 0), (1 << 63, 0, 4), (0, 77, 1)]
)
def test_region_access_outside(client: Client, offset: int, region: int, count: int) -> None:
    head = m.REGION_ACCESS.pack(offset, region, count)
    assert refused(client, Command.REGION_READ, head) == errno.EINVAL
    assert refused(client, Command.REGION_WRITE, head + b"x" * count) == errno.EINVAL


def test_write_that_carries_another_size(client: Client) -> None:
    assert refused(client, Command.REGION_WRITE, m.REGION_ACCESS.pack(0, 0, 4) + b"abc") == errno.EINVAL


def test_write_multi(client: Client, scratch: Scratch) -> None:
    writes = [m.ONE_WRITE.pack(8 * n, 0, 4, b"%04d" % n) for n in range(3)]
    payload = m.WRITE_MULTI.pack(3) + b"".join(writes)
    assert client.call(Command.REGION_WRITE_MULTI, payload) == m.WRITE_MULTI.pack(3)
    assert scratch.plain[:20] == b"0000\0\0\0\x000001\0\0\0\x000002"
    assert refused(client, Command.REGION_WRITE_MULTI, payload[:-1]) == errno.EINVAL
    assert refused(client, Command.REGION_WRITE_MULTI, m.WRITE_MULTI.pack(1 << 60)) == errno.EINVAL
    nine = m.WRITE_MULTI.pack(1) + m.ONE_WRITE.pack(0, 0, 9, b"")
    assert refused(client, Command.REGION_WRITE_MULTI, nine) == errno.EINVAL


def test_posted_writes_get_no_reply(client: Client) -> None:
    head = m.REGION_ACCESS.pack(0, 0, 2)
    client.send(m.command(7, Command.REGION_WRITE, head + b"hi", m.NO_REPLY))
    client.send(m.command(7, Command.REGION_WRITE, m.REGION_ACCESS.pack(0, 5, 2) + b"no", m.NO_REPLY))
    assert client.read(0, 0, 2) == b"hi"


def test_pipelined_commands_are_answered_in_order(client: Client) -> None:
    reads = [m.command(n, Command.REGION_READ, m.REGION_ACCESS.pack(n, 0, 4)) for n in range(500)]
    client.send(b"".join(reads))
    assert [client.reply()[0] for _ in reads] == list(range(500))


def test_client_that_does_not_read_loses_nothing(client: Client, scratch: Scratch) -> None:
    scratch.plain[:] = os.urandom(SIZE)
    request = m.command(3, Command.REGION_READ, m.REGION_ACCESS.pack(0, 0, SIZE))
    client.send(request * 20)
    for _ in range(20):
        turn(client.loop)
        assert client.reply()[1][16:] == scratch.plain


def test_map_read_and_write(client: Client, scratch: Scratch) -> None:
    ram = memfd()
    client.map(0x100000, RAM // 2, ram, RAM // 2)
    client.map(0, RAM // 2, ram)
    scratch.device.memory.write(0x100010, b"written by the device")
    assert os.pread(ram, 21, RAM // 2 + 0x10) == b"written by the device"
    os.pwrite(ram, b"guest", 0x20)
    assert scratch.device.memory.read(0x20, 5) == b"guest"
    os.close(ram)


def test_access_outside_the_maps(client: Client, scratch: Scratch) -> None:
    ram = memfd()
    client.map(0x1000, 0x1000, ram)
    client.map(0xC0000, 0x1000)
    os.close(ram)
    for address, size in [(0, 4), (0xFFF, 2), (0x1FFE, 4), (0x2000, 1), (0xC0000, 4), ((1 << 64) - 1, 8)]:
        with pytest.raises(DmaError):
            scratch.device.memory.read(address, size)


def test_readonly_map(client: Client, scratch: Scratch) -> None:
    ram = memfd()
    client.call(Command.DMA_MAP, m.DMA_MAP.pack(32, m.MAP_READABLE, 0, 0, 4096), [ram])
    os.close(ram)
    assert scratch.device.memory.read(0, 2) == b"\0\0"
    with pytest.raises(DmaError):
        scratch.device.memory.write(0, b"x")


def test_map_over_a_map(client: Client) -> None:
    client.map(0x1000, 0x2000)
    for start, size in [(0x1000, 0x2000), (0, 0x1001), (0x2FFF, 1), (0, 0x10000)]:
        request = m.DMA_MAP.pack(32, 3, 0, start, size)
        assert refused(client, Command.DMA_MAP, request) == errno.EEXIST
    client.map(0, 0x1000)
    client.map(0x3000, 0x1000)


def test_maps_that_cannot_be(client: Client, tmp_path: Path) -> None:
    ram = memfd(4096)
    for offset, address, size in [(0, 0, 8192), (4096, 0, 1), (0, 0, 0), (0, (1 << 64) - 1, 4096)]:
        request = m.DMA_MAP.pack(32, 3, offset, address, size)
        assert refused(client, Command.DMA_MAP, request, (ram,)) == errno.EINVAL
    whole = m.DMA_MAP.pack(32, 3, 0, 0, 4096)
    assert refused(client, Command.DMA_MAP, whole, (ram, ram)) == errno.EINVAL
    a, b = os.pipe()
    assert refused(client, Command.DMA_MAP, whole, (a,)) == errno.EINVAL
    (tmp_path / "file").write_bytes(bytes(4096))
    read_only = os.open(tmp_path / "file", os.O_RDONLY)
    assert refused(client, Command.DMA_MAP, whole, (read_only,)) == errno.EACCES
    for each in (ram, a, b, read_only):
        os.close(each)


def test_unmapped_range_is_out_of_reach(client: Client, scratch: Scratch) -> None:
    client.map(0x1000, 0x1000)
    client.map(0x4000, 0x1000)
    for start, size in [(0x1000, 0x800), (0x1800, 0x800), (0, 0x1000), (0x1000, 0x4000)]:
        assert refused(client, Command.DMA_UNMAP, m.DMA_UNMAP.pack(24, 0, start, size)) == errno.ENOENT
    client.unmap(0x1000, 0x1000)
    assert len(scratch.device.memory) == 1
    client.unmap(0, 0, m.UNMAP_ALL)
    assert len(scratch.device.memory) == 0
    assert refused(client, Command.DMA_UNMAP, m.DMA_UNMAP.pack(24, 1, 0, 0)) == errno.EOPNOTSUPP


def test_irq_info_counts_vectors(client: Client) -> None:
    for index, expected in [(0, (16, 0, 0, 0)), (2, (16, m.IRQ_EVENTFD | m.IRQ_MASKABLE, 2, 4))]:
        answer = client.call(Command.DEVICE_GET_IRQ_INFO, m.IRQ_INFO.pack(16, 0, index, 0))
        assert m.IRQ_INFO.unpack(answer) == expected
    assert refused(client, Command.DEVICE_GET_IRQ_INFO, m.IRQ_INFO.pack(16, 0, 5, 0)) == errno.EINVAL


def counter(eventfd: int) -> int:
    try:
        return os.eventfd_read(eventfd)
    except BlockingIOError:
        return 0


def test_irqs_by_eventfd(client: Client, scratch: Scratch) -> None:
    eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
    irqs = scratch.device.irqs
    client.irqs(m.DATA_EVENTFD | m.ACTION_TRIGGER, 1, 2, b"", eventfds)
    for vector in range(4):
        irqs.fire(vector)
    assert [counter(each) for each in eventfds] == [1, 1] and irqs.fired == [0, 1, 1, 0]
    client.irqs(m.DATA_NONE | m.ACTION_MASK, 1, 1)
    irqs.fire(1)
    assert counter(eventfds[0]) == 0 and irqs.pending == 2
    client.irqs(m.DATA_NONE | m.ACTION_UNMASK, 1, 1)
    assert counter(eventfds[0]) == 1 and irqs.pending == 0
    client.irqs(m.DATA_BOOL | m.ACTION_TRIGGER, 1, 2, b"\0\1")
    assert [counter(each) for each in eventfds] == [0, 1]
    client.irqs(m.DATA_EVENTFD | m.ACTION_TRIGGER, 2, 1)
    irqs.fire(2)
    assert counter(eventfds[1]) == 0
    client.irqs(m.DATA_NONE | m.ACTION_TRIGGER, 0, 0)
    irqs.fire(1)
    assert counter(eventfds[0]) == 0
    for each in eventfds:
        os.close(each)


@pytest.mark.parametrize(
    ("flags", "start", "count", "data", "given"),
    [
        (m.DATA_EVENTFD | m.ACTION_TRIGGER, 0, 2, b"", 1),
        (m.DATA_EVENTFD | m.ACTION_TRIGGER, 3, 2, b"", 2),
        (m.DATA_EVENTFD | m.ACTION_MASK, 0, 1, b"", 1),
        (m.DATA_NONE | m.ACTION_MASK, 0, 0, b"", 0),
        (m.DATA_NONE | m.ACTION_MASK | m.ACTION_UNMASK, 0, 1, b"", 0),
        (m.DATA_NONE | m.DATA_BOOL | m.ACTION_MASK, 0, 1, b"\1", 0),
        (m.DATA_BOOL | m.ACTION_TRIGGER, 0, 2, b"\1", 0),
        (0, 0, 1, b"", 0),
        (m.DATA_NONE | m.ACTION_TRIGGER, 0xFFFFFFFF, 0xFFFFFFFF, b"", 0),
    ],
)
def test_irqs_asked_for_wrongly(
    client: Client, flags: int, start: int, count: int, data: bytes, given: int
) -> None:
    eventfds = [os.eventfd(0) for _ in range(given)]
    with gained_descriptors() as gained:
        with pytest.raises(RefusedError) as error:
            client.irqs(flags, start, count, data, eventfds)
        assert error.value.number == errno.EINVAL and gained() == 0
    for each in eventfds:
        os.close(each)


def test_reset_reaches_the_device(client: Client, scratch: Scratch) -> None:
    assert client.call(Command.DEVICE_RESET) == b""
    assert scratch.resets == 1


@pytest.mark.parametrize("command", [0, 6, 11, 12, 14, 16, 17, 65535])
def test_unknown_command(client: Client, command: int) -> None:
    assert refused(client, command, b"\0" * 64) == errno.EOPNOTSUPP
    assert client.read(0, 0, 1) == b"\0"


@pytest.mark.parametrize("command", [2, 3, 4, 5, 7, 8, 9, 10, 15])
def test_truncated_payload_is_refused(client: Client, command: int) -> None:
    for size in (0, 3, 7):
        assert refused(client, command, b"\xff" * size) == errno.EINVAL


def test_descriptors_that_nobody_wants_are_closed(client: Client) -> None:
    a, b = os.pipe()
    with gained_descriptors() as gained:
        client.call(Command.DEVICE_RESET, b"", [a, b] * 8)
        assert refused(client, 99, b"", (a, b)) == errno.EOPNOTSUPP
        assert gained() == 0
    os.close(a)
    os.close(b)


def test_too_many_descriptors(client: Client) -> None:
    a, b = os.pipe()
    with gained_descriptors() as gained:
        client.send(m.command(1, Command.DEVICE_RESET), [a, b] * 20)
        assert client.hung_up() and gained() == -1
    os.close(a)
    os.close(b)


def test_disconnect_lets_go_of_everything(server: Server, scratch: Scratch) -> None:
    with gained_descriptors() as gained:
        ram, eventfd = memfd(), os.eventfd(0)
        for _ in range(3):
            client = Client(server.path, server.loop)
            client.negotiate()
            client.map(0, RAM, ram)
            client.irqs(m.DATA_EVENTFD | m.ACTION_TRIGGER, 0, 2, b"", [eventfd, eventfd])
            half = m.command(1, Command.DMA_MAP, m.DMA_MAP.pack(32, 3, 0, RAM, 4096))[:20]
            client.send(half, [ram])
            assert gained() > 5
            client.close()
            assert gained() == 2 and len(scratch.device.memory) == 0
        assert scratch.resets == 3
        os.close(ram)
        os.close(eventfd)


def test_second_client_waits_for_the_first_to_go(client: Client, server: Server) -> None:
    second = Client(server.path, server.loop)
    second.send(m.command(1, Command.VERSION, m.VERSION.pack(0, 1)))
    client.read(0, 0, 1)
    client.close()
    turn(server.loop)
    assert second.reply()[1] == m.VERSION.pack(0, 1)
    second.close()


def test_client_that_goes_before_its_reply(server: Server) -> None:
    client = Client(server.path, server.loop)
    socket.send_fds(client.socket, [m.command(1, Command.VERSION, m.VERSION.pack(0, 1))], [])
    client.close()
    again = Client(server.path, server.loop)
    assert again.negotiate()
    again.close()


def test_end_of_the_server(tmp_path: Path, scratch: Scratch, loop: selectors.BaseSelector) -> None:
    with gained_descriptors() as gained:
        server = Server(tmp_path / "another", scratch.device, loop)
        other = Client(server.path, loop)
        server.close()
        assert other.hung_up() and not server.path.exists()
        other.socket.close()
        assert gained() == 0
