# SPDX-License-Identifier: GPL-2.0-only
"""The testbed: virtual machines whose network drivers run out of buffers on demand.

import vm

with vm.machine("virtio-net") as m:
    m.ssh("sudo toolkit doctor", check=True)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vm.guest import Clock, Guest, find, machine, running, up

__all__ = ["Clock", "Guest", "find", "machine", "running", "up"]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: a scenario in a machine that is short of memory needs none of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from vm import guest

    return getattr(guest, name)
