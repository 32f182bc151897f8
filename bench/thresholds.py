# SPDX-License-Identifier: GPL-2.0-only
"""What the default thresholds rest on: how long silences and stalls are in healthy time, and in other time.

    python -m bench.thresholds [DIR]

DIR holds traces with a phases.json beside each, as `vm.trial` leaves them; by default, the recordings of
tests/data. Each trace has up to two parts:
- healthy: until memory gets short for the first time, and until the longest stall begins;
- short: while memory is short.

Prints how many silences outside of stalls last so long or longer, and how many stalls are shorter than that,
for each directory below DIR, as tables in Markdown. An interval counts in the part that it begins in. Stalls
that had not ended with the trace are left out.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.errors import one_sentence
from toolkit.runs import find_traces
from toolkit.traces import Trace, read

RECORDINGS = Path(__file__).parent.parent / "tests" / "data"
MS = 1_000_000
SILENCES_MS = (10, 20, 50, 100, 200)
STALLS_MS = (1, 2, 5, 10, 20, 50)


class Part(NamedTuple):
    """A part of some traces: how long it is, and the lengths [ns] of the silences and stalls that begin in
    it; `silences` is None if the drivers have no NAPI."""

    seconds: float
    silences: NDArray[np.int64] | None
    stalls: NDArray[np.int64]


@one_sentence("bench.thresholds")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dir", type=Path, nargs="?", default=RECORDINGS)
    folder = parser.parse_args().dir
    found = measure(folder, find_traces(folder))
    print("\n".join([*silence_table(found), "", *stall_table(found)]))
    return 0


def measure(folder: Path, traces: Sequence[Path]) -> dict[tuple[str, str], Part]:
    """Return the parts of traces, by the directory below the folder and the name of the part."""
    found: dict[tuple[str, str], list[Part]] = {}
    for path in traces:
        for name, part in parts(read(path)):
            found.setdefault((path.relative_to(folder).parts[0], name), []).append(part)
    return {key: _joined(each) for key, each in found.items()}


def parts(trace: Trace) -> Iterator[tuple[str, Part]]:
    """Yield the healthy part of a trace, and the time in which memory is short if there is any."""
    scan, stalls, phases = trace.analysis.scan, trace.stalls, trace.phases
    short: list[tuple[int, int]] = []
    if phases is not None:
        edges = phases.loc[phases["shortage"], ["start", "end"]].to_numpy(np.int64)
        short = [(int(start), int(end)) for start, end in edges]
    ends = [scan.ended, *(start for start, _ in short)]
    if len(stalls):
        ends.append(int(stalls.nlargest(1, "duration_ns")["start_ns"].iloc[0]))
    has_napi = bool(trace.queues["silent_ns"].notna().any())
    for name, spans in (("healthy", [(scan.began, min(ends))]), ("short", short)):
        if spans:
            seconds = sum(end - start for start, end in spans) / 1e9
            silences = _lengths(trace.silences, spans) if has_napi else None
            yield name, Part(seconds, silences, _lengths(stalls[~stalls["open"]], spans))


def _lengths(rows: pd.DataFrame, spans: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the lengths [ns] of the stalls or silences that begin in some spans of time."""
    begin, length = (rows[name].to_numpy(np.int64) for name in ("start_ns", "duration_ns"))
    return length[np.any([(begin >= start) & (begin < end) for start, end in spans], axis=0)]


def _joined(some: Sequence[Part]) -> Part:
    silences = [part.silences for part in some if part.silences is not None]
    return Part(
        sum(part.seconds for part in some),
        np.concatenate(silences) if silences else None,
        np.concatenate([part.stalls for part in some]),
    )


def silence_table(found: Mapping[tuple[str, str], Part]) -> list[str]:
    """Return the lines of a table: how many silences last so many milliseconds or longer."""
    lines = _head([*(f"≥ {least} ms" for least in SILENCES_MS), "longest [ms]"])
    for (where, name), part in found.items():
        if (lengths := part.silences) is not None:
            counts = [f"{(lengths >= least * MS).sum():,}" for least in SILENCES_MS]
            lines.append(_line(where, name, part, [*counts, f"{lengths.max(initial=0) / MS:,.0f}"]))
    return lines


def stall_table(found: Mapping[tuple[str, str], Part]) -> list[str]:
    """Return the lines of a table: how many stalls are shorter than so many milliseconds."""
    lines = _head([*(f"< {most} ms" for most in STALLS_MS), "all"])
    for (where, name), part in found.items():
        if len(lengths := part.stalls):
            counts = [f"{(lengths < most * MS).sum():,}" for most in STALLS_MS]
            lines.append(_line(where, name, part, [*counts, f"{len(lengths):,}"]))
    return lines


def _head(names: Sequence[str]) -> list[str]:
    return [f"| recordings | part | time [s] | {' | '.join(names)} |", "| --- " * (len(names) + 3) + "|"]


def _line(where: str, name: str, part: Part, cells: Sequence[str]) -> str:
    return f"| {where} | {name} | {part.seconds:.0f} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
