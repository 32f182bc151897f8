# SPDX-License-Identifier: GPL-2.0-only
"""The management processor (MPI): its registers, the mailbox commands of qlge_mpi.c, and its events."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from vm.models.qlge_nic.registers import ADDR_MASK, MAX_FRAME

log = logging.getLogger(__name__)

MAILBOX_COUNT = 16
FUNC0_MBI, FUNC0_MBO = 0x1180, 0x1190
#: Which PCI function belongs to which port: NIC 1 is function 0, NIC 2 would be function 1; both are enabled.
FUNC_PORT_CFG, BOTH_FUNCTIONS = 0x1002, 0x31

GOOD, INVALID_COMMAND = 0x4000, 0x4001
LINK_UP, LINK_DOWN, IDC_COMPLETE = 0x8011, 0x8012, 0x8100
#: 10 Gbit/s over XFI, as a link-up event reports it.
LINK_STATUS = 0x11
JUMBO, LOOPBACK_MASK = 0x00010000, 0x7
FIRMWARE_VERSION = 0x00012B00
_MANAGEMENT_FIFO_EMPTY = 2


class Mailbox:
    """The mailbox of the management processor.

    :param changed: is called when there is something for the driver to read.

    The driver reads one message at a time, a command's completion or an event, and acknowledges it.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        #: Whether a message waits to be read (STS_PI).
        self.interrupting = False
        self.link_config, self.max_frame_size, self.led = JUMBO, MAX_FRAME, 0
        self._registers = {FUNC_PORT_CFG: BOTH_FUNCTIONS}
        self._messages: deque[Sequence[int]] = deque()
        self._commands: dict[int, tuple[str, Callable[[Sequence[int]], Sequence[int]]]] = {
            0x008: ("about firmware", lambda _: (FIRMWARE_VERSION, 0)),
            0x069: ("get firmware state", lambda _: (0,)),
            0x101: ("acknowledge", lambda _: ()),
            0x110: ("set wake on LAN", lambda _: ()),
            0x113: ("set magic packet", lambda _: ()),
            0x122: ("set port configuration", self._set_port),
            0x123: ("get port configuration", lambda _: (self.link_config, self.max_frame_size)),
            0x125: ("set LED", self._set_led),
            0x126: ("get LED", lambda _: (self.led,)),
            0x160: ("set management traffic", lambda _: ()),
            0x161: ("get management traffic", lambda _: (_MANAGEMENT_FIFO_EMPTY,)),
        }

    @property
    def loopback(self) -> bool:
        """Tell whether frames that are sent come back (``ethtool -t``)."""
        return bool(self.link_config & LOOPBACK_MASK)

    def read(self, address: int) -> int:
        return self._registers.get(address & ADDR_MASK, 0)

    def write(self, address: int, value: int) -> None:
        self._registers[address & ADDR_MASK] = value

    def ring(self) -> None:
        """Run the command in the mailbox, which the driver has filled (CSR_CMD_SET_H2R_INT); it is done at
        once.
        """
        words = [self.read(FUNC0_MBI + number) for number in range(MAILBOX_COUNT)]
        if words[0] not in self._commands:
            log.warning("mailbox: command %#x is not known", words[0])
            self._put((INVALID_COMMAND,))
            return
        name, act = self._commands[words[0]]
        log.debug("mailbox: %s %s", name, " ".join(f"{word:#x}" for word in words[1:4]))
        self._put((GOOD, *act(words)))
        if words[0] == 0x122:
            # qlge_idc_wait: the driver awaits the other functions' consent.
            self._put((IDC_COMPLETE, 0, 0, 0))

    def acknowledge(self) -> None:
        """Note that the driver has read the message (CSR_CMD_CLR_R2PCI_INT): the next one takes its place."""
        self.interrupting = False
        self._deliver()

    def link(self, up: bool) -> None:
        """Tell the driver that the link went up or down (qlge_link_up, qlge_link_down)."""
        # An older link event that nobody has read is dropped.
        for message in [each for each in self._messages if each[0] in (LINK_UP, LINK_DOWN)]:
            self._messages.remove(message)
        self._put((LINK_UP, LINK_STATUS) if up else (LINK_DOWN, 0, 0))

    def forget_messages(self) -> None:
        """Drop the messages that nobody is there to read any more."""
        self._messages.clear()
        self.interrupting = False

    def _set_port(self, words: Sequence[int]) -> Sequence[int]:
        self.link_config, self.max_frame_size = words[1], words[2]
        return ()

    def _set_led(self, words: Sequence[int]) -> Sequence[int]:
        self.led = words[1]
        return ()

    def _put(self, message: Sequence[int]) -> None:
        self._messages.append(message)
        self._deliver()

    def _deliver(self) -> None:
        if self.interrupting or not self._messages:
            return
        for number, word in enumerate(self._messages.popleft()):
            self._registers[FUNC0_MBO + number] = word
        self.interrupting = True
        self.changed()
