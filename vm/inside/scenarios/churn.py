# SPDX-License-Identifier: GPL-2.0-only
"""Pulls a device from under its driver, again and again: down and up, XDP on and off, another ring size.

Beside a scenario that starves the driver, this meets its refill worker at work. A step that fails for want of
memory is counted and not repeated; at the end the device is up, without XDP, with the ring that it had.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from toolkit.capture.kernel import ring_size
from vm.inside import testbed

_PASS = "int pass(struct xdp_md *ctx) { return XDP_PASS; }"


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--times", type=int, default=30, help="how many steps")
    parser.add_argument("--device", default="eth1", help="which")
    parser.add_argument("--steps", default="down,xdp,ring", help="which, with commas")
    arguments = parser.parse_args()
    device: str = arguments.device

    log = testbed.begin("churn", arguments)
    # Compiled before memory gets short.
    from bcc import BPF  # type: ignore[import-not-found,unused-ignore]

    program = BPF(text=_PASS)
    function = program.load_func("pass", BPF.XDP)
    size = ring_size(device) or 256
    steps: dict[str, Callable[[], bool]] = {
        "down": lambda: _all(["ip", "link", "set", device, "down"], ["ip", "link", "set", device, "up"]),
        "xdp": lambda: _xdp(BPF, device, function),
        "ring": lambda: _all(
            ["ethtool", "-G", device, "rx", str(size // 2)], ["ethtool", "-G", device, "rx", str(size)]
        ),
    }
    done: Counter[str] = Counter()
    try:
        with log.phase("churn"):
            for name in itertools.islice(itertools.cycle(arguments.steps.split(",")), arguments.times):
                done[name if steps[name]() else f"{name} failed"] += 1
    finally:
        BPF.remove_xdp(device, 0)
        # A ring of the right size is no error that is worth a word.
        subprocess.run(["ethtool", "-G", device, "rx", str(size)], capture_output=True)
        subprocess.run(["ip", "link", "set", device, "up"], check=True)
        print(json.dumps(done), file=sys.stderr)
        log.write(arguments.output)


def _all(*commands: list[str]) -> bool:
    """Run every command, also after one that failed."""
    failed = [subprocess.run(each, capture_output=True).returncode for each in commands]
    return not any(failed)


def _xdp(bpf: Any, device: str, function: Any) -> bool:
    """Put a program on a device and take it off again."""
    try:
        bpf.attach_xdp(device, function, 0)
    except Exception:  # bcc has none of its own
        return False
    bpf.remove_xdp(device, 0)
    return True


if __name__ == "__main__":
    main()
