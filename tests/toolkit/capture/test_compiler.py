# SPDX-License-Identifier: GPL-2.0-only
import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.capture import compiler, headers
from toolkit.capture.compiled import Compiled
from toolkit.errors import UserError


def _bcc(monkeypatch: pytest.MonkeyPatch, compile_: Callable[..., Any]) -> None:
    """Let this be what compiles."""
    libbcc = SimpleNamespace(lib=None)
    monkeypatch.setattr(compiler, "bcc", lambda: SimpleNamespace(BPF=compile_, libbcc=libbcc))


def _import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Let this be what `import bcc` finds."""
    (tmp_path / "bcc.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bcc", raising=False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "raise OSError('libclang-14.so.13: cannot open shared object file')",
            r"bcc's library cannot be loaded \(libclang-14.so.13: cannot open .*; install what it needs",
        ),
        ("raise ImportError('no module named bcc')", r"make the virtual environment with /usr/bin/python3"),
        ("version = 1", r"the module bcc in .*bcc\.py is another project's; uninstall it"),
    ],
)
def test_bcc_that_cannot_be_used_is_one_sentence(
    text: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _import(monkeypatch, tmp_path, text)
    with pytest.raises(UserError, match=sentence):
        compiler.bcc()


def test_bcc_of_another_python_is_named(tmp_path: Path) -> None:
    assert "apt install python3-bpfcc" in compiler._without_bcc("no bcc", tmp_path)
    there = tmp_path / "usr/lib/python3/dist-packages/bcc"
    there.mkdir(parents=True)
    (there / "__init__.py").touch()
    said = compiler._without_bcc("no bcc", tmp_path)
    assert f"(/usr/lib/python3/dist-packages/bcc), but this is {sys.executable}" in said


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places of headers that need no kernel."""
    for name, title in (("from_btf", "the kernel's BTF"), ("from_distribution", "the headers in /headers")):
        found = headers.Headers(title, [f"-I{name}"])
        monkeypatch.setattr(headers, name, lambda found=found: nullcontext(found))


@pytest.mark.usefixtures("sources")
def test_headers_of_the_distribution_come_second(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(cflags: list[str], **_: object) -> str:
        if "-Ifrom_btf" in cflags:
            raise Exception("Failed to compile BPF module")
        return "program"

    _bcc(monkeypatch, compile_)
    monkeypatch.setattr(compiler, "_taken", lambda bpf, _, title: Compiled(title, bpf, [], {}))
    assert compiler.compiled("", []) == Compiled("the headers in /headers", "program", [], {})


@pytest.mark.usefixtures("sources")
def test_program_that_does_not_compile_is_told_by_the_compilers_first_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compile_(**_: object) -> None:
        os.write(2, b"warning: x\nprobe.c:7: error: no member named 'rq'\nprobe.c:9: error: more\n")
        raise Exception("Failed to compile BPF module")

    _bcc(monkeypatch, compile_)
    with pytest.raises(UserError) as error:
        compiler.compiled("", [])
    why = "probe.c:7: error: no member named 'rq'"
    assert f"against the kernel's BTF: {why}; against the headers in /headers: {why}." in str(error.value)


def test_version_of_bcc_is_known_without_loading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "bcc"
    there.mkdir()
    (there / "__init__.py").write_text("raise ImportError")
    (there / "version.py").write_text("__version__ = '0.31.0'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    assert compiler.bcc_version() == "__version__ = '0.31.0'"


def test_a_process_compiles_and_finds_this_toolkit_not_that_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that this bcc is another project's: so it has found it, and us."""
    (tmp_path / "here/toolkit").mkdir(parents=True)
    (tmp_path / "here/toolkit/__init__.py").write_text("raise SystemExit('somebody else')")
    (tmp_path / "path").mkdir()
    (tmp_path / "path/bcc.py").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "path")
    with pytest.raises(UserError, match="is another project's"):
        compiler.run("int x;", [])


def test_what_a_library_prints_is_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text("import os\nos.write(1, b'modprobe: not found\\n')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="is another project's"):
        compiler.run("int x;", [])


def test_a_compiler_that_is_killed_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killed = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    (tmp_path / "bcc.py").write_text(killed)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"ended with status -9 .*memory may be short: try again\.$"):
        compiler.run("int x;", [])


def test_a_request_is_answered_on_the_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()

    def compiled(text: str, flags: list[str]) -> Compiled:
        if not flags:
            raise UserError("no flags; give some.")
        return Compiled(text, "GPL", [], {"f": b"\x95"})

    monkeypatch.setattr(compiler, "compiled", compiled)
    for flags in ([], ["-DX"]):
        request = json.dumps({"text": "int x;", "flags": flags})
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(read=lambda request=request: request))
        compiler.main(out)
    refused, done = out.getvalue().splitlines()
    assert json.loads(refused) == {"error": "no flags; give some."}
    assert json.loads(done)["functions"] == {"f": "lQ=="}
