# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vm.aoe``, in a testbed machine, as root: starts its AoE disk, or wakes it up.

Example: python -m vm.aoe start
"""

import argparse
import sys

from toolkit.errors import one_sentence
from vm.inside import aoe
from vm.inside.testbed import only_here


@one_sentence("vm.aoe")
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m vm.aoe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("start", "poke"))
    arguments = parser.parse_args()
    only_here("disks")
    {"start": aoe.start, "poke": aoe.poke}[arguments.what]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
