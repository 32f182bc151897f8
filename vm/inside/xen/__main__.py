# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vm.xen``, in dom0 of a testbed machine, as root: starts, ends, pauses and tells its guests.

Example: python -m vm.xen start 2
"""

import argparse
import sys

from toolkit.errors import one_sentence
from vm.inside import xen
from vm.inside.testbed import only_here


@one_sentence("vm.xen")
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m vm.xen", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("start", "stop", "pause", "unpause", "tell"))
    parser.add_argument("guest", type=int, help="its number, from 1")
    parser.add_argument("command", nargs="*", help="tell: for its shell")
    parser.add_argument("--memory", type=int, default=192, metavar="MB", help="start: its memory")
    parser.add_argument("--whole", action="store_true", help="start: with the machine's files")
    arguments = parser.parse_args()
    guest = xen.Guest(arguments.guest)
    only_here("guests")
    match arguments.what:
        case "start":
            xen.start(guest, arguments.memory, whole=arguments.whole)
        case "stop":
            xen.stop(guest)
        case "tell":
            xen.tell(guest, " ".join(arguments.command))
        case which:
            xen.xl(which, guest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
