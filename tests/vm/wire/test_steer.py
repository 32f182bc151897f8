# SPDX-License-Identifier: GPL-2.0-only
import struct
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from vm.wire import sender, steer

# As drivers print it.
FORMS = ("rx_queue_{}_packets: {}", "rx{}_packets: {}")


class Machine:
    """A guest whose NIC gives each port to a queue, None for nowhere; frames are counted as they are sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, form: str, hashes: dict[int, int | None]) -> None:
        self._form = form
        self._hashes = hashes
        self.received: Counter[int] = Counter()
        self.noise = 0
        self.asked: list[str] = []
        monkeypatch.setattr(sender, "connect", self.connect)
        monkeypatch.setattr(sender, "send", self.send)

    def wire(self, nic: int) -> str:
        return f"wire {nic}"

    def connect(self, wire: str) -> Any:
        self.asked.append(wire)
        return nullcontext(wire)

    def send(self, _: str, frames: list[bytes], *, rate: int, count: int) -> None:
        assert rate > 0
        (port,) = struct.unpack("!H", frames[0][36:38])
        queue = self._hashes[port]
        if queue is not None:
            self.received[queue] += count
        self.received[0] += self.noise

    def ssh(self, command: str, *, check: bool) -> SimpleNamespace:
        assert check
        self.asked.append(command)
        lines = [self._form.format(queue, self.received[queue]) for queue in range(3)]
        return SimpleNamespace(stdout="NIC statistics:\n     rx_packets: 99\n     " + "\n     ".join(lines))


@pytest.mark.parametrize("form", FORMS)
def test_ports_are_told_by_the_counter_that_moves(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine: Any = Machine(monkeypatch, form, {9000: 2, 9001: 0, 9002: 2})
    assert steer.ports_by_queue(machine, 1, [9000, 9001, 9002]) == {0: [9001], 1: [], 2: [9000, 9002]}
    assert machine.asked[:2] == ["ethtool -S eth2", "wire 1"]


def test_port_whose_frames_arrive_nowhere_is_of_no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    machine: Any = Machine(monkeypatch, FORMS[0], {9000: None, 9001: 1})
    machine.noise = 3
    assert steer.ports_by_queue(machine, 0, [9000, 9001]) == {0: [], 1: [9001], 2: []}
