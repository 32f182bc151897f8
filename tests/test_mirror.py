# SPDX-License-Identifier: GPL-2.0-only
"""Tests lie as the modules do: toolkit/a/b.py is tested in tests/toolkit/a/test_b.py.

The test of a package is test_init.py, that of a command (__main__.py) test_main.py, both in its directory.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent

WITHOUT_TEST = {
    "bench/attach.py": "counts in a machine",
    "bench/analyze.py": "measures time; `make bench`",
    "bench/drain.py": "measures time; `make bench`",
    "bench/fleet.py": "measures time; `make bench`",
    "bench/hooks.py": "measures time, in a machine; `make bench`",
    "bench/programs.py": "measures time, in a machine; `make bench`",
    "bench/qlge_nic.py": "measures time; `make bench`",
    "bench/sender.py": "instructions for the kernel: tests/bench/test_soak.py has it carry them out",
    "bench/start.py": "measures time, in a machine; `make bench`",
    "bench/tracers.py": "attaches probes, in a machine; `make bench`",
    "bench/segments.py": "measures bytes, as root; `make bench`",
    "toolkit/__init__.py": "passes on to toolkit/traces.py and toolkit/runs.py: their tests use it",
    "toolkit/__main__.py": "passes on to toolkit/cli.py",
    "toolkit/paths.py": "a place, that of event.h: tests/toolkit/test_event.py",
    "toolkit/version.py": "a constant: tests/toolkit/test_cli.py",
    "toolkit/report/notebook.py": "runs the notebooks: tests/analysis/test_notebooks.py",
    "vm/guest/__init__.py": "passes on to the modules in it",
    "vm/models/qlge_nic/registers.py": "constants; the tests' driver has them from the kernel",
    "vm/inside/scenarios/heavy.py": "needs a driver with XDP: tests/machine/test_waiting.py",
    "vm/inside/scenarios/lost.py": "needs a build of the driver: tests/machine/test_waiting.py",
    "vm/inside/scenarios/masked.py": "needs a module: tests/machine/test_waiting.py",
    "vm/inside/scenarios/paused.py": "needs Xen: tests/machine/test_xen_netback.py",
    "vm/inside/scenarios/pressure.py": "needs a kernel without memory: tests/machine/test_virtio_net.py",
    "vm/inside/scenarios/unfilled.py": "needs Xen: tests/machine/test_xen_netback.py",
    "vm/qemu/files.py": "names of files: tests/vm/qemu/test_command.py",
    "vm/vfio_user/device.py": "two records, made by tests/vm/vfio_user/conftest.py",
}
"""Modules that no test mirrors, and why."""

WITHOUT_MODULE = {
    "tests/analysis/test_notebooks.py": "notebooks are no modules",
    "tests/test_container.py": "of docs/container",
    "tests/test_example.py": "of the driver in tests/example",
    "tests/test_fuzz.py": "of reading as a whole; the fuzzer is tests/fuzz.py",
    "tests/test_house.py": "of what all drivers share",
    "tests/test_mirror.py": "of all modules",
    "tests/test_monitoring.py": "of docs/monitoring",
    "tests/test_package.py": "of what is installed",
    "tests/test_readme.py": "of README.md",
    "tests/test_trace_file.py": "of the lines in docs/trace-file.md",
    "tests/toolkit/test_recordings.py": "of whole recordings: all of toolkit/stalls at once",
    "tests/vm/test_house.py": "of all modules of vm",
    "tests/vm/models/qlge_nic/test_any_access.py": "of the whole NIC",
}
"""Tests that mirror no module, and of what they are."""


def _mirror(module: Path) -> str:
    """Return where the test of a module lies."""
    name = {"__init__": "init", "__main__": "main"}.get(module.stem, module.stem)
    return str(Path("tests", module.parent, f"test_{name}.py"))


def _modules() -> dict[str, str]:
    """Return where the test of each module lies; of packages that are only a docstring there is none."""
    found = {}
    for top in ("bench", "toolkit", "vm"):
        for path in (ROOT / top).rglob("*.py"):
            module = path.relative_to(ROOT)
            if (
                path.name != "__init__.py"
                or "import " in path.read_text()
                or (ROOT / _mirror(module)).exists()
            ):
                found[str(module)] = _mirror(module)
    return found


def _tests() -> set[str]:
    # What these look at is a machine or a page, not a module.
    other = [ROOT / "tests" / name for name in ("browser", "machine")]
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if not {*path.parents} & {*other}]
    return {str(path.relative_to(ROOT)) for path in paths}


def test_each_module_has_a_test_of_its_name() -> None:
    without = {module for module, test in _modules().items() if not (ROOT / test).exists()}
    assert without == set(WITHOUT_TEST)


def test_each_test_has_the_name_of_a_module() -> None:
    assert _tests() - set(_modules().values()) == set(WITHOUT_MODULE)
