# SPDX-License-Identifier: GPL-2.0-only
"""An interrupt that is lost: the driver's build `lossy` forgets one, and polls again after a set time."""

from __future__ import annotations

import time
from pathlib import Path

from vm.inside import testbed

_SWITCH = Path("/sys/module/virtio_net/parameters/rx_lose")
"""How long [ms] the driver is to be deaf, from the next interrupt on; 0 from then on (lossy.patch)."""


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds until the driver polls again")
    parser.add_argument("--before", type=float, default=2.0, help="seconds before that")
    parser.add_argument("--after", type=float, default=2.0, help="seconds to go on after that")
    arguments = parser.parse_args()

    log = testbed.begin("lost", arguments)
    try:
        with testbed.between(log, arguments), log.phase("lost"):
            _SWITCH.write_text(str(round(arguments.hold * 1000)))
            time.sleep(arguments.hold)
    finally:
        log.write(arguments.output)


if __name__ == "__main__":
    main()
