# SPDX-License-Identifier: GPL-2.0-only
"""The testbed: virtual machines whose network drivers run out of buffers on demand.

import vm

with vm.machine("virtio-net") as m:
    m.ssh("sudo toolkit doctor", check=True)
"""

from vm.guest import Clock, Guest, find, machine, running, up

__all__ = ["Clock", "Guest", "find", "machine", "running", "up"]
