# SPDX-License-Identifier: GPL-2.0-only
"""Puts a build of a driver into a running machine; what was built once is kept on the host."""

import shlex
import time
from collections.abc import Callable

from vm import drivers, image
from vm.guest import Guest
from vm.paths import cache


def load(guest: Guest, variant: str, *, say: Callable[[str], object]) -> None:
    """Replaces the module of a machine's driver by a variant of it.

    A module that was not built before for this image is built in the machine, and kept in the cache.

    :param variant: of ``machines.yaml``'s driver of this machine: NAME or NAME:PARAMETER=VALUE.
    :param say: is told of what takes long.
    :raises UserError: if there is no such variant, or it does not build or load.
    """
    driver = guest.machine.driver
    drivers.check(driver, variant)
    kept = cache() / "modules" / image.key(guest.machine) / drivers.file_name(driver, variant)
    there = drivers.BUILT / kept.name
    if drivers.split(variant)[0] != "stock":
        guest.ssh(f"sudo install -d -o $(id -u) {there.parent}", check=True, timeout=60)
        if kept.exists():
            guest.copy_to(kept, str(there))
        else:
            began = time.monotonic()
            say(f"building {driver} {variant}")
            guest.ssh(f"sudo variant {driver} {shlex.quote(variant)} --build-only", check=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            half = kept.with_suffix(".part")
            guest.copy_from(str(there), half)
            half.rename(kept)
            say(f"built in {time.monotonic() - began:.0f} s")
    guest.ssh(f"sudo variant {driver} {shlex.quote(variant)}", check=True, timeout=300)
