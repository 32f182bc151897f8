# SPDX-License-Identifier: GPL-2.0-only
"""Two NICs of one interface index, in two network namespaces."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from vm import guest


@contextmanager
def in_namespace_of_its_own(machine: guest.Guest, device: str, like: str) -> Iterator[None]:
    """Have a device in the namespace `blue`, with the index that another has outside, for a block's length.

    In that namespace all lower indexes are taken, so that the kernel gives the device the one that is left.
    """
    own = json.loads(machine.ssh(f"ip -j link show {like}", check=True).stdout)[0]["ifindex"]
    moved = json.loads(machine.ssh(f"ip -j link show {device}", check=True).stdout)[0]["ifindex"]
    taken = [number for number in range(2, moved + 4) if number != own]
    add = " && ".join(f"sudo ip -n blue link add index {each} name d{each} type dummy" for each in taken)
    machine.ssh(f"sudo ip netns add blue && {add} && sudo ip link set {device} netns blue", check=True)
    try:
        inside = json.loads(machine.ssh(f"sudo ip -n blue -j link show {device}", check=True).stdout)[0]
        assert inside["ifindex"] == own
        machine.ssh(f"sudo ip -n blue link set {device} arp off multicast off up", check=True)
        yield
    finally:
        # The kernel takes a namespace down when it has the time.
        there = f"timeout 60 sh -c 'until test -e /sys/class/net/{device}; do sleep 0.1; done'"
        machine.ssh(f"sudo ip netns del blue; {there} && sudo rx-stall-nic {device}", check=True)
