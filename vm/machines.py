# SPDX-License-Identifier: GPL-2.0-only
"""Read ``machines.yaml``: what each testbed machine is made of."""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from toolkit.errors import UserError

FILE = Path(__file__).parent / "machines.yaml"

#: By architecture, as Debian calls it: what the machine itself says (uname -m), and QEMU and Python, too.
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}

#: NICs that are processes of ours, not devices of QEMU's, have a package here: NAME_nic.
MODELS = Path(__file__).parent / "models"

T = TypeVar("T")


@dataclass(frozen=True)
class Nic:
    """A NIC under test.

    :param model: QEMU's device name, or that of a process of ours (vm/models).
    :param queues: receive queues; more than one needs a tap device, and so root.
    :param options: further properties of the device, or options of our own model's command; YAML's on and off
        are kept as such.
    :param hub: the number of a hub inside QEMU that it is plugged into; None: it has a wire.
    """

    model: str
    queues: int = 1
    hub: int | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it is a process of ours, which QEMU reaches over vfio-user."""
        return (MODELS / f"{self.model}_nic").is_dir()


@dataclass(frozen=True)
class Swap:
    """A swap disk: its size, and how slow it is."""

    gib: int
    bytes_per_second: int


@dataclass(frozen=True)
class Xen:
    """A hypervisor under the machine's kernel, which is its dom0 then.

    :param dom0_mb: memory of dom0; Xen itself and the guests have the rest.
    """

    dom0_mb: int


@dataclass(frozen=True)
class Kernel:
    """A kernel of Debian that is promised: the newest of a suite.

    :param kernel: the suite that it is of, if that is not the release.
    :param architectures: as Debian calls them.
    """

    release: str
    architectures: tuple[str, ...]
    kernel: str | None = None

    @property
    def suite(self) -> str:
        """The suite that it is of."""
        return self.kernel or self.release


@dataclass(frozen=True)
class Machine:
    """One entry of ``machines.yaml`` over the defaults.

    :param architecture: as Debian calls it; another than this machine's is emulated.
    :param kernel: the suite that its kernel is of, if that is not the release.
    :param config: of a kernel that is compiled here of that suite's source (vm/image/configs).
    :param start: modules and their arguments (``python -m``), run in the machine as root when it is up.
    """

    name: str
    description: str
    driver: str
    release: str
    memory_mb: int
    cpus: int
    management: str
    nics: tuple[Nic, ...]
    architecture: str = "amd64"
    swap: Swap | None = None
    xen: Xen | None = None
    kernel: str | None = None
    config: str | None = None
    packages: tuple[str, ...] = ()
    cmdline: tuple[str, ...] = ()
    start: tuple[str, ...] = ()

    @property
    def foreign(self) -> bool:
        """Whether it is of another architecture than the testbed: always emulated, and without a compiler."""
        return self.architecture != "amd64"

    @property
    def shares_memory(self) -> bool:
        """Whether its memory has to be open to other processes: a NIC of our own reads and writes it."""
        return any(nic.ours for nic in self.nics)


def load(path: Path = FILE) -> dict[str, Machine]:
    """Read every machine.

    :param path: a file in the format of ``machines.yaml``.
    :return: machines by name.
    :raises UserError: if a key is unknown, missing or of the wrong type.
    """
    document = _document(path)
    defaults = document.get("defaults") or {}
    entries = document["machines"]
    machines = {}
    for name, own in entries.items():
        where = f"{path.name}: {name}"
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", str(name)):
            raise UserError(
                f"{where}: a machine's name is made of a-z, 0-9 and dashes, at most 31 characters."
            )
        if not isinstance(own, dict):
            raise UserError(f"{where} has no keys.")
        machines[name] = _build(
            Machine, {**defaults, **_laid_over(name, entries, where), "name": name}, where
        )
    return machines


def kernels(path: Path = FILE) -> tuple[Kernel, ...]:
    """Read the kernels that are promised.

    :param path: as in `load`.
    :raises UserError: as `load`.
    """
    entries = _document(path).get("kernels")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path.name} has no list of `kernels`.")
    return tuple(
        _build(Kernel, entry, f"{path.name}: kernels[{number}]") for number, entry in enumerate(entries)
    )


def first() -> str:
    """Return the name of the machine that a command takes if none is named."""
    return next(iter(load()))


def find(name: str) -> Machine:
    """The machine of that name.

    :raises UserError: if there is none.
    """
    machines = load()
    if name not in machines:
        raise UserError(f"No machine is called {name}; there are {', '.join(machines)}.")
    return machines[name]


def _document(path: Path) -> dict[str, Any]:
    """Return what a file in the format of ``machines.yaml`` says."""
    try:
        document = _parsed(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not isinstance(document.get("machines"), dict):
        raise UserError(f"{path.name} has no `machines`.")
    return document


@functools.cache
def _parsed(text: str) -> Any:
    """Return what a text in YAML says: machines are looked up often, and reading takes 7 ms."""
    return yaml.safe_load(text)


def _laid_over(name: str, entries: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a machine's keys over those of the machine that it is like, if it is like another.

    :raises UserError: if there is no such machine, or it is like itself.
    """
    chain = [name]
    while (other := entries[chain[-1]].get("like")) is not None:
        if other in chain:
            raise UserError(f"{where} is like itself.")
        if not isinstance(other, str) or not isinstance(entries.get(other), dict):
            raise UserError(f"{where} is like {other}, which is no machine.")
        chain.append(other)
    keys: dict[str, Any] = {}
    for each in reversed(chain):
        keys |= entries[each]
    keys.pop("like", None)
    return keys


def _build(kind: type[T], values: dict[str, Any], where: str) -> T:
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]}; known are {', '.join(hints)}.")
    parsed = {key: _value(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return kind(**parsed)
    except TypeError:
        missing = [key for key in hints if key not in values and not hasattr(kind, key)]
        raise UserError(f"{where}: {missing[0]} is missing.") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inner = next(arg for arg in args if arg is not type(None))
        return None if value is None else _value(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where} is a list.")
        return tuple(_value(args[0], each, f"{where}[{number}]") for number, each in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where} is a mapping.")
        return {str(key): _word(each) for key, each in value.items()}
    if hint in (Nic, Swap, Xen):
        if not isinstance(value, dict):
            raise UserError(f"{where} is a mapping.")
        return _build(hint, value, where)
    if hint is int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{where} is a number above 0.")
        return value
    if not isinstance(value, str) or not value:
        raise UserError(f"{where} is a text.")
    return value


def _word(value: Any) -> str:
    # YAML reads a bare on and off as booleans; QEMU wants the words.
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
