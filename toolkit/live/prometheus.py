# SPDX-License-Identifier: GPL-2.0-only
"""The queues of a running trace in the text format of Prometheus: as a file for node_exporter, or by HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from toolkit.stalls import slow

if TYPE_CHECKING:
    from toolkit.capture.drain import Progress
    from toolkit.live.queues import Live

_LABELS = ("device", "queue", "driver")


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
        told = self._told()
        for (ifindex, number), queue in list(self._live.queues.items()):
            labels = (names.get(ifindex, f"if{ifindex}"), str(number), queue.driver)
            stalls.add_metric(labels, queue.stalls)
            seconds.add_metric(labels, queue.stalled_ns(now) / 1e9)
            failed.add_metric(labels, queue.failed)
            for state in told if self._live.has_napi(queue.driver) else ():
                name = slow.STATES[state]
                silences.add_metric((*labels, name), int(queue.silences[state]))
                silent.add_metric((*labels, name), queue.silent[state] / 1e9)
        yield from (stalls, seconds, failed, silences, silent)
        yield CounterMetricFamily(
            "rx_stall_events_dropped", "Events that the trace lacks.", self._progress.dropped
        )

    def _told(self) -> list[int]:
        """Return the places in STATES that are counted: what a missing hook would have told is not known."""
        missing = {entry.hook.program for entry in self._progress.missing}
        return [
            place
            for place, name in enumerate(slow.STATES)
            if name != slow.UNPOLLED or "rxt_schedule" not in missing
        ]


def write(progress: Progress, live: Live, file: Path) -> None:
    """Replace a file by the counters, in one step.

    :raises OSError: if the file cannot be written.
    """
    write_to_textfile(str(file), _registry(progress, live))


def serve(progress: Progress, live: Live, host: str, port: int) -> None:
    """Answer HTTP with the counters as they are then, in a thread of its own, until this process ends.

    :raises OSError: if the address is taken, or is none of this machine.
    """
    start_http_server(port, host, _registry(progress, live))


def _registry(progress: Progress, live: Live) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Queues(progress, live))
    return registry
