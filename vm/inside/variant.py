# SPDX-License-Identifier: GPL-2.0-only
"""``variant``, in a testbed machine, as root: puts a build of a driver in the place of the loaded one.

Example: sudo variant virtio_net patched
"""

import argparse
import importlib
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from toolkit.capture.kernel import bound
from toolkit.errors import UserError, one_sentence
from vm import drivers
from vm.drivers.build import Tree, build, run
from vm.inside.testbed import only_here

_IFF_UP = 1  # include/uapi/linux/if.h
#: How long devices may take to come back with another module (s).
BACK_SECONDS = 60


def this_machine() -> Tree:
    """Return the tree that is the testbed machine in which this runs."""
    return Tree(Path("/"), os.uname().release, Path("/sys/kernel/btf/vmlinux"))


def load(driver: str, variant: str) -> None:
    """Put a variant in the place of the module that is loaded, in a testbed machine, as root.

    Its devices are back and up when this returns.

    :raises UserError: if that fails.
    """
    drivers.check(driver, variant)
    name, parameters = drivers.split(variant)
    words = ["modprobe", driver] if name == "stock" else ["insmod", build(driver, name, this_machine())]
    before = {device.name for device in bound(driver)}
    with _away(driver):
        if Path("/sys/module", driver).exists():
            run(["rmmod", driver])
        run([*words, *parameters])
    # The kernel only logs that it does not know a parameter.
    for each in parameters:
        if not Path("/sys/module", driver, "parameters", each.partition("=")[0]).exists():
            raise UserError(f"{driver} {name} has no parameter {each.partition('=')[0]}.")
    deadline = time.monotonic() + BACK_SECONDS
    while missing := before - {device.name for device in bound(driver) if _is_up(device.name)}:
        if time.monotonic() > deadline:
            raise UserError(
                f"{driver} {variant} is loaded, but {', '.join(sorted(missing))} did not come up."
            )
        # A machine without systemd has nobody who does it when a device comes.
        for name in sorted(name for name in missing if name.startswith("eth") and _is_down(name)):
            run(["rx-stall-nic", name])
        time.sleep(0.1)


def _is_down(device: str) -> bool:
    """Whether a device is there, and was not brought up."""
    flags = Path("/sys/class/net", device, "flags")
    return flags.exists() and not int(flags.read_text(), 16) & _IFF_UP


def _is_up(device: str) -> bool:
    """Whether a device was brought up and has its link, where its driver knows of one."""
    about = Path("/sys/class/net", device)
    return not _is_down(device) and (about / "operstate").read_text().strip() in ("up", "unknown")


def _away(driver: str) -> AbstractContextManager[None]:
    """Have those who use a driver's module let go of it, for the length of a block."""
    name = drivers.needs(driver).away
    if name is None:
        return nullcontext()
    away: AbstractContextManager[None] = importlib.import_module(name).away()
    return away


@one_sentence("variant")
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="variant", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("driver")
    parser.add_argument("variant", nargs="?", help="NAME or NAME:PARAMETER=VALUE; without it they are listed")
    parser.add_argument("--build-only", action="store_true", help="build it, and print where the module is")
    arguments = parser.parse_args()
    if arguments.variant is None:
        for name, about in drivers.variants(arguments.driver).items():
            print(f"{name:10} {about}")
        return 0
    only_here("drivers")
    if arguments.build_only:
        print(build(arguments.driver, arguments.variant, this_machine()))
    else:
        load(arguments.driver, arguments.variant)
    return 0


if __name__ == "__main__":
    sys.exit(main())
