# SPDX-License-Identifier: GPL-2.0-only
"""BAR 1: the effects of the driver's reads and writes of registers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from struct import Struct
from typing import Protocol

from vm.models.qlge_nic.interrupts import Interrupts
from vm.models.qlge_nic.mailbox import Mailbox
from vm.models.qlge_nic.registers import (
    ADDR_MASK,
    ADDR_R,
    ADDR_RDY,
    CFG_LCQ,
    CFG_LE,
    CFG_LR,
    CFG_LRQ,
    CFG_Q_MASK,
    CFG_Q_SHIFT,
    CSR_CMD_CLR_PAUSE,
    CSR_CMD_CLR_R2PCI_INT,
    CSR_CMD_CLR_RST,
    CSR_CMD_SET_H2R_INT,
    CSR_CMD_SET_PAUSE,
    CSR_CMD_SET_RST,
    CSR_CMD_SHIFT,
    CSR_RP,
    CSR_RR,
    IDX_MR,
    IDX_MW,
    IDX_RS,
    INTR_MASK_PI,
    MSIX_PENDING,
    RST_FO_FR,
    STS_F0E,
    STS_NFE,
    STS_PI,
    STS_PI0,
    STS_PL0,
    WRITE_MASKED,
    Register,
)
from vm.models.qlge_nic.statistics import Statistics
from vm.models.qlge_nic.steering import Steering, address_control, is_vlan

log = logging.getLogger(__name__)

_WORD = Struct("<I")
_STATISTICS = range(0x200, 0x5C0)
#: Data behind an address register is ready at once.
_ALWAYS_READY: dict[int, int] = {
    Register.PROC_ADDR: ADDR_RDY,
    Register.FLASH_ADDR: ADDR_RDY,
    Register.XGMAC_ADDR: ADDR_RDY,
    Register.XG_SERDES_ADDR: ADDR_RDY,
    Register.MAC_ADDR_IDX: IDX_MW | IDX_MR,
    Register.RT_IDX: IDX_MW | IDX_MR,
}


class Adapter(Protocol):
    """The parts of the NIC that the registers act upon."""

    link: bool
    mailbox: Mailbox
    interrupts: Interrupts
    steering: Steering
    statistics: Statistics

    def load(self, what: int, queue: int, address: int) -> bool: ...
    def reset_function(self) -> None: ...
    def busy_queues(self) -> int: ...


class Registers:
    """The registers of BAR 1.

    :param flash: words by their address in dwords.
    """

    def __init__(self, adapter: Adapter, flash: dict[int, int]) -> None:
        self.adapter, self.flash = adapter, flash
        self.values: dict[int, int] = {}
        self._xgmac: dict[int, int] = {}
        self._load_failed = False
        self._readers: dict[int, Callable[[], int]] = {
            Register.CFG: self._load_status,
            Register.STS: self._status,
            Register.INTR_EN: lambda: adapter.interrupts.read(),
            Register.ISR1: adapter.busy_queues,
            MSIX_PENDING: lambda: adapter.interrupts.irqs.pending,
        }
        self._writers: dict[int, Callable[[int], None]] = {
            Register.PROC_ADDR: self._processor,
            Register.FLASH_ADDR: self._flash,
            Register.XGMAC_ADDR: self._mac,
            Register.CSR: self._command,
            Register.CFG: self._load,
            Register.RST_FO: self._reset,
            Register.INTR_EN: lambda value: adapter.interrupts.write(value),
            Register.INTR_MASK: self._mask,
            Register.NIC_RCV_CFG: self._receive_config,
            Register.MAC_ADDR_IDX: self._address_index,
            Register.MAC_ADDR_DATA: self._address_data,
            Register.RT_DATA: self._slot_data,
            Register.RT_IDX: self._slot_index,
        }

    def read(self, offset: int, count: int) -> bytes:
        words = range(offset & ~3, offset + count, 4)
        return b"".join(_WORD.pack(self.read_word(each)) for each in words)[offset & 3 :][:count]

    def write(self, offset: int, data: bytes) -> None:
        if offset % 4 or len(data) % 4:
            log.warning("BAR 1: a write of %d bytes at %#x has no effect", len(data), offset)
            return
        for at, (value,) in enumerate(_WORD.iter_unpack(data)):
            self.write_word(offset + 4 * at, value)

    def read_word(self, register: int) -> int:
        if register in _ALWAYS_READY:
            return _ALWAYS_READY[register]
        reader = self._readers.get(register)
        return reader() if reader else self.values.get(register, 0)

    def write_word(self, register: int, value: int) -> None:
        if register in WRITE_MASKED:
            mask = value >> 16
            self.values[register] = self.values.get(register, 0) & ~mask | value & mask
        elif register not in (Register.CSR, Register.CFG):
            self.values[register] = value
        writer = self._writers.get(register)
        if writer:
            writer(value)

    def events_enabled(self) -> bool:
        """Tell whether an event of the management processor may interrupt."""
        return bool(self.values.get(Register.INTR_MASK, 0) & INTR_MASK_PI)

    def reset(self) -> None:
        """Set all registers to their values after power-on."""
        self.values.clear()
        self._xgmac.clear()
        self._load_failed = False

    def _status(self) -> int:
        status = STS_F0E | STS_NFE | STS_PI0
        if self.adapter.link:
            status |= STS_PL0
        return status | STS_PI if self.adapter.mailbox.interrupting else status

    def _processor(self, value: int) -> None:
        if value & ADDR_R:
            self.values[Register.PROC_DATA] = self.adapter.mailbox.read(value)
        else:
            self.adapter.mailbox.write(value, self.values.get(Register.PROC_DATA, 0))

    def _flash(self, value: int) -> None:
        # Flash that was never written reads as ones.
        if value & ADDR_R:
            self.values[Register.FLASH_DATA] = self.flash.get(value & ADDR_MASK, 0xFFFFFFFF)

    def _mac(self, value: int) -> None:
        address = value & ADDR_MASK
        if not value & ADDR_R:
            self._xgmac[address] = self.values.get(Register.XGMAC_DATA, 0)
        elif address in _STATISTICS:
            self.values[Register.XGMAC_DATA] = self.adapter.statistics.register(address)
        else:
            self.values[Register.XGMAC_DATA] = self._xgmac.get(address, 0)

    def _command(self, value: int) -> None:
        command, state = value >> CSR_CMD_SHIFT, self.values.get(Register.CSR, 0)
        if command == CSR_CMD_SET_H2R_INT:
            self.adapter.mailbox.ring()
        elif command == CSR_CMD_CLR_R2PCI_INT:
            self.adapter.mailbox.acknowledge()
        elif command in (CSR_CMD_SET_RST, CSR_CMD_CLR_RST):
            self.values[Register.CSR] = state | CSR_RR if command == CSR_CMD_SET_RST else state & ~CSR_RR
        elif command in (CSR_CMD_SET_PAUSE, CSR_CMD_CLR_PAUSE):
            self.values[Register.CSR] = state | CSR_RP if command == CSR_CMD_SET_PAUSE else state & ~CSR_RP

    def _load(self, value: int) -> None:
        address = self.values.get(Register.ICB_H, 0) << 32 | self.values.get(Register.ICB_L, 0)
        for what in (CFG_LRQ, CFG_LR, CFG_LCQ):
            if value & what and not self.adapter.load(what, value >> CFG_Q_SHIFT & CFG_Q_MASK, address):
                self._load_failed = True

    def _load_status(self) -> int:
        """Return the status of a load, which is done at once; a failure is told once (qlge_wait_cfg)."""
        failed, self._load_failed = self._load_failed, False
        return CFG_LE if failed else 0

    def _reset(self, _: int) -> None:
        if self.values[Register.RST_FO] & RST_FO_FR:
            self.values[Register.RST_FO] &= ~RST_FO_FR
            self.values[Register.INTR_MASK] = 0
            self.adapter.reset_function()

    def _mask(self, _: int) -> None:
        if self.events_enabled() and self.adapter.mailbox.interrupting:
            self.adapter.interrupts.signal(0)

    def _receive_config(self, _: int) -> None:
        self.adapter.steering.receive_config = self.values[Register.NIC_RCV_CFG]

    def _address_index(self, value: int) -> None:
        kind, index, word, enabled = address_control(value)
        if is_vlan(value):
            self.adapter.steering.set_vlan(index, enabled)
        elif value & IDX_RS:
            found = self.adapter.steering.address_word(kind, index, word)
            self.values[Register.MAC_ADDR_DATA] = found

    def _address_data(self, value: int) -> None:
        kind, index, word, enabled = address_control(self.values.get(Register.MAC_ADDR_IDX, 0))
        self.adapter.steering.set_address_word(kind, index, word, value, enabled)

    def _slot_index(self, value: int) -> None:
        if value & IDX_RS:
            self.values[Register.RT_DATA] = self.adapter.steering.slot(value >> 8 & 0xFF)

    def _slot_data(self, value: int) -> None:
        self.adapter.steering.set_slot(self.values.get(Register.RT_IDX, 0), value)
