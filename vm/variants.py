# SPDX-License-Identifier: GPL-2.0-only
"""Builds of a driver for a machine: made on the host with the image's own tools, kept, and put in."""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.capture import elf
from toolkit.errors import UserError
from vm import drivers
from vm.drivers.build import BUILT, Tree, build_own, own_file_name
from vm.drivers.build import build as build_module
from vm.guest import Guest
from vm.image import debian, image
from vm.machines import Machine
from vm.paths import cache


def load(guest: Guest, variant: str, *, say: Callable[[str], object]) -> None:
    """Replace the module of a machine's driver by a variant of it.

    :param variant: of ``machines.yaml``'s driver of this machine: NAME or NAME:PARAMETER=VALUE.
    :param say: is told of what takes long.
    :raises UserError: if there is no such variant, it does not build or load, or the driver is built in.
    """
    driver = guest.machine.driver
    drivers.check(driver, variant)
    if guest.machine.config:
        raise UserError(f"{driver} is built into the kernel of {guest.machine.name}: it has no variants.")
    if guest.machine.foreign and variant != "stock":
        raise UserError(f"the image of {guest.machine.name} has no compiler: of {driver} it has only stock.")
    if drivers.split(variant)[0] != "stock":
        module = build(guest.machine, variant, say=say)
        there = BUILT / module.name
        guest.ssh(f"sudo install -d -o $(id -u) {there.parent}", check=True, timeout=60)
        guest.copy_to(module, str(there))
    guest.ssh(f"sudo variant {driver} {shlex.quote(variant)}", check=True, timeout=300)


def build(machine: Machine, variant: str, *, say: Callable[[str], object]) -> Path:
    """Build a variant of a machine's driver for its kernel, unless the cache has it.

    :return: the module in the cache.
    :raises UserError: if it does not compile.
    """
    driver = machine.driver
    name = drivers.file_name(driver, variant)
    return _kept(machine, name, lambda tree: build_module(driver, variant, tree), f"{driver} {variant}", say)


def insert(guest: Guest, name: str, *, say: Callable[[str], object]) -> None:
    """Load a module of our own (vm/modules) in a machine, unless it is loaded.

    :param say: is told of what takes long.
    :raises UserError: if it does not compile.
    """
    module = _kept(guest.machine, own_file_name(name), lambda tree: build_own(name, tree), name, say)
    there = f"/var/tmp/{module.name}"
    guest.copy_to(module, there)
    guest.ssh(f"test -e /sys/module/{name} || sudo insmod {there}", check=True, timeout=60)


def _kept(
    machine: Machine, name: str, make: Callable[[Tree], Path], what: str, say: Callable[[str], object]
) -> Path:
    """Return a module for a machine's kernel in the cache; it is made unless it is there.

    :param name: of its file.
    :param make: builds it in the tools of the machine's image.
    :param what: it is, in a word or two.
    """
    built = image.ensure(machine)
    kept = cache() / "modules" / built.key / name
    if kept.exists():
        return kept
    began = time.monotonic()
    say(f"building {what}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tools(built) as tree:
        module = make(tree)
        half = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(module, half)
    half.rename(kept)
    say(f"built in {time.monotonic() - began:.0f} s")
    return kept


@contextmanager
def tools(built: image.Image) -> Iterator[Tree]:
    """Unpack what builds modules for an image, for the length of the block.

    :raises UserError: if the image has nothing that does.
    """
    if built.tools is None:
        raise UserError(f"the image {built.key} has no compiler: modules are built for amd64 only.")
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache()) as directory:
        root = Path(directory)
        words = ["tar", "--extract", "--file", str(built.tools), "--directory", directory, "--no-same-owner"]
        subprocess.run(words, check=True)
        for name in ("dev", "proc", "tmp"):
            (root / name).mkdir()
        btf = root / "btf"
        btf.write_bytes(elf.section(built.kernel.read_bytes(), ".BTF"))
        (release,) = (path.name for path in (root / "usr/lib/modules").iterdir())
        yield Tree(root, release, btf, tuple(debian.enter(root)))
