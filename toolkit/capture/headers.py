# SPDX-License-Identifier: GPL-2.0-only
"""Which headers bcc compiles the probes against: those that come with the toolkit, else the distribution's.

bcc's own text needs little of a kernel's headers, and the probes read kernel structs at offsets from BTF.
So probes/headers/ stands in for the kernel's source, ``struct pt_regs`` is written from the kernel's own BTF,
and no header package has to be installed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from toolkit.capture.btf import kernel_btf
from toolkit.errors import UserError
from toolkit.paths import PROBES

#: The environment variable that tells bcc where the kernel's source is.
VARIABLE = "BCC_KERNEL_SOURCE"


class Headers(NamedTuple):
    """The headers that bcc compiles against.

    :param title: their name in a sentence.
    :param flags: of the compiler.
    """

    title: str
    flags: Sequence[str]


@contextmanager
def from_btf() -> Iterator[Headers]:
    """Let bcc compile inside a `with` block on a machine without header packages.

    Write ``struct pt_regs`` from the running kernel's BTF into a temporary directory, and let probes/headers/
    stand in for the kernel's source.

    :return: the headers, with the flags for the compiler.
    :raises UserError: if libbpf is missing, or the kernel has no BTF, or its BTF has no ``struct pt_regs``.
    """
    with tempfile.TemporaryDirectory(prefix="rx-stall-") as directory:
        target = Path(directory, "uapi/linux/ptrace.h")
        target.parent.mkdir(parents=True)
        with kernel_btf() as btf:
            registers = btf.declaration("pt_regs")
        if registers is None:
            raise UserError("this kernel's BTF has no struct pt_regs; use a kernel that has.")
        target.write_text(f"#pragma once\n#include <linux/types.h>\n{registers}\n")
        macros = {
            "LINUX_VERSION_CODE": _version_code(os.uname().release),
            "PAGE_SIZE": os.sysconf("SC_PAGE_SIZE"),
        }
        flags = [f"-I{directory}", *(f"-D{name}={value}" for name, value in macros.items())]
        with _kernel_source(PROBES / "headers"):
            yield Headers("the kernel's BTF", flags)


@contextmanager
def from_distribution() -> Iterator[Headers]:
    """Let bcc compile against the headers of the running kernel, which bcc finds by itself.

    :raises UserError: if they are not installed.
    """
    release = os.uname().release
    own, built_in = Path("/lib/modules", release, "build"), Path("/sys/kernel/kheaders.tar.xz")
    given = os.environ.get(VARIABLE)
    if not (given or own.exists() or built_in.exists()):
        raise UserError(
            f"the headers of kernel {release} are missing; "
            f"install them (Debian: apt install linux-headers-{release})."
        )
    yield Headers(f"the headers in {given or (own if own.exists() else built_in)}", [])


def _version_code(release: str) -> int:
    """Return LINUX_VERSION_CODE of a kernel release, as include/linux/version.h has it."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    major, minor, patch = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    return (major << 16) + (minor << 8) + min(patch, 255)


@contextmanager
def _kernel_source(path: Path) -> Iterator[None]:
    """Tell bcc where the kernel's source is, for the length of the block."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
