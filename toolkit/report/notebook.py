# SPDX-License-Identifier: GPL-2.0-only
"""Runs the notebooks of analysis/, which are kept as text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from toolkit.errors import UserError, already_there
from toolkit.paths import PROBES

#: Where the notebooks are: inside the package when installed, beside it in a checkout.
NOTEBOOKS = PROBES.parent / "analysis"

FLEET = "fleet"
"""The notebook for several traces."""

_LONGEST = 600


def names() -> list[str]:
    """:return: all notebooks, sorted; those that are named like a driver tell of its stalls."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.py"))


def of_driver(driver: str) -> str:
    """:return: the name of its notebook.

    :raises UserError: if it has none.
    """
    if driver not in names():
        raise UserError(f"there is no notebook for {driver}, but for: {', '.join(names())}.")
    return driver


def run(name: str, folder: Path, parameters: Mapping[str, str | Sequence[str]] | None = None) -> NotebookNode:
    """Executes a notebook.

    :param name: of names().
    :param folder: where it runs.
    :param parameters: the variables of its first cell; None for those that it has.
    :return: the notebook with its output.
    :raises UserError: if a cell fails.
    """
    found: NotebookNode = jupytext.read(NOTEBOOKS / f"{name}.py")
    for number, cell in enumerate(found.cells):
        # By chance otherwise, and another one each time.
        cell.id = f"cell-{number}"
        if parameters and "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    with TemporaryDirectory() as sockets:
        # Not over TCP, where others on this machine could listen.
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


def save(found: NotebookNode, file: Path, *, force: bool = False) -> None:
    """Writes an executed notebook (.ipynb).

    :raises UserError: if the file exists and not `force`.
    """
    try:
        with file.open("w" if force else "x") as opened:
            nbformat.write(found, opened)  # type: ignore[no-untyped-call]
    except FileExistsError:
        raise already_there(file) from None


def refresh(folder: Path) -> None:
    """Writes an executed copy of each notebook, of the traces that it names.

    :param folder: an existing directory; what is there is replaced.
    """
    for name in names():
        save(run(name, NOTEBOOKS), folder / f"{name}.ipynb", force=True)
