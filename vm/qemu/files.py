# SPDX-License-Identifier: GPL-2.0-only
"""Everything that a running machine keeps in its run directory."""

from dataclasses import dataclass
from pathlib import Path

UNIX_PATH_MAX = 107


@dataclass(frozen=True)
class Files:
    """Everything that a running machine keeps in its run directory."""

    directory: Path

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def log(self) -> Path:
        return self.directory / "qemu.log"

    @property
    def swap(self) -> Path:
        return self.directory / "swap.img"

    @property
    def qmp(self) -> Path:
        return self.directory / "qmp"

    @property
    def pid(self) -> Path:
        return self.directory / "pid"

    @property
    def state(self) -> Path:
        return self.directory / "state.json"

    def nic(self, number: int) -> Path:
        """The socket from which the machine's NIC takes frames."""
        return self.directory / f"nic{number}"

    def device(self, number: int) -> Path:
        """The socket on which a NIC of our own is a PCI device."""
        return self.directory / f"device{number}"

    def control(self, number: int) -> Path:
        """The socket on which a NIC of our own answers questions."""
        return self.directory / f"control{number}"

    def model(self, number: int) -> Path:
        """The log of a NIC of our own."""
        return self.directory / f"nic{number}.log"

    def peer(self, number: int) -> Path:
        """The socket to which the machine's NIC sends frames; whoever wants them binds it."""
        return self.directory / f"peer{number}"
