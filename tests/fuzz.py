# SPDX-License-Identifier: GPL-2.0-only
"""Traces that no tracer writes, with valid checksums: each is read or refused, and never more than that.

    python -m tests.fuzz [--inputs 100000] [--seed 1] [--first 0] [--out out/fuzz]

Each input is a small valid trace, changed in its structure: members of the JSON, columns, the order of
the batches, bytes. It goes through reader, analysis and JSON, which has the verdict, and in turns through
text, terminal, page and exports.

A failure is an exception that is no UserError, more than 5 s of the CPU's time or 10 minutes of the clock's,
more than 1 GiB, a control character in the text, or a tag in the page. The input and its traceback are then
saved. The same seed and number give the same input again.
"""

import argparse
import contextlib
import io
import json
import random
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NoReturn
from unittest.mock import patch

import toolkit
from tests import fuzzed
from tests.conftest import Terminal
from toolkit import report
from toolkit.errors import UserError
from toolkit.report import drawing, text, trace_page
from toolkit.stalls.selection import EVERYTHING, Selection

LONGEST_S = 5
"""Of the CPU's time, since other processes may keep this one waiting."""

HANG_S = 600
"""Of the clock's, for a hang that needs no CPU. Beside a dozen processes, a run with nice -n 15 got 0.5 % of
a core: it needed more than a minute for a page."""

MOST_MIB = 1024
DRAWN = 25
"""The plots of one page in so many are drawn, which takes a second."""


class FuzzError(Exception):
    """An input that did what none may."""


def drive(path: Path, folder: Path, chance: random.Random) -> str:
    """Put a trace through all that reads it.

    :return: "refused", or "read".
    :raises FuzzError: if something was shown that may not be.
    """
    try:
        witness, phases = (
            folder / name if chance.random() < 0.5 else None for name in ("witness.json", "phases.json")
        )
        part = Selection(until=chance.uniform(0, 5), shortest=chance.choice((0, 1)))
        found = toolkit.read(path, witness, phases, chance.choice((EVERYTHING, EVERYTHING, part)))
        _drive_analysis(found)
        match chance.randrange(8):
            case 0:
                _drive_page(found, chance)
            case 1:
                _drive_terminal(found)
            case 2:
                name = chance.choice(("csv", "jsonl", "parquet"))
                report.load("export", name).render(found, io.BytesIO())
            case 3:
                report.load("export", "perfetto").render(found, io.BytesIO())
            case 4:
                found.ledger.to_csv(io.StringIO())
                found.states.to_csv(io.StringIO())
            case _:
                _drive_text(found)
    except UserError as error:
        if not str(error):
            raise FuzzError("an empty sentence") from error
        return "refused"
    return "read"


def _drive_analysis(found: Any) -> None:
    summary = json.loads(json.dumps(found.summary, allow_nan=False))
    if found.damage and summary["verdict"].startswith("No stall"):
        raise FuzzError("no stall in a damaged trace")


def _drive_text(found: Any) -> None:
    shown = io.StringIO()
    text.render(found, shown)
    if any(not letter.isprintable() for letter in shown.getvalue().replace("\n", "")):
        raise FuzzError("a control character in the text")


def _drive_terminal(found: Any) -> None:
    shown = Terminal()
    text.render(found, shown)
    if "\x1b]" in shown.getvalue() or "\x07" in shown.getvalue():
        raise FuzzError("a control character on the terminal")


def _drive_page(found: Any, chance: random.Random) -> None:
    drawn = chance.randrange(DRAWN) == 0
    with contextlib.nullcontext() if drawn else patch.object(drawing, "svg", lambda _: "<svg></svg>"):
        page = io.BytesIO()
        trace_page.render(found, page)
    if b"<script" in page.getvalue():
        raise FuzzError("a tag in the page")


def _fail(_number: int, _frame: FrameType | None) -> NoReturn:
    raise FuzzError("it takes too long")


@contextlib.contextmanager
def _bounded(longest: float, hang: float = HANG_S) -> Iterator[None]:
    """Raise FuzzError if something takes too long, or if this process has needed more than MOST_MIB.

    :param longest: seconds of the CPU's time; hang: of the clock's.
    """
    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, longest),
        (signal.SIGALRM, signal.ITIMER_REAL, hang),
    )
    before = [signal.signal(number, _fail) for number, _, _ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
    if _most_kib() > MOST_MIB * 1024:
        raise FuzzError(f"more than {MOST_MIB} MiB")


def _most_kib() -> int:
    """Return the most memory that this process has needed [KiB].

    getrusage would also tell what the process that started this one had needed: exec_mmap in fs/exec.c keeps
    it for a child that shared the memory of its parent (vfork).
    """
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    return int(line)


def run(
    inputs: int,
    seed: int,
    first: int,
    out: Path,
    say: Callable[[str], object],
    longest: float = LONGEST_S,
) -> dict[str, int]:
    """Make and drive inputs.

    :param first: number of the first input.
    :param out: where failing inputs are saved; made if there is one.
    :param longest: how long one may take [s] of the CPU's time.
    :return: how many were "read", "refused" and "failed".
    """
    counts = {"read": 0, "refused": 0, "failed": 0}
    valid, began = fuzzed.seeds(), time.monotonic()
    with TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        for number in range(first, first + inputs):
            chance = random.Random(f"{seed}:{number}")
            path = fuzzed.save(fuzzed.make(chance, valid), folder, chance)
            try:
                with _bounded(longest):
                    result = drive(path, folder, chance)
            except Exception:
                result = "failed"
                out.mkdir(parents=True, exist_ok=True)
                for file in ("fuzz.rxt", "witness.json", "phases.json"):
                    (out / f"{seed}-{number}-{file}").write_bytes((folder / file).read_bytes())
                (out / f"{seed}-{number}.txt").write_text(traceback.format_exc())
                say(f"input {number} failed: {traceback.format_exc().splitlines()[-1]}")
            counts[result] += 1
            if (number - first + 1) % 1000 == 0:
                say(f"{number - first + 1:,} inputs in {time.monotonic() - began:.0f} s: {counts}")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    options = parser.parse_args()
    print(f"seed {options.seed}; failing inputs go to {options.out}", flush=True)

    def say(line: str) -> None:
        print(line, flush=True)

    counts = run(options.inputs, options.seed, options.first, options.out, say)
    print(f"seed {options.seed}: {counts}")
    if counts["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
