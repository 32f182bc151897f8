# SPDX-License-Identifier: GPL-2.0-only
"""What the running kernel says of itself, its modules and its network devices."""

from __future__ import annotations

import ast
import bisect
import contextlib
import ctypes
import fcntl
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from toolkit.driver import Driver
from toolkit.errors import UserError

TRACEFS = Path("/sys/kernel/tracing")
NET = Path("/sys/class/net")
MODULES = Path("/sys/module")
BUSES = Path("/sys/bus")
BTF = Path("/sys/kernel/btf")
NOTES = Path("/sys/kernel/notes")
NETNS = Path("/run/netns")
_CPUS = Path("/sys/devices/system/cpu/online")
ROOT = Path("/")
"""Where a machine's /proc and /sys are."""

LOOKED_AT = 64
"""As many NAPI instances the probes look at in one call: RXT_NAPIS in probes/core/napi.c."""
BUILT_IN = "built in"
"""The variant of a driver that is part of the kernel itself, and no module."""

_OF_MODULE = re.compile(rb"^(\w+) [tTwW] (\S+)\t\[(\S+)\]$", re.MULTILINE)
"""A line of /proc/kallsyms with a function of a module: its address, its name, the module."""
_PAGE = 4096
_NUMBER = 32
"""More bytes than a number in sysfs has."""
_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO, _ETHTOOL_GRINGPARAM = 0x03, 0x10
_NT_GNU_BUILD_ID = 3


def require_root() -> None:
    """Make sure that this process may load BPF programs.

    :raises UserError: if this process may not load BPF programs.
    """
    if os.geteuid() != 0:
        raise UserError("tracing needs root; run it with sudo.")


def require_open() -> None:
    """Make sure that this kernel lets root trace it.

    :raises UserError: if it does not.
    """
    require_no_lockdown()
    require_addresses()
    require_tracefs()


def require_no_lockdown(root: Path = ROOT) -> str:
    """Make sure that the kernel is not locked down so far that it refuses probes (kernel_lockdown(7)).

    Kprobes, tracefs and BPF programs that read the kernel's memory are refused with `confidentiality` only.

    :return: the level.
    :raises UserError: if the level is confidentiality.
    """
    found = re.search(r"\[(\w+)\]", read(root / "sys/kernel/security/lockdown") or "")
    level = found[1] if found else "not known to this kernel, or securityfs is not mounted"
    if level == "confidentiality":
        raise UserError(
            "the kernel is locked down (confidentiality), so it refuses kprobes and BPF programs that read "
            "its memory; boot it without lockdown=confidentiality: integrity is no obstacle."
        )
    return level


def require_addresses(root: Path = ROOT) -> None:
    """Make sure that /proc/kallsyms shows addresses: without them, no function can be told from another.

    :raises UserError: if it shows none.
    """
    try:
        with (root / "proc/kallsyms").open() as file:
            # Variables of each CPU come first in some kernels, and their addresses begin at 0.
            address = next((line.split()[0] for line in file if line.split()[1] in "tT"), "")
    except OSError:
        address = ""
    if address.strip("0"):
        return
    restrict = read(root / "proc/sys/kernel/kptr_restrict")
    if address and restrict and int(restrict) > 1:
        raise UserError(
            f"kernel.kptr_restrict is {restrict}, so the addresses of the kernel's functions are hidden; "
            "run sysctl kernel.kptr_restrict=1, and set it back when the trace has begun."
        )
    if address:
        raise UserError(
            "the addresses in /proc/kallsyms are hidden from this process; give its container CAP_SYSLOG."
        )
    raise UserError("/proc/kallsyms cannot be read, or is empty; use a kernel with CONFIG_KALLSYMS.")


def require_tracefs(root: Path = ROOT) -> str:
    """Make sure that tracefs is mounted: it has the gfp flags.

    :return: where it is mounted.
    :raises UserError: if it is not mounted.
    """
    if not (root / "sys/kernel/tracing/events").is_dir():
        raise UserError(
            "tracefs is not mounted; run mount -t tracefs nodev /sys/kernel/tracing "
            "(a container needs the host's: docker run -v /sys/kernel/tracing:/sys/kernel/tracing)."
        )
    return "/sys/kernel/tracing"


