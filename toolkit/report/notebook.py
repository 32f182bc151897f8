# SPDX-License-Identifier: GPL-2.0-only
"""Run the notebooks of analysis/, which are kept as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

import jupytext
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from toolkit.errors import UserError
from toolkit.paths import PROBES

if TYPE_CHECKING:
    from toolkit.traces import Trace

#: Where the notebooks are: inside the package when installed, beside it in a checkout.
NOTEBOOKS = PROBES.parent / "analysis"

FLEET = "fleet"
"""The notebook for several traces."""

_LONGEST = 600


def names() -> list[str]:
    """Return the names of all notebooks, sorted; a notebook named like a driver is about that driver's
    stalls.
    """
    return sorted(path.stem for path in NOTEBOOKS.glob("*.py"))


def of_driver(driver: str) -> str:
    """Return the name of a driver's notebook.

    :raises UserError: if it has none.
    """
    if driver not in names():
        raise UserError(f"there is no notebook for {driver}, but for: {', '.join(names())}.")
    return driver


def render(traces: Sequence[Trace], out: BinaryIO) -> None:
    """Write the notebook of a trace's driver, or the notebook for several traces, executed on them.

    :raises UserError: if the driver has no notebook, or a cell fails.
    """
    first, *more = traces
    if more:
        found = run(FLEET, Path.cwd(), {"TRACES": [str(trace.path) for trace in traces]})
    else:
        name = of_driver(first.meta["drivers"][0]["name"])
        found = run(name, Path.cwd(), {"TRACE": str(first.path)})
    out.write(_encoded(found))


def run(name: str, folder: Path, parameters: Mapping[str, str | Sequence[str]] | None = None) -> NotebookNode:
    """Execute a notebook.

    :param name: one of names().
    :param folder: the directory where it runs.
    :param parameters: values for the variables of its first cell; None: the values that the cell has.
    :return: the notebook with its output.
    :raises UserError: if a cell fails.
    """
    found: NotebookNode = jupytext.read(NOTEBOOKS / f"{name}.py")
    for number, cell in enumerate(found.cells):
        # Cell ids are random by default, and differ each time.
        cell.id = f"cell-{number}"
        if parameters and "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    with TemporaryDirectory() as sockets:
        # Over a unix socket: on TCP others on this machine could listen.
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        client = NotebookClient(
            found,
            km=kernel,
            timeout=_LONGEST,
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        )
        client.owns_km = True  # and so ends it afterwards
        try:
            client.execute(stderr=DEVNULL)
        except CellExecutionError as error:
            raise UserError(f"the notebook {name} failed: {error.ename}: {error.evalue}.") from error
    found.metadata.pop("jupytext", None)
    return found


def refresh(folder: Path) -> None:
    """Write an executed copy of each notebook, of the traces that it names.

    :param folder: an existing directory; notebooks there are replaced.
    """
    for name in names():
        (folder / f"{name}.ipynb").write_bytes(_encoded(run(name, NOTEBOOKS)))


def _encoded(found: NotebookNode) -> bytes:
    """Return a notebook as its file has it."""
    text: str = nbformat.writes(found)  # type: ignore[no-untyped-call]
    return f"{text.rstrip()}\n".encode()
