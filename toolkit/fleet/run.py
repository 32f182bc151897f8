# SPDX-License-Identifier: GPL-2.0-only
"""Bring a dataset up to date: analyze on Dask what is new, and keep what is finished, whatever comes."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import distributed
import pyarrow as pa
import pyarrow.compute as pc
from dask.system import CPU_COUNT
from distributed import KilledWorker

from toolkit.errors import UserError
from toolkit.fleet import dataset, rows, rules, sources, worker
from toolkit.fleet.cluster import connected
from toolkit.fleet.dataset import FAILED, UNFETCHED
from toolkit.fleet.rows import Tables
from toolkit.fleet.sources import Source
from toolkit.outputs import alone
from toolkit.stalls.thresholds import DEFAULT, Thresholds

GROUP = 8
"""At most so many traces are one task: for each task, scheduler and client need milliseconds."""

AHEAD = 256
"""So many tasks are with the cluster at a time, or four for each of its threads if these are more."""

PART_TRACES = 4096
PART_SECONDS = 30
"""A part is written when it has so many traces, or when so much time has passed since the last."""


@dataclass
class Progress:
    """How far a run is.

    Attributes: `found`, traces in all places; `unchanged`, those that were analyzed before; `waiting`,
    whether the cluster has no worker yet; `analyzed`, by status, those that this run has analyzed;
    `interrupted`, whether it ended before all were.
    """

    found: int
    unchanged: int
    waiting: bool = False
    analyzed: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False


def update(
    directory: Path,
    places: Sequence[str],
    scheduler: str | None = None,
    workers: int | None = None,
    host: str | None = None,
    thresholds: Thresholds = DEFAULT,
    show: Callable[[Progress], object] = lambda _: None,
) -> Progress:
    """Analyze the traces that a dataset does not have as they are now.

    :param directory: the dataset, made if it is not there.
    :param places: as for `sources.find`.
    :param scheduler: the address of a Dask scheduler; None for processes on this machine.
    :param workers: how many processes; None for as many as there are CPUs.
    :param host: a regular expression that finds, in the place of a trace that does not say it, the name of
        the host, as its group `host`.
    :param thresholds: from how long silences and stalls count.
    :param show: is given the progress when there is any.
    :return: the last progress. At a KeyboardInterrupt, what was finished until then is in the dataset.
    :raises UserError: if the directory is something else or in use, a place or the scheduler cannot be
        reached, or the workers have another toolkit.
    """
    _check_pattern(host)
    dataset.refuse_other(directory)
    found = sources.find(places)
    with _only_run(directory):
        dataset.drop_replaced(directory)
        wanted = rules.wanted(thresholds, host)
        new = _changed(directory, found, wanted)
        progress = Progress(len(found), len(found) - len(new))
        show(progress)
        try:
            if new:
                _analyze(directory, new, (scheduler, workers), (wanted, host, thresholds), progress, show)
        except KeyboardInterrupt:
            progress.interrupted = True
        dataset.drop_replaced(directory)
    return progress


def _check_pattern(host: str | None) -> None:
    try:
        if host is not None and "host" not in re.compile(host).groupindex:
            raise UserError(
                f"{host!r} has no group of the name host: write (?P<host>…) where the name stands."
            )
    except re.error as error:
        raise UserError(f"{host!r} is no regular expression: {error}.") from error


@contextmanager
def _only_run(directory: Path) -> Iterator[None]:
    """Make the dataset, and have it for this run alone.

    :raises UserError: if another run has it.
    """
    dataset.create(directory)
    busy = f"another run writes to {directory}: wait until it ends, or give another directory."
    with alone(directory, busy):
        yield


def _changed(directory: Path, found: Sequence[Source], wanted: str) -> list[Source]:
    """Return the traces that the dataset does not have as they are, by these rules."""
    columns = ["place", "size", "modified", "etag", "rules", "status"]
    # The dataset may have the traces of years, of which these are a day's.
    places = pa.array([source.place for source in found], pa.string())
    rows = dataset.table(directory, "traces", columns, pc.field("place").isin(places))
    known = {
        place: about
        for place, *about, version, status in zip(*(rows[name].to_pylist() for name in columns), strict=True)
        if version == wanted and status not in (UNFETCHED, FAILED)
    }
    return [source for source in found if not _same(source, known.get(source.place))]


def _same(source: Source, about: Sequence[object] | None) -> bool:
    """Tell whether a trace is as it was: by its ETag if its store has that, else by its time."""
    if about is None:
        return False
    size, modified, etag = about
    return source.size == size and (source.etag == etag if source.etag else source.modified == modified)


def _analyze(
    directory: Path,
    new: Sequence[Source],
    where: tuple[str | None, int | None],
    how: tuple[str, str | None, Thresholds],
    progress: Progress,
    show: Callable[[Progress], object],
) -> None:
    """Analyze traces and add them to the dataset.

    :param where: scheduler and workers (update).
    :param how: the version of the rules (rules.wanted), the pattern of hosts and the thresholds.
    """
    scheduler, workers = where
    with connected(scheduler, min(workers or CPU_COUNT, len(new))) as client, _parts(directory) as keep:
        progress.waiting = not client.nthreads()
        show(progress)
        for tables in _results(client, new, how):
            keep(tables)
            statuses = zip(*(tables["traces"][name].to_pylist() for name in ("place", "status")), strict=True)
            progress.analyzed.update(dict(statuses).values())
            progress.waiting = False
            show(progress)


@contextmanager
def _parts(directory: Path) -> Iterator[Callable[[Tables], None]]:
    """Give a function that keeps tables, which go to the dataset now and then, and in any case at the end."""
    kept: list[Tables] = []
    written = time.monotonic()

    def write() -> None:
        if kept:
            dataset.add(directory, rows.joined(kept))
            kept.clear()

    def keep(tables: Tables) -> None:
        nonlocal written
        kept.append(tables)
        full = sum(len(each["traces"]) for each in kept) >= PART_TRACES
        if full or time.monotonic() - written > PART_SECONDS:
            write()
            written = time.monotonic()

    try:
        yield keep
    finally:
        write()


def _results(
    client: distributed.Client, new: Sequence[Source], how: tuple[str, str | None, Thresholds]
) -> Iterator[Tables]:
    """Yield the rows of traces in groups, as the cluster analyzes them.

    Dask itself repeats the task of a worker that was lost. If worker after worker is lost with a group, Dask
    gives up; then each trace of the group is a task of its own, to find the one that is the reason.
    """
    threads = sum(client.nthreads().values())
    size = min(GROUP, max(1, len(new) // (4 * max(1, threads))))
    groups = (new[start : start + size] for start in range(0, len(new), size))
    running: dict[distributed.Future, Sequence[Source]] = {}

    def submit(group: Sequence[Source]) -> distributed.Future:
        future = client.submit(worker.analyze, group, *how, pure=False)
        running[future] = group
        return future

    completed = distributed.as_completed(map(submit, islice(groups, max(AHEAD, 4 * threads))))
    for future in completed:
        group = running.pop(future)
        try:
            yield future.result()
        except KilledWorker as error:
            if len(group) > 1:
                completed.update([submit([source]) for source in group])
                continue
            lost = error.allowed_failures + 1
            reason = f"{lost} workers were lost while they analyzed it, as when there is not enough memory."
            yield rows.unknown(group[0], how[0], FAILED, reason)
        except ModuleNotFoundError as error:
            raise UserError(f"the workers lack {error.name}: install the toolkit there, too.") from error
        except (CancelledError, OSError, TimeoutError) as error:
            raise UserError("the Dask scheduler is gone; run the same command again to go on.") from error
        completed.update([submit(group) for group in islice(groups, 1)])