COPIED = r"(?:\.(?:isra|constprop)\.\d+)+"
"""A pattern for what gcc adds to the name of a function that it has changed, maybe its arguments, too."""


class Functions:
    """The functions of the running kernel and its modules, as they are now.

    :param text: of /proc/kallsyms, whose lines are an address, a letter for the type, a name, and the module
        if it is of one.
    :param modules: of /proc/modules, whose lines tell where each module begins, and its size.
    """

    def __init__(self, text: bytes, modules: bytes = b"") -> None:
        self._text = text
        self._modules = modules
        self._names: dict[int, str | None] = {}
        first = text.find(b"\t[")
        self._end = text.rfind(b"\n", 0, first) + 1 if first >= 0 else len(text)

    def __contains__(self, name: str) -> bool:
        return self.address(name) is not None

    @cached_property
    def _of_modules(self) -> list[tuple[bytes, bytes, bytes]]:
        """Address (in hexadecimal digits, all of the same number), name and module of each module's function.

        Only a stack needs them. There are tens of thousands: no line is looked at by itself.
        """
        return sorted(_OF_MODULE.findall(self._text, self._end))

    @cached_property
    def _ends(self) -> dict[bytes, int]:
        """Where each module ends."""
        modules = (line.split() for line in self._modules.splitlines())
        return {words[0]: int(words[5], 16) + int(words[1]) for words in modules if int(words[5], 16)}

    def at(self, address: int) -> str | None:
        """Return the name of the function that an address is in, as far as the table tells; None if in none.

        The kernel's own symbols stand in the order of their addresses, and those of modules after them. What
        is beyond the end of a module, or from the kernel's last symbol on, is in a module that is younger
        than the table, or in a BPF program (bpf_programs.loaded).
        """
        if address not in self._names:
            self._names[address] = self._found(address)
        return self._names[address]

    def _found(self, address: int) -> str | None:
        place = bisect.bisect_right(self._of_modules, (b"%016x" % address, b"\xff")) - 1
        if place >= 0:
            start, function, module = self._of_modules[place]
            # Of a BPF program the table does not tell where it ends.
            if module == b"bpf" and function.startswith(b"bpf_prog_"):
                return None
            # What else is in no module, as the kernel's trampolines, has a page of its own.
            end = self._ends.get(module) or int(start, 16) + _PAGE
            return function.decode() if address < end else None
        low, high = 0, self._end
        while (middle := self._text.rfind(b"\n", 0, (low + high) // 2) + 1) > low:
            low, high = (middle, high) if self._line(middle)[0] <= address else (low, middle)
        # A few lines are left.
        while (following := self._text.find(b"\n", low) + 1) < high and self._line(following)[0] <= address:
            low = following
        found, _ = self._line(low)
        last = self._text.find(b"\n", low) + 1 >= self._end
        # Of several names of a place, the kernel's own traces show the first (kallsyms_lookup).
        while low and self._line(before := self._text.rfind(b"\n", 0, low - 1) + 1)[0] == found:
            low = before
        return self._line(low)[1] if found <= address and not last else None

    def _line(self, at: int) -> tuple[int, str]:
        """Return the address and the name of a line that begins at a place."""
        address, _, name = self._text[at : self._text.find(b"\n", at)].split()[:3]
        return int(address, 16), name.decode()

    def address(self, name: str) -> int | None:
        """Return where a function is; None if there is none of that name. Of several it is the first."""
        for end in (b"\n", b"\t"):
            at = self._text.find(b" " + name.encode() + end)
            if at >= 0:
                line = self._text.rfind(b"\n", 0, at) + 1
                return int(self._text[line:at].split()[0], 16)
        return None

    def copy(self, name: str) -> tuple[str, str] | None:
        """Return the name and the module of the one copy of a function that the compiler made and changed.

        It may have other arguments. The module is empty for one of the kernel's own; None if there is no
        copy, or several.
        """
        pattern = rb" (%s%s)(?:\t\[(\w+)\])?\n" % (re.escape(name.encode()), COPIED.encode())
        found = set(re.findall(pattern, self._text))
        if len(found) != 1:
            return None
        symbol, module = found.pop()
        return symbol.decode(), module.decode()


def functions(root: Path = ROOT) -> Functions:
    """Return the functions of the running kernel."""
    # A kernel that can load no module has no such file.
    modules = read(root / "proc/modules") or ""
    return Functions((root / "proc/kallsyms").read_bytes(), modules.encode())


def online_cpus() -> list[int]:
    """Return the numbers of the CPUs that run now."""
    ranges = (each.split("-") for each in _CPUS.read_text().strip().split(","))
    return [cpu for each in ranges for cpu in range(int(each[0]), int(each[-1]) + 1)]


def module_identity(module: str) -> int | None:
    """Return what tells one loading of a module from the next: sysfs never uses an inode number twice.

    :param module: a name; empty, where it does not matter which: that never changes.
    :return: 0 if the module is built in and has no directory; None if it is not loaded.
    """
    try:
        return (MODULES / module).stat().st_ino
    except FileNotFoundError:
        return 0 if is_built_in(module) else None


def is_built_in(module: str, root: Path = ROOT) -> bool:
    """Tell whether the running kernel itself has a driver that other kernels have as a module.

    Only a loaded module has a state in sysfs. A driver that is built in has a directory there if it has
    parameters or a version (param_sysfs_init in kernel/params.c). If it has none, its bus may know it, of no
    module, or the list that is installed with a distribution's kernel.
    """
    if (MODULES / module).exists():
        return not (MODULES / module / "initstate").exists()
    if any(not (driver / "module").exists() for driver in BUSES.glob(f"*/drivers/{module}")):
        return True
    names = read(root / "lib/modules" / os.uname().release / "modules.builtin") or ""
    return module in {Path(line).stem.replace("-", "_") for line in names.splitlines()}


def has_btf(module: str) -> bool:
    """Tell whether a module has types of its own; those of one that is built in are among the kernel's."""
    return (BTF / module).exists()


def module_facts(module: str) -> dict[str, Any]:
    """Return what the trace records of a module: srcversion, build_id, version, variant and parameters.

    A module without a version has no srcversion either; its build id tells one build from another.
    A variant names itself in the module's `version`, as ``variant:NAME``. A module that does not is `stock`,
    the distribution's own, unless the kernel says that it was built out of its tree: then it is `rebuilt`.
    One that is part of the kernel is `built in`, and has the kernel's build id.

    :raises UserError: if the module is neither loaded nor built in.
    """
    directory = MODULES / module
    built_in = is_built_in(module)
    if not (built_in or (directory / "initstate").exists()):
        raise UserError(f"module {module} is not loaded; load it (modprobe {module}) or check the device.")
    version = read(directory / "version")
    parameters = directory / "parameters"
    return {
        "module": module,
        "srcversion": read(directory / "srcversion"),
        "build_id": _build_id(NOTES if built_in else directory / "notes" / ".note.gnu.build-id"),
        "version": version,
        "variant": _variant(version or "", read(directory / "taint") or "", built_in),
        "parameters": {path.name: read(path) for path in sorted(parameters.glob("*"))},
    }


def facts(driver: Driver, over: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return module_facts of a driver's module, or of the one that all devices are bound to.

    Of devices of several modules only the names are known: that is all one trace has room for.

    :param over: the devices that are traced by this driver's probes (devices).
    :raises UserError: if the driver's own module is neither loaded nor built in.
    """
    if not driver.by_polls or not (MODULES / driver.module).exists():
        return module_facts(driver.module)
    bound = sorted({driver.module or driver_of(device["name"]) or "unknown" for device in over})
    if len(bound) == 1 and module_identity(bound[0]) is not None:
        return module_facts(bound[0])
    unknown = dict.fromkeys(("srcversion", "build_id", "version", "variant"))
    return {"module": ", ".join(bound), **unknown, "parameters": {}}


def _variant(version: str, taint: str, built_in: bool) -> str:
    """Return the name of a build; the kernel shows TAINT_OOT_MODULE as O (kernel/module/main.c)."""
    if version.startswith("variant:"):
        return version.removeprefix("variant:")
    if built_in:
        return BUILT_IN
    return "rebuilt" if "O" in taint else "stock"


def devices(driver: Driver, named: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the network devices that a driver has bound, or over which it works.

    :param named: as for :func:`paths`.
    :return: {ifindex, name, driver, bus, queues: [{queue, name, size}]} each; size in buffers, or None.
    """
    found = []
    for path in paths(driver, named):
        found.append(
            {
                "ifindex": int((path / "ifindex").read_text()),
                "name": path.name,
                "driver": driver.name,
                "bus": (path / "device").resolve().name if is_nic(path.name) else "",
                # If a driver only works over a device, only its events name its queues.
                "queues": [] if driver.netif or driver.by_polls else _queues(driver, path),
            }
        )
    return found


def paths(driver: Driver, named: Collection[str] = ()) -> list[Path]:
    """Return the directory in sysfs of each network device that a driver's probes may trace.

    These are the devices that the driver's module has bound; or those that the files of `netif` name, for a
    driver that works over devices of others; or, for the probes for any NIC, each NIC.

    :param named: of what is no NIC, the probes for any NIC trace these, such as one of a pair of veth.
    """
    if driver.of_any:
        there = (path for path in sorted(NET.iterdir()) if (path / "ifindex").exists())
        return [path for path in there if is_nic(path.name) or path.name in named]
    return _over(driver.netif) if driver.netif else bound(driver.module)


def is_up(device: str) -> bool:
    """Tell whether a network device is up (IFF_UP)."""
    return bool(int(read(NET / device / "flags") or "0", 16) & 1)


def _queues(driver: Driver, path: Path) -> list[dict[str, Any]]:
    """Return {queue, name, size} of each queue that a driver has on a device that it has bound."""
    size = ring_size(path.name)
    rx_queues = sorted(int(queue.name[3:]) for queue in (path / "queues").glob("rx-*"))
    return [
        {"queue": number, "name": driver.queue_name(number), "size": size}
        for rx in rx_queues
        for number in driver.queues_of(rx)
    ]


def bound(module: str) -> list[Path]:
    """Return the directories in sysfs of the network devices that a module's driver has bound.

    A driver that is built in may have no module there: then its own name is compared.
    """
    links = [(path, path / "device/driver") for path in sorted(NET.iterdir())]
    modules = [(path, link / "module" if (link / "module").exists() else link) for path, link in links]
    return [path for path, link in modules if link.exists() and link.resolve().name == module]


@contextlib.contextmanager
def statistics() -> Iterator[Callable[[Iterable[str]], None]]:
    """Return what makes the kernel call dev_get_stats(): probes look at some queues of a device each time.

    It is given the names of devices in this network namespace; what is not there any more is left out. Files
    stay open until the end of the block, since opening one takes ten times as long as reading it again.
    """
    opened: dict[str, tuple[int, range]] = {}

    def ask(names: Iterable[str]) -> None:
        for name in names:
            try:
                if name not in opened:
                    # Receiving and sending, each may have a NAPI instance.
                    queues = sum(1 for _ in (NET / name / "queues").iterdir())
                    file = os.open(NET / name / "statistics/rx_packets", os.O_RDONLY | os.O_CLOEXEC)
                    opened[name] = file, range(0, queues + 1, LOOKED_AT)
                file, looks = opened[name]
                for _ in looks:
                    os.pread(file, _NUMBER, 0)
            except OSError:
                # There is none, or what was there is gone; the next one of that name has another file.
                if name in opened:
                    os.close(opened.pop(name)[0])

    try:
        yield ask
    finally:
        for file, _ in opened.values():
            os.close(file)


def is_nic(device: str) -> bool:
    """Tell whether a network device is a NIC, which a driver has bound: a bridge or a veth is none."""
    return (NET / device / "device/driver").exists()


def driver_of(device: str) -> str | None:
    """Return the name of the driver of a network device; None if there is none, or it is not known."""
    if is_nic(device):
        return (NET / device / "device/driver").resolve().name
    # struct ethtool_drvinfo: cmd, driver, …
    said = ethtool(device, struct.pack("=I", _ETHTOOL_GDRVINFO) + bytes(192))
    return said[4:36].partition(b"\0")[0].decode() or None if said else None


def _over(pattern: str) -> list[Path]:
    """Return the directories in sysfs of the network devices that some files name, divided by commas."""
    files = sorted(Path("/").glob(pattern.removeprefix("/")))
    names = dict.fromkeys(name for file in files for name in (read(file) or "").split(","))
    return [NET / name for name in names if (NET / name).exists() and name]


def netns() -> int:
    """Return the inode number of this process's network namespace: each namespace has another."""
    return Path("/proc/self/ns/net").stat().st_ino


def namespaces() -> dict[str, int]:
    """Return name -> inode number of the network namespaces that have a name (ip-netns(8))."""
    return {path.name: path.stat().st_ino for path in sorted(NETNS.glob("*"))}


def ring_size(name: str) -> int | None:
    """Return how many buffers a device's receive ring may hold (``ethtool -g``); None if it does not say."""
    # struct ethtool_ringparam {cmd, rx_max, rx_mini_max, rx_jumbo_max, tx_max, rx, rx_mini, rx_jumbo, tx}
    found = ethtool(name, struct.pack("9I", _ETHTOOL_GRINGPARAM, *[0] * 8))
    return (int(struct.unpack("9I", found)[5]) or None) if found else None


def ethtool(device: str, request: bytes) -> bytes | None:
    """Return a request to ethtool's ioctl as the kernel filled it; None if the driver knows no answer."""
    data = ctypes.create_string_buffer(request, len(request))
    words = struct.pack("16sP", device.encode(), ctypes.addressof(data))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, words)
        except OSError:
            return None
    return data.raw


def clocks() -> dict[str, int]:
    """Return the clocks at one moment, in ns; the trace uses the monotonic clock."""
    return {
        "monotonic_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        "realtime_ns": time.clock_gettime_ns(time.CLOCK_REALTIME),
        "boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    }


def gfp_flags() -> dict[str, int]:
    """Return the gfp flags of this kernel by name, in the order in which the kernel prints them.

    :return: empty if tracefs cannot be read.
    """
    try:
        text = (TRACEFS / "events/kmem/mm_page_alloc/format").read_text()
    except OSError:
        return {}
    return read_gfp_flags(text)


def read_gfp_flags(text: str) -> dict[str, int]:
    """Evaluate the ``__print_flags`` table in the format of kmem:mm_page_alloc.

    :param text: ``{( unsigned long)(( gfp_t)0x20u|( gfp_t)0x800u), "GFP_ATOMIC"}`` and so on.
    """
    flags: dict[str, int] = {}
    for expression, name in re.findall(r'\{([^{}"]+), "(\w+)"\}', text):
        plain = re.sub(r"\(\s*(?:unsigned long|gfp_t)\s*\)|(?<=[0-9a-fA-F])[uUlL]+\b", "", expression)
        value = _constant(ast.parse(plain.strip(), mode="eval").body)
        if value:
            flags[name] = value & 0xFFFFFFFF
    return flags


def _constant(node: ast.expr) -> int:
    """Return the value of an expression of integers; 0 if it contains anything else."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return ~_constant(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _constant(left), _constant(right)
            match operator:
                case ast.BitOr():
                    return a | b
                case ast.BitAnd():
                    return a & b
                case ast.LShift():
                    return a << b
    return 0


def _build_id(notes: Path) -> str | None:
    """Return the build id among ELF notes: sizes of name and id, type, name and id of each (elf(5))."""
    try:
        data = notes.read_bytes()
        while data:
            name_size, size, kind = struct.unpack_from("III", data)
            start = 12 + (name_size + 3) // 4 * 4
            if (kind, data[12 : 12 + name_size]) == (_NT_GNU_BUILD_ID, b"GNU\0"):
                return data[start : start + size].hex()
            data = data[start + (size + 3) // 4 * 4 :]
    except (OSError, struct.error):
        pass
    return None


def read(path: Path, most: int = -1) -> str | None:
    """Return what is in a file of the kernel's, without blanks around it; None if it cannot be read.

    :param most: only so many bytes are read of it.
    """
    try:
        # No buffer and no encoding to look up: half of the time.
        with path.open("rb", buffering=0) as file:
            return file.read(most).decode().strip()
    except (OSError, UnicodeDecodeError):
        return None
