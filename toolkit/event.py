# SPDX-License-Identifier: GPL-2.0-only
"""The one record, as probes/event.h declares it: constants, kinds, flags, and the members with their units.

Imports nothing that takes long: the registry of drivers and the loader of the probes need no more.
"""

import re
from typing import NamedTuple

from toolkit.paths import PROBES

_DEFINE = re.compile(r"#define RXT_([A-Z_]+) (0x[0-9a-f]+|\d+)(?:ULL)?")
_ENUMERATOR = re.compile(r"\tRXT_([A-Z_0-9]+) = (\d+),\t+/\* (\[posted\] )?.+ \*/")
_MEMBER = re.compile(r"\t__u(8|16|32|64) ([a-z_]+);\t+/\* \[(\w+)\] (.+) \*/")


class Member(NamedTuple):
    """One member of struct rxt_event."""

    name: str
    bits: int
    unit: str
    doc: str


class Header(NamedTuple):
    """What probes/event.h says."""

    constants: dict[str, int]
    enums: dict[str, dict[str, int]]
    members: list[Member]
    posted: list[str]


def read_header(text: str) -> Header:
    """Read the C header of the record.

    :param text: the header; inside `enum` and `struct`, one enumerator or member a line.
    :return: its constants and enumerators without RXT_, its members in order, and the kinds that count
        posted buffers.
    :raises ValueError: if a line of an enum or of the struct is not of that form.
    """
    header = Header({}, {}, [], [])
    block = ""
    for line in text.splitlines():
        if match := _DEFINE.fullmatch(line):
            header.constants[match[1]] = int(match[2], 0)
        elif match := re.fullmatch(r"(?:enum|struct) rxt_(\w+) \{", line):
            block = match[1]
            if block != "event":
                header.enums[block] = {}
        elif line == "};":
            block = ""
        elif block == "event" and (match := _MEMBER.fullmatch(line)):
            header.members.append(Member(match[2], int(match[1]), match[3], match[4]))
        elif block and block != "event" and (match := _ENUMERATOR.fullmatch(line)):
            header.enums[block][match[1].lower()] = int(match[2])
            header.posted.extend([match[1].lower()] if match[3] else [])
        elif block:
            raise ValueError(f"event.h: this line of rxt_{block} is not understood: {line!r}")
    return header


_HEADER = read_header((PROBES / "event.h").read_text())

MEMBERS = _HEADER.members
KIND = _HEADER.enums["kind"]
FLAG = _HEADER.enums["flag"]
POSTED_KINDS = tuple(_HEADER.posted)
"""Kinds of events that count the posted buffers at that moment."""
NOT_KNOWN = _HEADER.constants["NOT_KNOWN"]
NO_ORDER = _HEADER.constants["NO_ORDER"]
NOBODY = _HEADER.constants["NOBODY"]
"""The thread of a wait in which none had the CPU for long."""
ALL_QUEUES = _HEADER.constants["ALL_QUEUES"]
WINDOW_NS = _HEADER.constants["WINDOW_NS"]
NO_STACK = _HEADER.constants["NO_STACK"]
"""The stack of a tick that is not known."""
IN_USER = _HEADER.constants["IN_USER"]
"""The stack of a tick that found the CPU in no function of the kernel."""
NO_TICK_NS = _HEADER.constants["NO_TICK_NS"]
