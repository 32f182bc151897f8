# SPDX-License-Identifier: GPL-2.0-only
"""The Dask cluster that traces are analyzed on: of processes of this machine, or one that is there."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import distributed
from distributed.utils import get_mp_context

from toolkit.errors import UserError

_LOCAL = {
    # A worker begins as a copy of a process that has the modules already.
    "distributed.worker.multiprocessing-method": "forkserver",
    # A worker holds no second task: if it is killed, only the task that it ran is under suspicion.
    "distributed.scheduler.worker-saturation": 1.0,
    # The scheduler has an HTTP server in any case; this one shows nothing.
    "distributed.scheduler.http.routes": [],
    # Nobody looks at what Dask tells of itself, for which it wakes up every 10 to 500 ms.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
_PRELOAD = ["distributed", "toolkit.fleet.worker"]


@contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator[distributed.Client]:
    """Give a client of a cluster.

    :param scheduler: the address of one that is there; None for processes of this machine.
    :param workers: how many of these; None for as many as there are CPUs.
    :raises UserError: if there is no scheduler at the address.
    """
    with _client_of(scheduler) if scheduler else _local(workers) as client:
        yield client


@contextmanager
def _client_of(scheduler: str) -> Iterator[distributed.Client]:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(scheduler)
    except (OSError, ValueError) as error:
        words = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"cannot reach a Dask scheduler at {scheduler}: {words}.") from error
    with client:
        yield client


@contextmanager
def _local(workers: int | None) -> Iterator[distributed.Client]:
    """Start processes on this machine, and end them.

    Only this user can give them work: their connections are encrypted, with a key that exists for this run.
    """
    before = signal.getsignal(signal.SIGINT)
    with dask.config.set(_LOCAL):
        get_mp_context().set_forkserver_preload(_PRELOAD)
        options: dict[str, Any] = {
            "n_workers": workers,
            "threads_per_worker": 1,
            "security": True,
            "dashboard_address": None,
            "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
            "silence_logs": logging.CRITICAL + 1,
        }
        # At Ctrl-C the terminal signals the workers, too; what they are at is still wanted.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            cluster = distributed.LocalCluster(**options)
        finally:
            signal.signal(signal.SIGINT, before)
        with cluster, distributed.Client(cluster) as client:
            yield client
