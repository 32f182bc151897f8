# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys

import pytest

import toolkit
from tests.conftest import Run
from toolkit import cli


def test_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version") == (0, f"toolkit {toolkit.__version__}\n", "")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_each_command_has_an_example(command: str, run: Run) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"toolkit {command}" in out.split("Example:")[1]


def test_help_imports_no_heavy_module() -> None:
    heavy = "{'pandas', 'matplotlib', 'pyarrow', 'numpy'}"
    code = f"import sys, toolkit.cli; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_command_starts_without_the_others() -> None:
    """In a process of its own: other tests have imported the commands here."""
    code = """
import sys
from toolkit import cli
sys.argv[1:] = ["drivers"]
try:
    cli.main()
except SystemExit as end:
    print(end.code, *(name for name in sys.modules if name.startswith("toolkit.commands.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 toolkit.commands.drivers"


def test_an_unknown_command_is_told_with_the_one_that_is_like_it(run: Run) -> None:
    code, _, err = run("tarce")
    assert code == 2 and "Did you mean 'trace'?" in err


def test_a_wrong_option_is_no_traceback(run: Run) -> None:
    code, _, err = run("analyze", "--nonsense")
    assert code == 2
    assert "--nonsense" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), 1), (OSError("x"), 1)]
)
def test_ends_of_a_command_have_their_exit_codes(
    raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("toolkit.traces.read", fail)
    monkeypatch.setattr(sys, "argv", ["toolkit", "analyze", "a.rxt"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == code
    assert "Traceback" not in capsys.readouterr().err
