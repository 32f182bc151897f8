# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vm.inside.nics MODULE...``, in a testbed machine, as root: loads drivers one after the other.

A machine loads the drivers of all its NICs when it starts, in an order that nobody chose. Those whose NICs
are to have the last names are kept from that (modprobe.blacklist= on the command line) and loaded here.

Example: python -m vm.inside.nics igb pcnet32
"""

import argparse
import sys
from pathlib import Path

from toolkit.errors import one_sentence
from vm.cmd import cmd
from vm.inside.testbed import only_here


@one_sentence("vm.inside.nics")
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m vm.inside.nics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("module", nargs="+")
    arguments = parser.parse_args()
    only_here("drivers")
    for module in arguments.module:
        cmd(["modprobe", module])
        for path in sorted(Path("/sys/class/net").glob("eth[1-9]*")):
            cmd(["rx-stall-nic", path.name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
