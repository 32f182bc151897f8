# SPDX-License-Identifier: GPL-2.0-only
"""bcc, which compiles the probes, in a process of its own: its libraries need more memory than a trace.

As a program it reads a request from its input, ``{"text": …, "flags": […]}``, and writes what came out of it
(compiled.to_json), or ``{"error": …}``.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from toolkit.capture import headers, kernel
from toolkit.capture.compiled import Compiled, Map, of_json, renumbered, to_json
from toolkit.capture.layout import described
from toolkit.errors import UserError

_RING_BUFFER = 27
"""BPF_MAP_TYPE_RINGBUF."""


def bcc() -> Any:
    """Return the bcc module.

    :raises UserError: if this interpreter does not have it, or it cannot be loaded.
    """
    try:
        import bcc as module
    except ImportError as error:
        raise UserError(_without_bcc(str(error))) from None
    except OSError as error:
        # It loads libbcc, which is linked with libclang and LLVM.
        raise UserError(
            f"bcc's library cannot be loaded ({error}); install what it needs "
            "(Debian, Ubuntu: apt install --reinstall libbpfcc, or the package of the library named here)."
        ) from None
    if not hasattr(module, "BPF"):
        raise UserError(
            f"the module bcc in {module.__file__} is another project's; uninstall it (pip uninstall bcc): "
            "BPF's comes with the distribution only."
        )
    return module


def bcc_version() -> str | None:
    """Return what tells one bcc from another, without loading it; None if there is none."""
    found = importlib.util.find_spec("bcc")
    if not found or not found.origin:
        return None
    with contextlib.suppress(OSError):
        return Path(found.origin).with_name("version.py").read_text()
    return None


def _without_bcc(error: str, root: Path = kernel.ROOT) -> str:
    """Return the sentence about a bcc that cannot be imported.

    :param error: the import's own.
    :param root: where the distribution's files are.
    """
    there = sorted(root.glob("usr/lib*/python3*/*-packages/bcc/__init__.py"))
    venv = "make the virtual environment with /usr/bin/python3 -m venv --system-site-packages"
    if there:
        return (
            f"bcc is installed for the distribution's Python (/{there[0].parent.relative_to(root)}), "
            f"but this is {sys.executable}, which does not have it ({error}); {venv}."
        )
    return (
        "bcc is missing; install the distribution's package (Debian, Ubuntu: apt install python3-bpfcc; "
        f"Fedora: dnf install python3-bcc), and {venv}: any other does not see it."
    )


def run(text: str, flags: Sequence[str]) -> Compiled:
    """Have a process compile a program.

    :param flags: of the compiler.
    :raises UserError: as `compiled`, or if the process was killed.
    """
    # It finds the modules that this process finds, and none in the directory where the user happens to be.
    path = os.pathsep.join(dict.fromkeys([str(Path(__file__).parents[2]), *filter(None, sys.path)]))
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=json.dumps({"text": text, "flags": list(flags)}),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(
            f"the compiler of the probes ended with status {done.returncode} ({last}); "
            "if it was killed, memory may be short: try again."
        ) from None
    if "error" in found:
        raise UserError(found["error"])
    return of_json(found)


def compiled(text: str, flags: Sequence[str]) -> Compiled:
    """Compile a program in this process.

    Headers that come with the toolkit are tried first, then the distribution's.

    :raises UserError: if there is no bcc, or the text compiles against neither, with what the compiler said.
    """
    module = bcc()
    reasons = []
    for source in (headers.from_btf, headers.from_distribution):
        try:
            with source() as found, _native_stderr() as said:
                bpf = module.BPF(text=text, cflags=[*found.flags, *flags])
            return _taken(bpf, module.libbcc.lib, found.title)
        except UserError as error:
            reasons.append(str(error).rstrip("."))
        except Exception as error:
            reasons.append(f"against {found.title}: {_first_error(said) or error}")
    raise UserError(
        f"the probes did not compile (a newer kernel may need a newer bcc): {'; '.join(reasons)}."
    )


def _taken(bpf: Any, lib: Any, title: str) -> Compiled:
    """Return what bcc compiled, for another process to load.

    :param bpf: a ``bcc.BPF``; the maps that it has made go with this process.
    :param lib: libbcc.
    """
    # Its Python part leaves these undeclared.
    lib.bpf_num_tables.restype, lib.bpf_num_tables.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    lib.bpf_table_name.restype, lib.bpf_table_name.argtypes = (
        ctypes.c_char_p,
        [ctypes.c_void_p, ctypes.c_size_t],
    )
    maps, numbers = [], {}
    for number in range(lib.bpf_num_tables(bpf.module)):
        name = lib.bpf_table_name(bpf.module, number)
        table = bpf[name]
        numbers[table.map_fd] = number
        of_type = lib.bpf_table_type_id(bpf.module, number)
        # A ring buffer has neither.
        key, leaf = (None, None) if of_type == _RING_BUFFER else (table.Key, table.Leaf)
        maps.append(
            Map(
                name=name.decode(),
                type=of_type,
                key_size=ctypes.sizeof(key) if key else 0,
                leaf_size=ctypes.sizeof(leaf) if leaf else 0,
                entries=lib.bpf_table_max_entries_id(bpf.module, number),
                flags=lib.bpf_table_flags_id(bpf.module, number),
                key=described(key),
                leaf=described(leaf),
            )
        )
    functions = {}
    for number in range(lib.bpf_num_functions(bpf.module)):
        name = lib.bpf_function_name(bpf.module, number)
        start, size = lib.bpf_function_start(bpf.module, name), lib.bpf_function_size(bpf.module, name)
        functions[name.decode()] = renumbered(ctypes.string_at(start, size), numbers)
    return Compiled(title, lib.bpf_module_license(bpf.module).decode(), maps, functions)


def _first_error(said: list[str]) -> str:
    """Return the line of a compiler's output that matters most."""
    return next((line.strip() for line in said if "error:" in line), "")


@contextmanager
def _native_stderr() -> Iterator[list[str]]:
    """Collect what C libraries print on stderr meanwhile."""
    said: list[str] = []
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            said.extend(file.read().decode(errors="replace").splitlines())


def main(output: TextIO) -> None:
    """Answer the request on this process's input."""
    request = json.load(sys.stdin)
    try:
        answer = to_json(compiled(request["text"], request["flags"]))
    except UserError as error:
        answer = json.dumps({"error": str(error)})
    output.write(f"{answer}\n")


if __name__ == "__main__":
    # C libraries print on the output, too: with a distribution's headers, bcc's compiler does.
    with os.fdopen(os.dup(1), "w") as answer_to:
        os.dup2(2, 1)
        main(answer_to)
