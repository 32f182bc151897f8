# SPDX-License-Identifier: GPL-2.0-only
"""Make an archive of a trace: the same events in fewer and larger batches, which compress better."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.trace.ledger import lists
from toolkit.trace.reader import Columns, TraceReader
from toolkit.trace.schema import EVENT, Events
from toolkit.trace.writer import TraceWriter

MOST_EVENTS = 1 << 17
"""The most events in a batch, unless it had more in the trace: a reader holds 8 MiB of them."""

_LEVEL = 9
"""Level of zstd: a tenth smaller than at level 1, at a fifth of the speed; higher levels gain little."""


_NAMED = {"threads": "tid", "stacks": "stack", "memory": "at_ns", "steal": "at_ns"}
"""Of which a batch has several, and the member that tells one from another."""


def pack(reader: TraceReader, path: Path, *, force: bool = False) -> None:
    """Write an archive, which is a trace itself: each command finds in it the same as in the trace.

    The part of a damaged trace that cannot be read is not in the archive, which then has no end either.

    :param reader: a trace that was not iterated yet; its `damage` is known afterwards.
    :param force: replace an existing file.
    :raises UserError: if the file exists and not `force`, or cannot be written.
    """
    with TraceWriter(path, reader.meta, force=force, level=_LEVEL) as writer:
        for events, note in _merged(reader):
            end = {name: note.pop(name) for name in ("end",) if name in note}
            writer.write(events, note)
            for name in _NAMED:
                note.pop(name, None)
            if end:
                writer.close({**note, **end})


def _merged(reader: TraceReader) -> Iterator[tuple[Events, dict[str, Any]]]:
    """Yield batches that follow each other as one batch.

    A batch with devices begins a new one. A batch in which drops grew is not merged with others, so that it
    stays known between which drains events were dropped.
    """
    parts: list[Columns] = []
    merged: dict[str, Any] = {}
    dropped, growing = 0, False
    for columns, note in reader:
        grows, dropped = note["dropped"] > dropped, note.pop("dropped")
        count = sum(len(part["ts"]) for part in parts)
        if parts and (grows != growing or "devices" in note or count + len(columns["ts"]) > MOST_EVENTS):
            yield _joined(parts), merged
            parts, merged = [], {}
        parts.append(columns)
        named = {
            name: list({each[number]: each for each in (*merged.get(name, []), *note.get(name, []))}.values())
            for name, number in _NAMED.items()
        }
        merged = {**merged, **note, "ledger": lists(reader.ledger)}
        merged |= {name: found for name, found in named.items() if found}
        growing = grows
    if parts:
        yield _joined(parts), merged


def _joined(parts: list[Columns]) -> Events:
    events = np.empty(sum(len(part["ts"]) for part in parts), EVENT)
    for name in EVENT.names or ():
        events[name] = np.concatenate([part[name] for part in parts])
    return events
