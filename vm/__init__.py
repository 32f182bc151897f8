# SPDX-License-Identifier: GPL-2.0-only
"""The testbed: virtual machines whose network drivers run out of buffers on demand.

import vm

with vm.machine("virtio-net") as m:
    m.ssh("sudo toolkit doctor", check=True)
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vm.guest import Clock, Guest, find, machine, running, up

__all__ = ["Clock", "Guest", "find", "machine", "running", "up"]

# `python -m vm.scenarios.knob` runs vm/inside/scenarios/knob.py: commands have short names, imports do not.
__path__ += [str(Path(__file__).parent / room) for room in ("inside", "models")]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: a scenario in a machine that is short of memory needs none of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from vm import guest

    return getattr(guest, name)
