# SPDX-License-Identifier: GPL-2.0-only
"""A NIC with several queues: QEMU offers that on a tap device only.

The tap lives in a network namespace of its own, so that it meets nothing of the host; that needs root. Frames
go in through a packet socket, which learns of a full queue as the sender on a unix socket does.
"""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import cmd

NAMESPACES = Path("/run/netns")

# As many frames as a unix datagram socket holds (net.unix.max_dgram_qlen): a refusal means the same on both.
QUEUE_LENGTH = 10

# linux/if_tun.h, linux/socket.h, linux/if_packet.h, linux/sched.h
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20
_CLONE_NEWNET = 0x40000000


def wire(namespace: str, number: int) -> Path:
    """Where frames for a NIC go in: the tap's name, as if the namespace were a directory."""
    return NAMESPACES / namespace / f"tap{number}"


def is_wire(path: Path) -> bool:
    """Whether the path is of that form."""
    return path.parent.parent == NAMESPACES


def create_namespace(name: str) -> None:
    """Make the namespace.

    :raises UserError: if this user may not.
    """
    if os.geteuid() != 0:
        raise UserError("A NIC with more than one queue needs a tap device: run this as root.")
    # Not `ip netns`: that changes how the root is mounted, and the root of a chroot is not a mount.
    path = NAMESPACES / name
    NAMESPACES.mkdir(exist_ok=True)
    path.touch(exist_ok=False)
    try:
        cmd(["unshare", f"--net={path}", "true"])
    except UserError:
        path.unlink()
        raise
    with _inside(NAMESPACES / name):
        # No neighbour or router discovery: the only frames are those that an experiment sends.
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")


def delete_namespace(name: str) -> None:
    """Delete the namespace, if it is there."""
    if (NAMESPACES / name).exists():
        cmd(["umount", "--lazy", NAMESPACES / name])
        (NAMESPACES / name).unlink()


def open_queues(path: Path, queues: int) -> list[int]:
    """Make a tap, for as long as a queue of it is open.

    :param path: from :func:`wire`.
    :param queues: how many queues.
    :return: a file descriptor for each.
    """
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_MULTI_QUEUE
    descriptors: list[int] = []
    try:
        with _inside(path.parent):
            for _ in range(queues):
                descriptors.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK))
                fcntl.ioctl(descriptors[-1], _TUNSETIFF, struct.pack("16sH22x", path.name.encode(), flags))
            link = ["ip", "link", "set", path.name]
            cmd([*link, "txqueuelen", str(QUEUE_LENGTH), "arp", "off", "up"])
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return descriptors


def connect(path: Path) -> socket.socket:
    """A packet socket that sends to a tap, and says ENOBUFS when the queue is full.

    :param path: from :func:`wire`.
    :raises OSError: if there is no such tap, or this user may not.
    """
    with _inside(path.parent):
        found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        # Past the queueing discipline, whose verdict would hide the tap's own.
        found.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        found.bind((path.name, 0))
    except OSError:
        found.close()
        raise
    return found


@contextmanager
def _inside(namespace: Path) -> Iterator[None]:
    """Move this thread into a network namespace; what it opens there stays there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(namespace)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _enter(namespace: Path) -> None:
    there = os.open(namespace, os.O_RDONLY)
    try:
        _setns(there)
    finally:
        os.close(there)


def _setns(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
