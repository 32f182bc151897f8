# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys

import pytest

import toolkit
from toolkit import cli


def _toolkit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version() -> None:
    assert _toolkit("--version").stdout == f"toolkit {toolkit.__version__}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_has_an_example(command: str) -> None:
    done = _toolkit(command, "--help")
    assert done.returncode == 0
    assert f"toolkit {command}" in done.stdout.split("Example:")[1]


def test_help_is_light() -> None:
    heavy = "{'pandas', 'matplotlib', 'pyarrow', 'numpy'}"
    code = f"import sys, toolkit.cli; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_option_is_no_traceback() -> None:
    done = _toolkit("analyze", "--nonsense")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), 1), (OSError("x"), 1)]
)
def test_what_ends_a_command(
    raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("toolkit.stalls.analysis.analyze", fail)
    monkeypatch.setattr(sys, "argv", ["toolkit", "analyze", "a.rxt"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == code
    assert "Traceback" not in capsys.readouterr().err
