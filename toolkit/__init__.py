# SPDX-License-Identifier: GPL-2.0-only
"""Show when and why a network driver stops receiving for lack of buffers.

`read` opens a trace, `read_set` a directory of traces: docs/python.md. Neither needs root or bcc.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.version import __version__

if TYPE_CHECKING:
    from toolkit.runs import TraceSet
    from toolkit.stalls.selection import Selection
    from toolkit.stalls.thresholds import Thresholds
    from toolkit.traces import Trace

__all__ = ["__version__", "read", "read_set"]


def read(
    path: Path | str,
    witness: Path | str | None = None,
    phases: Path | str | None = None,
    selection: Selection | None = None,
    thresholds: Thresholds | None = None,
) -> Trace:
    """Open a trace; its parts are read when they are asked for.

    :param path: a trace file.
    :param witness: JSON of a frame sender; phases: of a scenario (docs/stalls.md). If they are not given, a
        witness.json and a phases.json beside a trace that is the only one in its directory are taken.
    :param selection: what to show of the analysis (docs/python.md); by default all.
    :param thresholds: from how long silences and stalls count (docs/stalls.md); by default 10 ms.
    :return: the trace: frames `events`, `stalls`, `states`, `queues`, `ledger`; also `meta` and `verdict`.
    :raises UserError: if it is not a trace, or of a newer format.
    """
    # Not at the top: pandas takes a second.
    from toolkit.traces import read

    return read(path, witness, phases, selection, thresholds)


def read_set(
    *paths: Path | str,
    thresholds: Thresholds | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> TraceSet:
    """Open several traces.

    :param paths: each a trace, or a directory that is searched for them (*.rxt), also below.
    :param thresholds: from how long silences and stalls of each trace count; by default as for `read`.
    :param say: is told of each trace before it is analyzed.
    :return: a sequence of traces, with `stalls` and `queues` of all, and `runs`, a row for each.
    :raises UserError: if there is none, or something that is not one.
    """
    from toolkit.runs import read_set

    return read_set(*paths, thresholds=thresholds, say=say)
