# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator a machine may use."""

import json
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from vm.cmd import cmd
from vm.image.image import Image
from vm.paths import cache
from vm.qemu import emulator

Accel = Literal["tcg", "kvm", "icount"]
"""icount is tcg, one CPU at a time, with a clock that counts instructions: to measure to a percent."""

TRIAL_SECONDS = 20


def choose_accel(image: Image, say: Callable[[str], None], program: Sequence[str] = ()) -> Accel:
    """KVM if a trial boot of the image's kernel proves it, else TCG; remembered per kernel and QEMU.

    A /dev/kvm that opens proves little: in some nested setups a guest hangs without a byte on its console.

    :param image: whose kernel to try.
    :param say: is told of the trial.
    :param program: the words that start QEMU; by default the system's.
    """
    if not Path("/dev/kvm").exists():
        return "tcg"
    program = program or [emulator.BINARY]
    version = re.search(r"version (\S+)", cmd([*program, "--version"]).stdout)
    place = f"{platform.release()} qemu {version.group(1) if version else 'unknown'}"
    known = _answers()
    if place not in known:
        say(f"trying KVM for at most {TRIAL_SECONDS} s")
        known[place] = "kvm" if _kvm_boots(image, program) else "tcg"
        say(f"KVM {'works' if known[place] == 'kvm' else 'boots no guest'} here; the answer is remembered")
        memory = _memory()
        temporary = memory.with_suffix(".new")
        temporary.write_text(json.dumps(known, indent=2) + "\n")
        temporary.rename(memory)
    return known[place]


def remembered() -> Accel:
    """Return what a trial boot has shown with any QEMU on this kernel; TCG if there was none."""
    here = f"{platform.release()} qemu "
    proven = any(answer == "kvm" for place, answer in _answers().items() if place.startswith(here))
    return "kvm" if proven else "tcg"


def _memory() -> Path:
    return cache() / "accel.json"


def _answers() -> dict[str, Accel]:
    """Return the answers of trial boots by the host's kernel and QEMU."""
    return json.loads(_memory().read_text()) if _memory().exists() else {}


def _kvm_boots(image: Image, program: Sequence[str]) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        console = Path(directory) / "console"
        # Without a root disk the kernel panics; with panic=-1 and -no-reboot that ends QEMU within seconds.
        words = [
            *program,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            "q35",
        ]
        words += ["-accel", "kvm", "-cpu", "host", "-m", "256", "-kernel", str(image.kernel)]
        words += ["-append", "console=ttyS0 panic=-1", "-serial", f"file:{console}"]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and b"Linux version" in console.read_bytes()
