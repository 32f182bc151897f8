# SPDX-License-Identifier: GPL-2.0-only
"""Bring a compiled program into the kernel: make its maps, load its functions, attach them.

That is bpf(2) and perf_event_open(2); numbers and structs are those of include/uapi/linux/bpf.h and
perf_event.h, which the kernel keeps for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import resource
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.capture import kernel, layout
from toolkit.capture.btf import Function
from toolkit.capture.compiled import Compiled, Map, in_turn, renumbered, with_parameters
from toolkit.errors import UserError

_BPF, _PERF_EVENT_OPEN = (321, 298) if platform.machine() == "x86_64" else (280, 241)
"""The numbers of the system calls; newer architectures share theirs (include/uapi/asm-generic/unistd.h)."""

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_NEXT_KEY, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 1, 2, 4, 5, 17
_INFO, _LINK_CREATE = 15, 28
_ENTRY, _PERF_EVENT = 24, 41
"""BPF_TRACE_FENTRY and BPF_PERF_EVENT of enum bpf_attach_type."""
_LINK_INFO = struct.Struct("=48xQ")
"""struct bpf_link_info of a kprobe, as far as `missed`, which is there since Linux 6.7."""
_TYPES = {"kprobe": 2, "kretprobe": 2, "raw_tracepoint": 17}
"""Kind of hook -> BPF_PROG_TYPE_*."""
_TRACING, _AT_EVENT = 26, 7
"""BPF_PROG_TYPE_TRACING and BPF_PROG_TYPE_PERF_EVENT."""
_KPROBES = Path("/sys/bus/event_source/devices/kprobe")
_IOC_ENABLE, _IOC_SET_BPF, _FD_CLOEXEC = 0x2400, 0x40042408, 8
_SOFTWARE, _CPU_CLOCK, _AS_FREQUENCY = 1, 0, 1 << 10
"""PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, and the flag that sample_freq is meant."""
_ATTR_SIZE = 112
"""Size of struct perf_event_attr in Linux 4.1 (PERF_ATTR_SIZE_VER5)."""
_NAME = 15
"""The most bytes in the name of a map or program."""
_SAID = 1 << 18
"""Room for what the kernel's verifier says, in bytes."""
AT_ONCE = 4
"""So many probes are put on or taken off at once: at each of them the kernel waits for all CPUs."""
_TRIES = 5
"""So often a system call is made that a signal interrupts."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True)
class Table:
    """A map in the kernel: its descriptor, the types of its keys and leaves, and how many entries it has."""

    map_fd: int
    Key: Any
    Leaf: Any
    entries: int

    def __len__(self) -> int:
        return self.entries

    def __setitem__(self, key: Any, leaf: Any) -> None:
        self._ask(_MAP_UPDATE, key, leaf)

    def get(self, key: Any) -> Any:
        """Return the leaf of a key; None if there is none."""
        leaf = self.Leaf()
        return leaf if self._ask(_MAP_LOOKUP, key, leaf) else None

    def values(self) -> Iterator[Any]:
        """Yield each leaf. One that comes or goes meanwhile may be missed."""
        key, following = None, self.Key()
        while self._ask(_MAP_NEXT_KEY, key, following):
            key = type(following).from_buffer_copy(following)
            if (leaf := self.get(key)) is not None:
                yield leaf

    def _ask(self, what: int, key: Any, other: Any) -> bool:
        """Call bpf(2) with a key, and a leaf or the next key; tell whether there is one."""
        first = 0 if key is None else ctypes.addressof(key)
        try:
            bpf(what, struct.pack("=I4xQQQ", self.map_fd, first, ctypes.addressof(other), 0))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True


@dataclass(frozen=True)
class Loaded:
    """A program whose maps are in the kernel.

    :param tables: name of a map -> the map.
    :param functions: name -> descriptor of those that were loaded.
    :param probes: descriptors of what they are attached by.
    :param links: those of them that can say how often a kprobe was skipped -> its function.
    :param skipped: how often those were that are off again, by function.
    """

    compiled: Compiled
    tables: Mapping[str, Table]
    functions: dict[str, int] = field(default_factory=dict)
    probes: list[int] = field(default_factory=list)
    links: dict[int, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]


def load(compiled: Compiled, entries: Mapping[str, int]) -> Loaded:
    """Make the maps of a program.

    :param entries: name of a map -> how many entries it is to have (a ring: bytes), where that is not what
        was compiled.
    :raises UserError: if the kernel does not make one.
    """
    with contextlib.suppress(OSError, ValueError):
        # Before Linux 5.11, maps count as locked memory.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    tables = {each.name: _made(each, entries.get(each.name, each.entries)) for each in compiled.maps}
    return Loaded(compiled, tables)


def attach(loaded: Loaded, kind: str, at: str, function: str) -> None:
    """Load a function if it is not yet, and attach it. Several threads may do so.

    :param kind: kprobe, kretprobe or raw_tracepoint.
    :param at: the kernel's function, as ``name`` or ``module:name``, or the tracepoint.
    :param function: of the program.
    :raises OSError: if the kernel refuses; its text is what the verifier said, if that was it.
    """
    with loaded.one_at_a_time:
        if function not in loaded.functions:
            code, terms = _code(loaded, function), loaded.compiled.license
            loaded.functions[function] = verified(_TYPES[kind], function, code, terms)
    descriptor = loaded.functions[function]
    name = ctypes.create_string_buffer(at.encode())
    if kind == "raw_tracepoint":
        loaded.probes.append(
            bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QI4x", ctypes.addressof(name), descriptor))
        )
        return
    place = struct.pack(
        "=IIQQ24xI4xQ", _kprobes(), _ATTR_SIZE, kind == "kretprobe", 1, 1, ctypes.addressof(name)
    )
    probe = _perf_event(loaded, place, 0)
    try:
        link = bpf(_LINK_CREATE, struct.pack("=IIII", descriptor, probe, _PERF_EVENT, 0))
    except OSError:
        # Linux 5.15 brought links for perf events.
        fcntl.ioctl(probe, _IOC_SET_BPF, descriptor)
    else:
        loaded.probes.append(link)
        loaded.links[link] = function
    fcntl.ioctl(probe, _IOC_ENABLE, 0)


def enter(loaded: Loaded, at: Function, function: str) -> None:
    """Load a function and have it called where one of the kernel's own begins; several threads may do so.

    A kprobe there costs more: the kernel saves all registers for it, and looks up which kprobe was hit. Nor
    is this skipped while another program is at work on that CPU. A module would be in use as long as one of
    its functions has this: nobody could unload it.

    :param at: the kernel's function, which is of no module.
    :param function: of the program, written for a kprobe.
    :raises OSError: as `attach`; x86 has it since Linux 5.5, arm64 since 6.0.
    """
    with loaded.one_at_a_time:
        code = with_parameters(_code(loaded, function), at.parameters, platform.machine())
        descriptor = verified(_TRACING, function, code, loaded.compiled.license, _ENTRY, at.number)
        try:
            loaded.probes.append(bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QI4x", 0, descriptor)))
        except OSError:
            os.close(descriptor)
            raise
        loaded.functions[function] = descriptor


def tick(loaded: Loaded, hertz: int, functions: Sequence[str]) -> None:
    """Have functions called in turn by a clock of each CPU: each clock is an interrupt, also of an idle CPU.

    :param hertz: how often in a second.
    :param functions: of the program.
    :raises OSError: as `attach`.
    """
    with loaded.one_at_a_time:
        code = in_turn([_code(loaded, function) for function in functions])
        descriptor = verified(_AT_EVENT, functions[0], code, loaded.compiled.license)
        loaded.functions[functions[0]] = descriptor
    clock = struct.pack("=IIQQ16xQ", _SOFTWARE, _ATTR_SIZE, _CPU_CLOCK, hertz, _AS_FREQUENCY)
    for cpu in kernel.online_cpus():
        timer = _perf_event(loaded, clock, cpu)
        fcntl.ioctl(timer, _IOC_SET_BPF, descriptor)
        fcntl.ioctl(timer, _IOC_ENABLE, 0)


def _code(loaded: Loaded, function: str) -> bytes:
    """Return the instructions of a function, with the descriptors of the maps."""
    descriptors = [loaded.tables[each.name].map_fd for each in loaded.compiled.maps]
    return renumbered(loaded.compiled.functions[function], descriptors)


def skipped(loaded: Loaded) -> Counter[str]:
    """Return how often a kprobe was hit and its function not called, since another kprobe was at work there.

    Another thread may ask, also while the links are taken off.

    :return: function -> number; empty if the kernel does not say (before Linux 6.7).
    """
    with loaded.one_at_a_time:
        return _all_skipped(loaded)


def _all_skipped(loaded: Loaded) -> Counter[str]:
    now = (_skipped(link, function) for link, function in loaded.links.items())
    return sum(now, Counter[str]()) + loaded.skipped


def _skipped(link: int, function: str) -> Counter[str]:
    """Return how often the function of one link was not called."""
    about = info(link, bytes(_LINK_INFO.size))
    return Counter({function: _LINK_INFO.unpack(about)[0]} if len(about) == _LINK_INFO.size else {})


def _perf_event(loaded: Loaded, attributes: bytes, cpu: int) -> int:
    """Make a perf event.

    :param attributes: struct perf_event_attr {type, size, config, sample_period or sample_freq, sample_type,
        read_format, flags, wakeup_events, bp_type, config1, …}; what follows is 0.
    :param cpu: of a kprobe, any: it is put on for all.
    """
    buffer = ctypes.create_string_buffer(attributes, _ATTR_SIZE)
    any_process, no_group = -1, -1
    flags = ctypes.c_ulong(_FD_CLOEXEC)
    probe = _call(_PERF_EVENT_OPEN, ctypes.byref(buffer), any_process, cpu, no_group, flags)
    loaded.probes.append(probe)
    return probe


def detach(loaded: Loaded) -> None:
    """Take everything off that was attached; the maps and functions stay."""
    with loaded.one_at_a_time:
        in_all = _all_skipped(loaded)
        loaded.links.clear()
        loaded.skipped.clear()
        loaded.skipped.update(in_all)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(os.close, loaded.probes))
    loaded.probes.clear()


def unload(loaded: Loaded) -> None:
    """Take a program that is not attached out of the kernel."""
    for descriptor in (*loaded.functions.values(), *(table.map_fd for table in loaded.tables.values())):
        os.close(descriptor)
    loaded.functions.clear()


def _made(about: Map, entries: int) -> Table:
    """Make a map."""
    name = about.name.encode()[:_NAME]
    request = struct.pack(
        "=7I16s", about.type, about.key_size, about.leaf_size, entries, about.flags, 0, 0, name
    )
    try:
        descriptor = bpf(_MAP_CREATE, request)
    except OSError as error:
        raise UserError(
            f"the kernel refuses the map {about.name} of the probes ({error.strerror}); "
            "if memory is short, ask for a smaller ring (--ring)."
        ) from None
    return Table(descriptor, layout.made(about.key), layout.made(about.leaf), entries)


def verified(
    of_type: int, name: str, code: bytes, terms: str, attach_type: int = 0, btf_function: int = 0
) -> int:
    """Load a program.

    :param of_type: of enum bpf_prog_type.
    :param name: its first 15 characters are what the kernel calls it.
    :param code: its instructions.
    :param terms: its licence.
    :param attach_type: of enum bpf_attach_type, and the number in the kernel's BTF of the function that it is
        attached to, if it can be attached to no other.
    :return: its descriptor.
    :raises OSError: if the kernel refuses; its text is what the verifier said, if that was it. Only then is
        the verifier asked to say why: that takes time, and a long loop has more words than there is room for.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    licence, said = ctypes.create_string_buffer(terms.encode()), ctypes.create_string_buffer(_SAID)
    where = ctypes.addressof(instructions), ctypes.addressof(licence)

    def loaded(*wanted: int) -> int:
        about = (of_type, len(code) // 8, *where, *wanted, 0, 0, name.encode()[:_NAME], 0, attach_type)
        return bpf(_PROG_LOAD, struct.pack("=IIQQIIQII16sII36xI4x", *about, btf_function))

    try:
        return loaded(0, 0, 0)
    except OSError as error:
        with contextlib.suppress(OSError):
            return loaded(1, _SAID, ctypes.addressof(said))
        lines = [str(error.strerror), *said.value.decode(errors="replace").splitlines()]
        # Its last line is a count of what it did.
        why = [line for line in lines if line and not line.startswith("processed ")][-1]
        raise OSError(error.errno, why) from None


def _kprobes() -> int:
    """Return the kernel's number for perf events that are kprobes (since Linux 4.17).

    :raises OSError: if it has none.
    """
    try:
        return int((_KPROBES / "type").read_text())
    except FileNotFoundError as error:
        raise OSError(
            error.errno, "this kernel has no kprobes as perf events: CONFIG_KPROBE_EVENTS"
        ) from None


def info(descriptor: int, wanted: bytes) -> bytes:
    """Return what the kernel tells of a program or a link (BPF_OBJ_GET_INFO_BY_FD).

    :param wanted: the struct with what the kernel is to read of it, such as places to write to.
    :return: as much of that struct as the kernel has.
    :raises OSError: if the kernel refuses.
    """
    about = ctypes.create_string_buffer(wanted, len(wanted))
    found = asked(_INFO, struct.pack("=IIQ", descriptor, len(wanted), ctypes.addressof(about)))
    _, length, _ = struct.unpack("=IIQ", found)
    return about.raw[:length]


def asked(command: int, request: bytes) -> bytes:
    """Call bpf(2) with a command that answers in its request; return that.

    :raises OSError: if the kernel refuses.
    """
    buffer = ctypes.create_string_buffer(request, len(request))
    _call(_BPF, command, ctypes.byref(buffer), len(request))
    return buffer.raw


def bpf(command: int, request: bytes) -> int:
    """Call bpf(2), again if the kernel asks for that (EAGAIN).

    :param command: of enum bpf_cmd.
    :param request: what the command uses of union bpf_attr.
    :return: what the kernel returns: a descriptor, as a rule.
    :raises OSError: if the kernel refuses.
    """
    buffer = ctypes.create_string_buffer(request, len(request))
    for _ in range(_TRIES - 1):
        with contextlib.suppress(BlockingIOError):
            return _call(_BPF, command, ctypes.byref(buffer), len(request))
    return _call(_BPF, command, ctypes.byref(buffer), len(request))


def _call(number: int, *words: Any) -> int:
    """Make a system call.

    :raises OSError: if it fails.
    """
    result = int(_libc.syscall(number, *words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
