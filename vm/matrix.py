# SPDX-License-Identifier: GPL-2.0-only
"""The page of kernels: each driver against Debian's packages of each kernel that is promised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from toolkit import drivers
from toolkit.capture import checkup, packages
from toolkit.capture.checkup import Finding, Verdict
from toolkit.errors import UserError
from vm import machines
from vm.image import debian, kernels
from vm.machines import Kernel

#: A verdict in a cell of the page.
CELL: Mapping[Verdict, str] = {
    "fully observable": "full",
    "partly observable": "partly",
    "cannot be traced": "**no**",
    "no such driver": "–",  # noqa: RUF001
}


@dataclass(frozen=True)
class Column:
    """A kernel of one architecture, and what was found of each driver.

    :param version: of Linux, up to its second number, as people call it.
    :param release: as ``uname -r`` says it.
    :param findings: driver -> findings; empty if the kernel does not have it.
    """

    kernel: Kernel
    architecture: str
    version: str
    release: str
    findings: Mapping[str, Sequence[Finding]]

    @property
    def title(self) -> str:
        """The head of its column."""
        return f"{self.version} {self.architecture}"


def write(page: Path, say: debian.Say) -> None:
    """Fetch the packages of the kernels that are promised, check every driver, and write the page.

    :param say: is told of progress, a line at a time.
    :raises UserError: if a package cannot be fetched or read.
    """
    chosen = [drivers.load(name) for name in drivers.names()]
    wanted = checkup.packed_names(chosen)
    columns = []
    for kernel in machines.kernels():
        for architecture in kernel.architectures:
            directory = kernels.fetch(kernel, architecture, say)
            found = packages.read([directory], *wanted, say)
            if len(found) != 1:
                raise UserError(f"{directory} has {len(found)} kernels; remove it, and try again.")
            findings = {driver.name: checkup.check_packed(driver, found[0]) for driver in chosen}
            release = found[0].release
            version = ".".join(release.split("-")[0].split("+")[0].split(".")[:2])
            columns.append(Column(kernel, architecture, version, release, findings))
    page.write_text(render(columns))


def render(columns: Sequence[Column]) -> str:
    """Return the page."""
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("matrix.md.j2")
    names = list(columns[0].findings)
    return template.render(
        columns=columns,
        machines={column.title: ", ".join(_machines(column)) for column in columns},
        rows={name: [_cell(column, name) for column in columns] for name in names},
        lacking={name: lines for name in names if (lines := _lacking(columns, name))},
    )


def _machines(column: Column, driver: str = "") -> list[str]:
    """Return the machines that boot a kernel, of one driver if it is named: by QEMU's model of a NIC, too."""
    return [
        f"`{machine.name}`"
        for machine in machines.load().values()
        if column.architecture == machine.architecture
        and (machine.release, machine.kernel) == (column.kernel.release, column.kernel.kernel)
        and driver in ("", machine.driver, *(nic.model for nic in machine.nics))
    ]


def _cell(column: Column, driver: str) -> str:
    verdict = checkup.verdict(column.findings[driver])
    return f"{CELL[verdict]}, run" if _machines(column, driver) else CELL[verdict]


def _lacking(columns: Sequence[Column], driver: str) -> list[str]:
    """Return what is missing of a driver, each with the kernels that lack it, in lines of a list."""
    where: dict[Finding, list[str]] = {}
    for column in columns:
        for finding in column.findings[driver]:
            if finding.level != "ok":
                where.setdefault(finding, []).append(column.title)
    lines = []
    for finding, titles in where.items():
        unknown = f" Not known then: {', '.join(f'`{name}`' for name in finding.unknown)}."
        lines.append(
            f"{', '.join(titles)}: {finding.what}: {finding.found}.{unknown if finding.unknown else ''}"
        )
    return lines
