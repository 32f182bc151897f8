# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts off for a set time, on one CPU after the other: the module vm/modules/irqs_off does it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from vm.inside import testbed

_SWITCH = Path("/sys/module/irqs_off/parameters/milliseconds")
"""Writing a number here turns interrupts off for so long."""


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--hold", type=float, default=0.3, help="seconds for which interrupts are off")
    parser.add_argument("--before", type=float, default=1.0, help="seconds before that, for each CPU")
    parser.add_argument("--after", type=float, default=2.0, help="seconds to go on after that")
    arguments = parser.parse_args()

    log = testbed.begin("masked", arguments)
    cpus = os.sched_getaffinity(0)
    try:
        for cpu in sorted(cpus):
            time.sleep(arguments.before)
            os.sched_setaffinity(0, {cpu})
            with log.phase(f"CPU {cpu}"):
                _SWITCH.write_text(str(round(arguments.hold * 1000)))
            os.sched_setaffinity(0, cpus)
        with log.phase("after"):
            time.sleep(arguments.after)
    finally:
        log.write(arguments.output)


if __name__ == "__main__":
    main()
