# SPDX-License-Identifier: GPL-2.0-only
"""The queues of a running trace in the text format of Prometheus: as a file for node_exporter, or by HTTP."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from toolkit.stalls import slow

if TYPE_CHECKING:
    from toolkit.capture.drain import Progress
    from toolkit.live.queues import Live
    from toolkit.live.recorder import Recorder
    from toolkit.live.segments import Segments

_LABELS = ("device", "queue", "driver")


class Health(NamedTuple):
    """What is told of a recorder's own health; `segments` is None where nothing is kept on disk."""

    recorder: Recorder
    segments: Segments | None


class _Queues(Collector):
    """The counters that are written: one set for each queue, since the trace began."""

    def __init__(self, progress: Progress, live: Live) -> None:
        self._progress, self._live = progress, live

    def collect(self) -> Iterator[CounterMetricFamily]:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        names = self._progress.names
        stalls = CounterMetricFamily("rx_stall_stalls", "Stalls that began.", labels=_LABELS)
        seconds = CounterMetricFamily(
            "rx_stall_stalled_seconds", "Time in stalls, also in one that has not ended.", labels=_LABELS
        )
        failed = CounterMetricFamily(
            "rx_stall_refills_failed", "Refills that were not complete.", labels=_LABELS
        )
        labels_of_silences = (*_LABELS, "state")
        silences = CounterMetricFamily(
            "rx_stall_silences",
            "Times outside of stalls in which no frame was taken, of 10 ms or longer.",
            labels=labels_of_silences,
        )
        silent = CounterMetricFamily(
            "rx_stall_silent_seconds", "Time in silences outside of stalls.", labels=labels_of_silences
        )
        states = CounterMetricFamily(
            "rx_stall_states", "Times that a state of stalls began.", labels=labels_of_silences
        )
        in_states = CounterMetricFamily(
            "rx_stall_state_seconds",
            "Time in a state of stalls; a queue may be in several at a time.",
            labels=labels_of_silences,
        )
        told = self._told()
        for (ifindex, number), queue in list(self._live.queues.items()):
            labels = (names.get(ifindex, f"if{ifindex}"), str(number), queue.driver)
            stalls.add_metric(labels, queue.stalls)
            seconds.add_metric(labels, queue.stalled_ns(now) / 1e9)
            failed.add_metric(labels, queue.failed)
            for state_name in self._states(queue.driver):
                states.add_metric((*labels, state_name), queue.begun.get(state_name, 0))
                in_states.add_metric((*labels, state_name), queue.state_ns(state_name, now) / 1e9)
            for state in told if self._live.has_napi(queue.driver) else ():
                name = slow.STATES[state]
                silences.add_metric((*labels, name), int(queue.silences[state]))
                silent.add_metric((*labels, name), queue.silent[state] / 1e9)
        yield from (stalls, seconds, states, in_states, failed, silences, silent)
        yield CounterMetricFamily("rx_stall_events", "Events that were traced.", self._progress.events)
        if self._progress.missed is not None:
            yield CounterMetricFamily(
                "rx_stall_probes_missed", "Calls of probes that the kernel skipped.", self._progress.missed
            )
        yield CounterMetricFamily(
            "rx_stall_events_dropped", "Events that the trace lacks.", self._progress.dropped
        )

    def _states(self, driver: str) -> list[str]:
        """Return the states of a driver, without those that only a missing hook would have told."""
        untold = {column for entry in self._progress.missing for column in entry.hook.tells}
        names = self._live.states_of(driver)
        return [name for name in names if f"{name.replace('-', '_')}_ns" not in untold]

    def _told(self) -> list[int]:
        """Return the places in STATES that are counted: what a missing hook would have told is not known."""
        missing = {entry.hook.program for entry in self._progress.missing}
        return [
            place
            for place, name in enumerate(slow.STATES)
            if name != slow.UNPOLLED or "rxt_schedule" not in missing
        ]


class _Recorder(Collector):
    """What a recorder tells of itself."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        recorder, segments = self._health
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield CounterMetricFamily(
            "rx_stall_traces_put_aside", "Traces that were put aside.", recorder.written
        )
        yield CounterMetricFamily(
            "rx_stall_traces_unwritten", "Traces that could not be put aside.", recorder.unwritten
        )
        if segments:
            yield CounterMetricFamily(
                "rx_stall_segments_lacking", "Events that the segments on disk lack.", segments.lacking
            )
            yield GaugeMetricFamily(
                "rx_stall_segments_well", "1 while the disk takes the segments, else 0.", segments.is_well
            )
        yield CounterMetricFamily(
            "rx_stall_recorder_cpu_seconds", "Time of a CPU that the recorder took.", time.process_time()
        )
        yield GaugeMetricFamily(
            "rx_stall_recorder_resident_bytes",
            "Memory of the recorder.",
            pages * os.sysconf("SC_PAGE_SIZE"),
        )


def write(progress: Progress, live: Live, file: Path, health: Health | None = None) -> None:
    """Replace a file by the counters, in one step.

    :param health: what is to be told of a recorder, if it is one that traces.
    :raises OSError: if the file cannot be written.
    """
    write_to_textfile(str(file), _registry(progress, live, health))


def serve(progress: Progress, live: Live, host: str, port: int, health: Health | None = None) -> None:
    """Answer HTTP with the counters as they are then, in a thread of its own, until this process ends.

    :param health: as in write.
    :raises OSError: if the address is taken, or is none of this machine.
    """
    start_http_server(port, host, _registry(progress, live, health))


def _registry(progress: Progress, live: Live, health: Health | None) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Queues(progress, live))
    if health:
        registry.register(_Recorder(health))
    return registry
