# SPDX-License-Identifier: GPL-2.0-only
"""Every notebook is executed: on the recorded traces that it names, and on one in which nothing happened."""

import threading
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode

from tests.conftest import META, Run, Trace, event, window, worker_stall
from toolkit.errors import UserError
from toolkit.report import notebook

ROOT = Path(__file__).parent.parent.parent
EXECUTED = ROOT / "docs" / "notebooks"


def _sources(found: NotebookNode) -> list[str]:
    return [cell.source for cell in found.cells]


def _pictures(found: NotebookNode) -> int:
    outputs = [output for cell in found.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("name", notebook.names())
def test_the_committed_copy_is_of_this_text_and_has_pictures(name: str) -> None:
    committed = nbformat.read(EXECUTED / f"{name}.ipynb", 4)  # type: ignore[no-untyped-call]
    assert _sources(committed) == _sources(jupytext.read(notebook.NOTEBOOKS / f"{name}.py"))
    assert _pictures(committed) >= 2
    assert (EXECUTED / f"{name}.ipynb").stat().st_size < 400_000
    assert str(Path.home()) not in (EXECUTED / f"{name}.ipynb").read_text()


def test_each_notebook_has_an_executed_copy_and_the_other_way_round() -> None:
    assert sorted(path.stem for path in EXECUTED.glob("*.ipynb")) == notebook.names()


@pytest.mark.notebook
@pytest.mark.parametrize("name", notebook.names())
def test_notebook_runs_on_recorded_traces(name: str) -> None:
    ran = notebook.run(name, notebook.NOTEBOOKS)
    assert _pictures(ran) >= 2
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    assert not any(b"ipykernel" in command for command in commands)
    committed = nbformat.read(EXECUTED / f"{name}.ipynb", 4)  # type: ignore[no-untyped-call]
    assert _sources(committed) == _sources(ran)


@pytest.mark.notebook
@pytest.mark.parametrize("driver", ["virtio_net", "qlge", "xen_netback", "aoe"])
@pytest.mark.parametrize("what", ["nothing", "no stall"])
def test_notebook_runs_where_nothing_happened(driver: str, what: str, make_trace: Trace, run: Run) -> None:
    meta = META | {"drivers": [META["drivers"][0] | {"name": driver}]}
    trace = make_trace([window(1)] if what == "no stall" else [], meta=meta)
    file = trace.with_suffix(".ipynb")
    assert run("analyze", trace, "--notebook", file)[::2] == (0, "")
    assert "no stall was seen" in file.read_text() or "No stall: " in file.read_text()
    code, _, err = run("analyze", trace, "--notebook", file)
    assert code == 1 and "--force" in err


@pytest.mark.notebook
def test_several_traces_are_a_fleet(make_trace: Trace, run: Run, tmp_path: Path) -> None:
    calm = make_trace([window(1)], name="calm.rxt")
    deaf = make_trace([event("irq", 1), *worker_stall(2, 6)], name="deaf.rxt")
    assert run("analyze", calm, deaf, "--notebook", tmp_path / "fleet.ipynb")[0] == 0
    assert (
        run("analyze", calm, calm.rename(tmp_path / "same.rxt"), "--notebook", tmp_path / "no.ipynb")[0] == 1
    )
    text = (tmp_path / "fleet.ipynb").read_text()
    assert "0 of 2 traces are doubtful" in text
    assert "deaf - eth1 went deaf once" in text


def test_a_driver_without_a_notebook_is_said() -> None:
    with pytest.raises(UserError, match="no notebook for dummy, but for: "):
        notebook.of_driver("dummy")
