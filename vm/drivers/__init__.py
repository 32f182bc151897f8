# SPDX-License-Identifier: GPL-2.0-only
"""Drivers under test: what builds of each there are, and what a testbed machine has for it.

A variant of a driver is a patch in the driver's directory here; `stock` is the distribution's own module and
`rebuilt` the same source, built as the variants are: what differs between those two is due to the building.
"""

import hashlib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from toolkit.errors import UserError

HERE = Path(__file__).parent

_WITHOUT_PATCH = {
    "stock": "The distribution's module, untouched.",
    "rebuilt": "The distribution's source, built as the variants are.",
}


@dataclass(frozen=True)
class Needs:
    """What a testbed machine has for a driver: its testbed.toml.

    :param sources: files and directories of the kernel's source that variants are built from.
    :param nic_modules: modules that take NICs when they are loaded: the management NIC's comes before them.
    :param away: the module whose function `away` makes those who use the driver let go of it, for the length
        of a block in which another build is put in.
    :param trace: the words of `toolkit trace` by which the driver is traced, if it has no probes of its own.
    :param refuses: whether the NIC's model refuses a frame that it has no buffer for. If it takes and drops
        the frame, the sender is no witness.
    """

    sources: tuple[str, ...] = ()
    nic_modules: tuple[str, ...] = ()
    away: str | None = None
    trace: tuple[str, ...] = ()
    refuses: bool = True


def needs(driver: str) -> Needs:
    """Return what a testbed machine has for a driver; nothing if it has no testbed.toml.

    :raises UserError: if a key is not known.
    """
    path = HERE / driver / "testbed.toml"
    if not path.exists():
        return Needs()
    table = tomllib.loads(path.read_text())
    names = [field.name for field in fields(Needs)]
    if unknown := sorted(set(table) - set(names)):
        raise UserError(
            f"vm/drivers/{driver}/testbed.toml: unknown key {unknown[0]}; known are {', '.join(names)}."
        )
    return Needs(
        sources=tuple(table.get("sources", ())),
        nic_modules=tuple(table.get("nic_modules", ())),
        away=table.get("away"),
        trace=tuple(table.get("trace", ())),
        refuses=table.get("refuses", True),
    )


def variants(driver: str) -> dict[str, str]:
    """The builds of a driver.

    :return: what each is, in a sentence, by name.
    :raises UserError: if there are none.
    """
    directory = HERE / driver
    if not (directory / "Kbuild").exists():
        known = sorted(path.parent.name for path in HERE.glob("*/Kbuild"))
        raise UserError(f"There are no variants of {driver}; there are some of {', '.join(known)}.")
    patches = {path.stem: path.read_text().splitlines()[1] for path in sorted(directory.glob("*.patch"))}
    return _WITHOUT_PATCH | patches


def split(variant: str) -> tuple[str, list[str]]:
    """Split NAME:PARAMETER=VALUE:... into the name of the build and the parameters of its module."""
    name, *parameters = variant.split(":")
    return name, parameters


def check(driver: str, variant: str) -> None:
    """Make sure that a driver has such a build.

    :raises UserError: if it has not.
    """
    name, parameters = split(variant)
    if name not in (known := variants(driver)):
        raise UserError(f"{driver} has no variant {name}; it has {', '.join(known)}.")
    if wrong := [each for each in parameters if "=" not in each]:
        raise UserError(f"{wrong[0]} is no PARAMETER=VALUE; a variant is NAME or NAME:PARAMETER=VALUE.")


def file_name(driver: str, variant: str) -> str:
    """Return the name of a built module's file; it changes with all that the module is built from."""
    name, _ = split(variant)
    parts = [HERE / driver / "Kbuild", HERE / driver / f"{name}.patch", HERE / "build.py"]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in parts if path.exists())).hexdigest()
    return f"{driver}-{name}-{digest[:12]}.ko"
