# SPDX-License-Identifier: GPL-2.0-only
"""Find out which UDP ports reach which receive queue: a tap spreads flows by a hash that only the kernel
knows.
"""

import re
from collections.abc import Sequence

from vm.guest import Guest
from vm.qemu.command import mac
from vm.wire import frames, sender

_FRAMES = 20


def ports_by_queue(guest: Guest, nic: int, candidates: Sequence[int]) -> dict[int, list[int]]:
    """Send some frames to each port and see which queue's counter moves.

    :param guest: a machine whose NIC gets no other traffic meanwhile.
    :param nic: which NIC under test, from 0.
    :param candidates: UDP ports to try.
    :return: ports by queue; the answer holds until the machine stops.
    """
    found: dict[int, list[int]] = {queue: [] for queue in _counters(guest, nic)}
    with sender.connect(guest.wire(nic)) as wire:
        for port in candidates:
            before = _counters(guest, nic)
            sender.send(wire, frames.to_ports(128, [port], dst_mac=mac(nic)), rate=1000, count=_FRAMES)
            after = _counters(guest, nic)
            busiest = max(after, key=lambda queue: after[queue] - before[queue])
            if after[busiest] - before[busiest] >= _FRAMES // 2:
                found[busiest].append(port)
    return found


def _counters(guest: Guest, nic: int) -> dict[int, int]:
    said = guest.ssh(f"ethtool -S eth{nic + 1}", check=True).stdout
    pairs = re.findall(r"rx_?queue_(\d+)_packets: (\d+)|rx(\d+)_packets: (\d+)", said)
    return {int(a or c): int(b or d) for a, b, c, d in pairs}
