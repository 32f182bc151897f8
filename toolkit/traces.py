# SPDX-License-Identifier: GPL-2.0-only
"""One trace as pandas frames, each made when it is first asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolkit.stalls.accounts import Witness, read_phases, read_witness
from toolkit.stalls.analysis import Analysis, analyze
from toolkit.stalls.selection import EVERYTHING, Selection, select
from toolkit.stalls.thresholds import DEFAULT, Thresholds
from toolkit.stalls.witness import compare
from toolkit.trace.ledger import COUNTS, widened
from toolkit.trace.reader import Batch, TraceReader


@dataclass(frozen=True, eq=False)
class Trace:
    """A trace, and what lies beside it: `path`; `meta`, its JSON object (docs/trace-file.md);
    `witness_path` and `phases_path`, None without such a file; `selection`, what is shown of it;
    `thresholds`, from how long silences and stalls count."""

    path: Path
    meta: Mapping[str, Any]
    witness_path: Path | None
    phases_path: Path | None
    selection: Selection = EVERYTHING
    thresholds: Thresholds = DEFAULT

    @property
    def files(self) -> list[Path]:
        """The paths of the files that are read: the trace, its witness and its phases."""
        return [file for file in (self.path, self.witness_path, self.phases_path) if file]

    @cached_property
    def events(self) -> pd.DataFrame:
        """Every event, sorted by ts: the columns of docs/events.md, in the units there; with words for
        kind, flags and driver, and with device and gfp_names, as categories."""
        from toolkit.report.events import everything

        return everything(TraceReader(self.path))

    def batches(self) -> Iterator[Batch]:
        """Yield the events in the order of the file, in bounded memory; `damage` then needs no analysis."""
        reader = TraceReader(self.path)
        yield from reader
        vars(self)["damage"] = reader.damage

    @cached_property
    def stalls(self) -> pd.DataFrame:
        """One row for each stall, sorted by start: the columns of docs/stalls.md; times in ns."""
        return self.analysis.stalls.reset_index(drop=True)

    @cached_property
    def silences(self) -> pd.DataFrame:
        """The times outside of stalls in which no frame was taken, sorted by start: device, queue, name,
        driver, state (slow-refill, slow-poll or unpolled), start_ns, end_ns, duration_ns."""
        return self.analysis.silences.reset_index(drop=True)

    @cached_property
    def ticks(self) -> pd.DataFrame:
        """Where the CPU was in silences, looked at 49 times a second: device, queue, name, driver, state of
        the silence, tid, thread, function (the innermost), stack (the outermost first), count."""
        return self.analysis.ticks.reset_index(drop=True)

    @cached_property
    def no_ticks(self) -> pd.DataFrame:
        """The times of 0.1 s and longer in which the clock of a queue's CPU did not tick: device, queue,
        name, driver, start_ns, end_ns, duration_ns, and stack, where the next tick found the CPU."""
        return self.analysis.no_ticks.reset_index(drop=True)

    @cached_property
    def memory(self) -> pd.DataFrame:
        """Looks at the machine's memory, about two a second: at_ns, free, min, low [bytes], some_ns, full_ns,
        for how long tasks had waited for memory since the boot."""
        return self.analysis.memory

    @cached_property
    def states(self) -> pd.DataFrame:
        """The intervals that stalls are made of, sorted by start: device, queue, name, driver, state,
        start_ns, end_ns, open."""
        names = {"start": "start_ns", "end": "end_ns"}
        return self.analysis.intervals.rename(columns=names).reset_index(drop=True)

    @cached_property
    def queues(self) -> pd.DataFrame:
        """One row for each queue: the columns of docs/stalls.md, "Table of queues"."""
        return self.analysis.queues.reset_index(drop=True)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that the drivers declare of their own events, by name (docs/stalls.md)."""
        return {name: rows.reset_index(drop=True) for name, rows in self.analysis.tables.items()}

    @cached_property
    def ledger(self) -> pd.DataFrame:
        """What was counted while events were sent: kind, cpu; attempted, delivered, dropped [events]."""
        ledger = self.analysis.scan.ledger
        cpus = max([self.meta.get("cpus", 1), *(counts.shape[1] for counts in ledger.values())])
        counts = [np.empty((0, len(COUNTS)), np.int64), *(widened(each, cpus).T for each in ledger.values())]
        columns = dict(zip(COUNTS, np.concatenate(counts).T, strict=True))
        kinds = pd.Series(np.repeat(np.array(list(ledger), object), cpus), dtype="str")
        return pd.DataFrame({"kind": kinds, "cpu": np.tile(np.arange(cpus), len(ledger)), **columns})

    @cached_property
    def damage(self) -> str | None:
        """None for a whole trace, else a sentence that says where it stops and why."""
        return self.analysis.damage

    @cached_property
    def verdict(self) -> str:
        """What happened, in a sentence for each device."""
        from toolkit.report.text import verdict

        return verdict(self.analysis)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The JSON object of summary.json (docs/stalls.md)."""
        from toolkit.report.summary import summary

        return summary(self.analysis, self.agreement, self.phases)

    @cached_property
    def witness(self) -> Witness | None:
        """The account of the frame sender; None without a witness."""
        return read_witness(self.witness_path) if self.witness_path else None

    @cached_property
    def phases(self) -> pd.DataFrame | None:
        """The phases of the scenario: name, start, end [ns], shortage; attrs has the `scenario`."""
        return read_phases(self.phases_path) if self.phases_path else None

    @property
    def analysis(self) -> Analysis:
        """The analysis that the tables are made of; and the outputs of toolkit.report."""
        return self._selected

    @property
    def agreement(self) -> dict[str, Any] | None:
        """The `witness` object of summary.json, of the whole trace; None without a witness."""
        return self._compared[1]

    @cached_property
    def _selected(self) -> Analysis:
        return select(self._compared[0], self.selection)

    @cached_property
    def _compared(self) -> tuple[Analysis, dict[str, Any] | None]:
        # Read the witness first: a bad file should fail before the analysis, which takes seconds.
        witness, found = self.witness, analyze(self.path, self.thresholds)
        return compare(found, witness) if witness else (found, None)


def read(
    path: Path | str,
    witness: Path | str | None = None,
    phases: Path | str | None = None,
    selection: Selection | None = None,
    thresholds: Thresholds | None = None,
) -> Trace:
    """Open a trace; only its beginning is read.

    :param path: a trace file.
    :param witness: JSON of a frame sender, phases: of a scenario (docs/stalls.md). If they are not given, a
        witness.json and a phases.json beside a trace that is the only one in its directory are taken.
    :param selection: what to show of the analysis; by default all. `events` and `agreement` are always of the
        whole trace.
    :param thresholds: from how long silences and stalls count; by default thresholds.DEFAULT.
    :raises UserError: if the file is no trace, or has a newer format; later, if a part cannot be read.
    """
    path = Path(path)
    return Trace(
        path,
        TraceReader(path).meta,
        Path(witness) if witness else _beside(path, "witness.json"),
        Path(phases) if phases else _beside(path, "phases.json"),
        selection or EVERYTHING,
        thresholds or DEFAULT,
    )


def _beside(trace: Path, name: str) -> Path | None:
    """Return a file that belongs to the trace, because no other trace is in its directory."""
    path = trace.with_name(name)
    return path if path.is_file() and len(list(trace.parent.glob("*.rxt"))) == 1 else None
