# SPDX-License-Identifier: GPL-2.0-only
"""When a vector is signalled: INTR_EN, and the masking of each vector."""

from __future__ import annotations

from collections.abc import Callable

from vm.models.qlge_nic.registers import (
    INTR_EN_EI,
    INTR_EN_EN,
    INTR_EN_INTR_MASK,
    INTR_EN_TYPE_DISABLE,
    INTR_EN_TYPE_ENABLE,
    INTR_EN_TYPE_MASK,
)
from vm.vfio_user.irqs import Irqs


class Interrupts:
    """The vectors. A vector that is signalled masks itself until the driver enables it (qlge_napi_poll_msix,
    at its end).

    :param due: tells whether a vector has something to tell: then it is signalled as soon as it is enabled.
    """

    def __init__(self, irqs: Irqs, due: Callable[[int], bool]) -> None:
        self.irqs, self.due = irqs, due
        self.master = False
        self.enabled = [False] * irqs.count
        self._last = 0

    def write(self, value: int) -> None:
        """Write INTR_EN; the high half says which bits count."""
        mask, value = value >> 16, value & 0xFFFF
        if mask & INTR_EN_EI:
            self.master = bool(value & INTR_EN_EI)
        vector = value & INTR_EN_INTR_MASK
        if mask & INTR_EN_TYPE_MASK and vector < len(self.enabled):
            self._last = vector
            if value & INTR_EN_TYPE_MASK == INTR_EN_TYPE_ENABLE:
                self.enabled[vector] = True
            elif value & INTR_EN_TYPE_MASK == INTR_EN_TYPE_DISABLE:
                self.enabled[vector] = False
        if mask & INTR_EN_EI:
            for each in range(len(self.enabled)):
                self._catch_up(each)
        else:
            self._catch_up(vector)

    def read(self) -> int:
        """Read INTR_EN: the vector that was named last."""
        state = INTR_EN_EN if self.enabled[self._last] else 0
        return self._last | state | (INTR_EN_EI if self.master else 0)

    def signal(self, vector: int) -> None:
        """Signal a vector because something happened that it tells of."""
        if self.master and vector < len(self.enabled) and self.enabled[vector]:
            self.enabled[vector] = False
            self.irqs.fire(vector)

    def reset(self) -> None:
        self.master = False
        self.enabled = [False] * len(self.enabled)

    def _catch_up(self, vector: int) -> None:
        if self.master and vector < len(self.enabled) and self.enabled[vector] and self.due(vector):
            self.signal(vector)
