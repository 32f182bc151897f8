# SPDX-License-Identifier: GPL-2.0-only
"""A BPF program that sends windows of a NIC that is not there, from a timer of each CPU.

It is written in the kernel's own instructions, so that neither a compiler nor bcc has to be here. What
follows it, the ring, the ledger and whoever drains them, is what a trace has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from toolkit.capture.compiled import Compiled, Map
from toolkit.event import KIND
from toolkit.trace.schema import EVENT

HZ = 250
"""So often a CPU's timer fires in a second."""
QUEUES = 8
"""The windows are of so many queues in turn."""
IFINDEX = 999_999
"""The number of the NIC that is not there."""
KINDS = 32
"""Of the ledger: RXT_KINDS in probes/core/ledger.c."""

# include/uapi/linux/bpf.h: types of maps, a flag, and the numbers of helpers.
_HASH, _ARRAY, _RINGBUF, _MMAPABLE = 1, 2, 27, 1 << 10
_LOOKUP, _TIME, _CHANCE, _CPU, _OUTPUT = 1, 5, 7, 8, 130
_NO_WAKEUP = 1
_STORE = {1: 0x73, 2: 0x6B, 4: 0x63, 8: 0x7B}
"""BPF_STX | BPF_MEM, by bytes."""
_EVENT_AT, _KEY_AT = -EVENT.itemsize, -EVENT.itemsize - 8
"""Places on the stack, from its end."""


@dataclass(frozen=True)
class _Instruction:
    """struct bpf_insn."""

    code: int
    to: int = 0
    source: int = 0
    offset: int = 0
    value: int = 0

    def packed(self) -> bytes:
        return struct.pack("=BBhi", self.code, self.source << 4 | self.to, self.offset, self.value)


def program(events: int, cpus: int, ring: int) -> Compiled:
    """Return the program, whose function `send` sends so many windows each time that it is called.

    :param events: windows a call.
    :param cpus: as many as this machine may ever have.
    :param ring: bytes of the ring.
    """
    maps = [
        Map("events", _RINGBUF, 0, 0, ring, 0, None, None),
        Map("ledger", _ARRAY, 4, 16, cpus * KINDS, _MMAPABLE, "I", {"attempted": "L", "dropped": "L"}),
        # Of windows that are still open when a trace ends; here are none.
        Map("queues", _HASH, 4, 4, 1, 0, "I", "I"),
    ]
    code = b"".join(each.packed() for each in _send(events))
    return Compiled("none", "GPL", maps, {"send": code})


def _send(events: int) -> list[_Instruction]:
    """Return what rxt_emit of probes/core/ledger.c does, for many windows in turn."""
    cpu, counts, left = 6, 7, 8
    begin = [
        _call(_CPU),
        _copy(cpu, 0),
        _copy(1, cpu),
        _Instruction(0x27, 1, value=KINDS),  # *=
        _add(1, KIND["window"]),
        _Instruction(_STORE[4], 10, 1, _KEY_AT),
        *_map(1, "ledger"),
        _copy(2, 10),
        _add(2, _KEY_AT),
        _call(_LOOKUP),
        _Instruction(0x55, 0, offset=1),  # not 0: go on
        _Instruction(0x95),
        _copy(counts, 0),
        *(_Instruction(0x7A, 10, offset=at) for at in range(_EVENT_AT, 0, 8)),  # = 0
        *_member("cpu", cpu),
        *_constant("kind", KIND["window"]),
        *_constant("ifindex", IFINDEX),
        *_constant("polls", 1),
        _set(left, events),
    ]
    each = [
        _call(_TIME),
        *_member("ts", 0),
        *_random("dur", 0x7FFFFF),
        *_random("packets", 63),
        *_random("posted_after", 127),
        *_member("posted_before", 0),
        _copy(0, left),
        _Instruction(0x57, 0, value=QUEUES - 1),  # &=
        *_member("queue", 0),
        *_count(counts, 0),
        *_map(1, "events"),
        _copy(2, 10),
        _add(2, _EVENT_AT),
        _set(3, EVENT.itemsize),
        _set(4, _NO_WAKEUP),
        _call(_OUTPUT),
        _Instruction(0x15, 0, offset=2),  # 0: it is in the ring
        *_count(counts, 8),
        _add(left, -1),
    ]
    again = _Instruction(0x55, left, offset=-len(each) - 1)
    return [*begin, *each, again, _set(0, 0), _Instruction(0x95)]


def _set(to: int, value: int) -> _Instruction:
    return _Instruction(0xB7, to, value=value)


def _copy(to: int, source: int) -> _Instruction:
    return _Instruction(0xBF, to, source)


def _add(to: int, value: int) -> _Instruction:
    return _Instruction(0x07, to, value=value)


def _call(helper: int) -> _Instruction:
    return _Instruction(0x85, value=helper)


def _map(to: int, name: str) -> list[_Instruction]:
    """Load a map; the loader puts its descriptor in the place of its number."""
    number = ("events", "ledger", "queues").index(name)
    return [_Instruction(0x18, to, 1, value=number), _Instruction(0)]


def _count(counts: int, offset: int) -> list[_Instruction]:
    """Add 1 to a member of the ledger, as several CPUs may."""
    return [_set(1, 1), _Instruction(0xDB, counts, 1, offset)]


def _member(name: str, source: int) -> list[_Instruction]:
    """Write a register into a member of the event."""
    assert EVENT.fields
    dtype, offset = EVENT.fields[name][:2]
    return [_Instruction(_STORE[dtype.itemsize], 10, source, _EVENT_AT + offset)]


def _constant(name: str, value: int) -> list[_Instruction]:
    return [_set(1, value), *_member(name, 1)]


def _random(name: str, mask: int) -> list[_Instruction]:
    return [_call(_CHANCE), _Instruction(0x57, 0, value=mask), *_member(name, 0)]
