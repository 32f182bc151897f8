# SPDX-License-Identifier: GPL-2.0-only
"""``make demo``: one machine, one shortage, one trace, and whether the sender saw the same stall."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from toolkit.errors import UserError, one_sentence
from vm import guest, machines, trial

OUT = Path("out/demo")
#: A stall and the gap in the sender's frames may differ by so much: what was posted when NAPI went off.
AGREE_NS = 60_000_000


@one_sentence("demo")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=OUT)
    parser.add_argument("--accel", help="tcg or kvm; chosen by a trial boot by default")
    arguments = parser.parse_args()
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {line}", file=sys.stderr, flush=True)

    summary = demo(arguments.output, arguments.accel, say)
    wrong = judge(summary)
    for sentence in wrong:
        print(f"demo: error: {sentence}", file=sys.stderr)
    if not wrong:
        say(f"done: see {arguments.output}/timeline.png and {arguments.output}/summary.json")
    return 1 if wrong else 0


def demo(out: Path, accel: str | None, say: Any) -> dict[str, Any]:
    """Run the demo into a directory, which is made anew.

    :return: summary.json.
    """
    shutil.rmtree(out, ignore_errors=True)
    with guest.machine(machines.first(), accel=accel) as machine:
        say(f"{machine.name} is up ({machine.accel}), kernel {machine.ssh('uname -r').stdout.strip()}")
        files = trial.run(
            machine,
            machine.machine.driver,
            out,
            scenario=["knob", "--times", "2"],
            traffic=trial.Traffic(),
            say=say,
        )
    say("analyzing")
    words = [sys.executable, "-m", "toolkit", "analyze", str(files.trace), "-o", str(out)]
    words += ["--witness", str(files.witness), "--phases", str(files.phases)]
    done = subprocess.run(words)
    if done.returncode:
        raise UserError(f"toolkit analyze failed with status {done.returncode}.")
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def judge(summary: dict[str, Any]) -> list[str]:
    """What is wrong with a demo: no stall, a stall that the sender did not see alike, or lost events.

    :param summary: of `toolkit analyze`.
    :return: sentences; none if all is well.
    """
    wrong = []
    witness = summary["witness"] or {}
    stalls = [stall for stall in summary["stalls"] if stall["duration_ns"] >= 10 * AGREE_NS // 2]
    if not stalls:
        wrong.append("no stall was found, though memory was kept back.")
    for stall in stalls:
        difference = stall["witness_difference_ns"]
        more = difference and _unexplained(stall, difference, witness.get("unexplained", []))
        if more is None or more > AGREE_NS:
            seen = "no gap" if more is None else f"a gap that is {more / 1e6:.0f} ms longer"
            wrong.append(f"a stall took {stall['duration_ns'] / 1e6:.0f} ms, but the sender saw {seen}.")
    # A sender that did not run itself saw nothing meanwhile.
    unseen = witness.get("largest_difference_ns") or 0
    if unseen > AGREE_NS:
        wrong.append(f"{unseen / 1e6:.0f} ms of a stall are in no gap, though the sender ran.")
    if dropped := summary["ledger"]["dropped"]:
        wrong.append(f"{dropped} events were dropped.")
    return wrong


def _unexplained(stall: dict[str, Any], difference: int, parts: list[dict[str, Any]]) -> int:
    """Return how much of a stall's gap has no reason, at the most [ns]: its CPU may be late, too.

    :param difference: by how much the gap is longer than the stall [ns].
    :param parts: of gaps that have none.
    """
    begin, end = stall["start_ns"] - difference, stall["start_ns"] + stall["duration_ns"] + difference
    within = (
        min(part["start_ns"] + part["duration_ns"], end) - max(part["start_ns"], begin) for part in parts
    )
    return max(within, default=0)


if __name__ == "__main__":
    sys.exit(main())
