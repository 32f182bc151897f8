# SPDX-License-Identifier: GPL-2.0-only
"""Genuine: received packets stay in sockets that nobody reads, while memory is dirtied faster than swap is.

The method of the tests in the cover letter of "staging: qlge: Fix rx stall in case of allocation
failures" (2019).
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from vm.inside import testbed
from vm.inside.testbed import MIB


def main() -> None:
    parser = testbed.options(__doc__ or "")
    testbed.pressure_options(parser)
    parser.add_argument(
        "--recycle", type=float, default=20.0, help="seconds after which the sockets are emptied"
    )
    parser.add_argument("--after", type=float, default=5.0, help="seconds to go on when memory is free again")
    arguments = parser.parse_args()

    log = testbed.begin("pressure", arguments)
    try:
        with ExitStack() as stack:
            with log.phase("prepare"):
                stack.enter_context(testbed.address(arguments.device, arguments.address))
                stack.enter_context(testbed.sysctl("net.ipv4.udp_mem", "2000000 2000000 2000000"))
                testbed.stay()
            # To the end of who dirtied memory: it cannot go before its own swapping is done.
            with (
                log.phase("pressure", shortage=True),
                testbed.pressure(arguments.dirty * MIB, arguments.min_free),
            ):
                end = time.monotonic() + arguments.duration
                while (left := end - time.monotonic()) > 0:
                    with testbed.unread(arguments.ports, arguments.buffer * MIB):
                        time.sleep(min(arguments.recycle, left))
        with log.phase("recover"):
            time.sleep(arguments.after)
    finally:
        log.write(arguments.output)


if __name__ == "__main__":
    main()
