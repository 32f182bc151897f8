# SPDX-License-Identifier: GPL-2.0-only
"""A program as bcc compiled it: what the kernel is told to load, and a directory in which it is kept.

Compiling takes most of the time that a trace needs to begin, and more memory than all the rest.
What comes out of it depends on nothing but the probes, the options, this kernel and this bcc.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path("/var/cache/rx-stall")
"""Where programs are kept. What is there, root loads into the kernel: nobody else may write there."""

KEPT = 32
"""So many are kept; the one whose last use is longest ago goes first."""

_INSTRUCTION = 8
"""Size of struct bpf_insn {code, registers, offset (16 bits), immediate (32)}, include/uapi/linux/bpf.h."""
_LOAD_IMMEDIATE, _MAP_DESCRIPTOR = 0x18, 1
"""BPF_LD | BPF_IMM | BPF_DW, and BPF_PSEUDO_MAP_FD as its source register."""
_LOAD, _STORE, _COPY, _SET, _ADD, _CALL, _EXIT = 0x79, 0x7B, 0xBF, 0xB7, 0x07, 0x85, 0x95
"""Load and store 64 bits, copy a register, set one, add to one, call, and return."""
_OWN_FUNCTION = 1
"""BPF_PSEUDO_CALL as the source register of a call."""
_REGISTER = 8
_PARAMETERS = {"x86_64": (112, 104, 96, 88, 72, 64), "aarch64": (0, 8, 16, 24, 32, 40)}
"""Where struct pt_regs has the registers of a function's parameters: di, si, dx, cx, r8, r9; x0 to x5."""


@dataclass(frozen=True)
class Map:
    """A map of a program.

    :param type: BPF_MAP_TYPE_* (include/uapi/linux/bpf.h); `flags` are BPF_F_*.
    :param key_size: bytes of a key; `leaf_size` of what it leads to.
    :param key: the type of a key, as `layout.described` writes it; `leaf` of what it leads to.
    """

    name: str
    type: int
    key_size: int
    leaf_size: int
    entries: int
    flags: int
    key: Any
    leaf: Any


@dataclass(frozen=True)
class Compiled:
    """A compiled program.

    :param headers: against what it was compiled, in words.
    :param maps: in the order by whose numbers the instructions call them.
    :param functions: name -> instructions (struct bpf_insn); where one loads a map's descriptor, it has the
        map's number instead.
    """

    headers: str
    license: str
    maps: Sequence[Map]
    functions: Mapping[str, bytes]


def renumbered(code: bytes, numbers: Mapping[int, int] | Sequence[int]) -> bytes:
    """Return instructions that call each map by another number.

    :param numbers: the number or descriptor by which they call a map -> the other one.
    """
    result = bytearray(code)
    for place in _map_places(code):
        number = int.from_bytes(code[place : place + 4], sys.byteorder)
        result[place : place + 4] = numbers[number].to_bytes(4, sys.byteorder)
    return bytes(result)


def with_parameters(code: bytes, parameters: int, machine: str) -> bytes:
    """Return the instructions of a function that is given the parameters of a kernel's function.

    They are in an array then, and not in the registers in a struct pt_regs, where a function for a kprobe
    looks for them. So this puts them there, on its stack, and calls that function.

    :param code: of the function for a kprobe.
    :param parameters: how many there are.
    :param machine: the architecture, as uname(1) calls it.
    :raises OSError: if it is not known which registers it passes parameters in.
    """
    if not (places := _PARAMETERS.get(machine)):
        raise OSError(errno.ENOTSUP, f"it is not known where {machine} has the parameters of a function")
    size = max(places) + _REGISTER
    # Register 10 is the end of the stack, 1 the first parameter and 0 the result. The lower four bits of a
    # byte of registers are the target.
    begin = []
    for number, place in enumerate(places[:parameters]):
        begin += [(_LOAD, 0x12, number * _REGISTER, 0), (_STORE, 0x2A, place - size, 0)]
    begin += [(_COPY, 0xA1, 0, 0), (_ADD, 0x01, 0, -size)]
    end = [(_SET, 0x00, 0, 0), (_EXIT, 0x00, 0, 0)]
    call = [(_CALL, _OWN_FUNCTION << 4, 0, len(end))]
    return _assembled(begin + call + end) + code


def in_turn(codes: Sequence[bytes]) -> bytes:
    """Return the instructions of a function that calls others in turn, each with the argument that it has."""
    # Register 6 keeps the argument: a call leaves it alone.
    calls, at = [(_COPY, 0x16, 0, 0)], 1 + 2 * len(codes) + 2
    for code in codes:
        calls += [(_COPY, 0x61, 0, 0), (_CALL, _OWN_FUNCTION << 4, 0, at - len(calls) - 2)]
        at += len(code) // _INSTRUCTION
    calls += [(_SET, 0x00, 0, 0), (_EXIT, 0x00, 0, 0)]
    return _assembled(calls) + b"".join(codes)


def _assembled(instructions: Sequence[tuple[int, int, int, int]]) -> bytes:
    """Return instructions as the kernel takes them: code, registers, offset and constant of each."""
    return b"".join(struct.pack("=BBhi", *each) for each in instructions)


def _map_places(code: bytes) -> Iterator[int]:
    """Yield where in instructions the descriptors of maps are: four bytes each."""
    at = 0
    while at < len(code):
        wide = code[at] == _LOAD_IMMEDIATE
        if wide and code[at + 1] >> 4 == _MAP_DESCRIPTOR:
            yield at + 4
        # It loads 64 bits, so its second half stands in the place of another instruction.
        at += 2 * _INSTRUCTION if wide else _INSTRUCTION


def to_json(program: Compiled) -> str:
    """Return a program as one line of JSON."""
    functions = {name: base64.b64encode(code).decode() for name, code in program.functions.items()}
    return json.dumps(asdict(program) | {"functions": functions})


def of_json(found: Any) -> Compiled:
    """Return the program that to_json wrote.

    :param found: the JSON, read.
    :raises ValueError: if it is not one; also TypeError and KeyError.
    """
    return Compiled(
        headers=found["headers"],
        license=found["license"],
        maps=[Map(**each) for each in found["maps"]],
        functions={name: base64.b64decode(code) for name, code in found["functions"].items()},
    )


def key(*parts: object) -> str:
    """Return the name under which a program is kept that is made of these parts."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def kept(name: str, directory: Path) -> Compiled | None:
    """Return the program that was kept under a name.

    :return: None if there is none, or it cannot be read, or somebody else than root may have written it.
    """
    path = directory / f"{name}.json"
    try:
        if not _is_ours(directory):
            return None
        found = of_json(json.loads(path.read_text()))
        os.utime(path)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found


def keep(name: str, program: Compiled, directory: Path) -> None:
    """Keep a program under a name; where that is not possible, nothing is kept."""
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(directory):
            return
        with tempfile.NamedTemporaryFile("w", dir=directory, suffix=".new", delete=False) as file:
            try:
                file.write(to_json(program))
                file.flush()
                Path(file.name).rename(directory / f"{name}.json")
            except OSError:
                Path(file.name).unlink()
                raise
        forget(directory)


def forget(directory: Path) -> None:
    """Delete programs, those whose last use is longest ago, until KEPT are left."""
    # Somebody else may do the same at this moment.
    with contextlib.suppress(FileNotFoundError):
        every = sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in every[KEPT:]:
            path.unlink()


def _is_ours(directory: Path) -> bool:
    """Tell whether nobody can write there but the user of this process: root, where a kernel is traced."""
    about = directory.stat()
    return about.st_uid == os.geteuid() and not about.st_mode & 0o022
