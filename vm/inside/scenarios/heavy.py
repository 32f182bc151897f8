# SPDX-License-Identifier: GPL-2.0-only
"""An XDP program that takes long for each frame: it asks for the time again and again."""

from __future__ import annotations

import time

from vm.inside import testbed, xdp


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--device", default="eth1", help="the device that receives")
    parser.add_argument("--turns", type=int, default=60_000, help="how often it asks, for each frame")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds for which it is there")
    parser.add_argument("--before", type=float, default=1.0, help="seconds before that")
    parser.add_argument("--after", type=float, default=1.0, help="seconds to go on after that")
    arguments = parser.parse_args()

    log = testbed.begin("heavy", arguments)
    try:
        with (
            testbed.between(log, arguments),
            xdp.attached(arguments.device, "heavy", xdp.busy(arguments.turns)),
            log.phase("heavy"),
        ):
            time.sleep(arguments.hold)
    finally:
        log.write(arguments.output)


if __name__ == "__main__":
    main()
