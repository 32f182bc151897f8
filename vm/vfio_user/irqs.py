# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts of one type (MSI-X), signalled through eventfds that the client sends."""

from __future__ import annotations

import contextlib
import errno
import os

from vm.vfio_user.messages import (
    ACTION_MASK,
    ACTION_TRIGGER,
    ACTION_UNMASK,
    DATA_BOOL,
    DATA_EVENTFD,
    DATA_NONE,
    close_all,
)


class Irqs:
    """The vectors of one interrupt type.

    :param count: how many vectors.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        #: Times that each vector was signalled.
        self.fired = [0] * count
        #: Vectors that were to be signalled while they were masked; a bit each.
        self.pending = 0
        self._masked = 0
        self._eventfds: dict[int, int] = {}

    def fire(self, vector: int) -> None:
        """Signal a vector; without an eventfd nobody listens, and nothing happens."""
        if self._masked >> vector & 1:
            self.pending |= 1 << vector
        elif (eventfd := self._eventfds.get(vector)) is not None:
            self.fired[vector] += 1
            # The descriptor is no eventfd, or the eventfd is full because nobody has read it yet.
            with contextlib.suppress(OSError):
                os.eventfd_write(eventfd, 1)

    def set(self, flags: int, start: int, count: int, data: bytes, descriptors: list[int]) -> None:
        """Carry out VFIO_USER_DEVICE_SET_IRQS.

        :param descriptors: the descriptors that are kept are taken out.
        :raises OSError: EINVAL if the flags, the range, the data or the descriptors do not fit together.
        """
        kind, action = flags & 7, flags & ~7
        if start + count > self.count:
            raise OSError(errno.EINVAL, "there is no such vector")
        if (kind, action, start, count) == (DATA_NONE, ACTION_TRIGGER, 0, 0):
            self.disable()
            return
        if count == 0:
            raise OSError(errno.EINVAL, "no vector is named")
        if (kind, action) == (DATA_EVENTFD, ACTION_TRIGGER):
            self._assign(start, count, descriptors)
            return
        chosen = list(range(start, start + count))
        if kind == DATA_BOOL:
            if len(data) < count:
                raise OSError(errno.EINVAL, "the data are too short")
            chosen = [vector for vector in chosen if data[vector - start]]
        elif kind != DATA_NONE:
            raise OSError(errno.EINVAL, "these data do not go with this action")
        for vector in chosen:
            self._act(action, vector)

    def disable(self) -> None:
        """Forget all eventfds and masks."""
        for vector in list(self._eventfds):
            self._drop(vector)
        self.pending = self._masked = 0

    def _assign(self, start: int, count: int, descriptors: list[int]) -> None:
        if descriptors and len(descriptors) != count:
            raise OSError(errno.EINVAL, f"{len(descriptors)} descriptors for {count} vectors")
        for vector in range(start, start + count):
            self._drop(vector)
        for vector, eventfd in zip(range(start, start + count), descriptors, strict=False):
            os.set_blocking(eventfd, False)
            self._eventfds[vector] = eventfd
        descriptors.clear()

    def _act(self, action: int, vector: int) -> None:
        if action == ACTION_TRIGGER:
            self.fire(vector)
        elif action == ACTION_MASK:
            self._masked |= 1 << vector
        elif action == ACTION_UNMASK:
            self._masked &= ~(1 << vector)
            if self.pending >> vector & 1:
                self.pending &= ~(1 << vector)
                self.fire(vector)
        else:
            raise OSError(errno.EINVAL, "not one of mask, unmask and trigger")

    def _drop(self, vector: int) -> None:
        if (eventfd := self._eventfds.pop(vector, None)) is not None:
            close_all([eventfd])
