# SPDX-License-Identifier: GPL-2.0-only
"""``variant``, in a testbed machine, as root: puts a build of a driver in the place of the loaded one.

Example: sudo variant virtio_net patched
"""

import argparse
import sys

from toolkit.errors import UserError
from vm import drivers
from vm.inside.scenarios.testbed import only_here


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="variant", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("driver")
    parser.add_argument("variant", nargs="?", help="NAME or NAME:PARAMETER=VALUE; without it they are listed")
    parser.add_argument("--build-only", action="store_true", help="build it, and print where the module is")
    arguments = parser.parse_args()
    try:
        if arguments.variant is None:
            for name, about in drivers.variants(arguments.driver).items():
                print(f"{name:10} {about}")
            return 0
        only_here("drivers")
        if arguments.build_only:
            print(drivers.build(arguments.driver, arguments.variant, drivers.this_machine()))
        else:
            drivers.load(arguments.driver, arguments.variant)
    except UserError as error:
        print(f"variant: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
