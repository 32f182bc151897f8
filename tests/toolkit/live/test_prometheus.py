# SPDX-License-Identifier: GPL-2.0-only
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import META, Run, worker_stall
from toolkit.capture.drain import Progress
from toolkit.drivers import load
from toolkit.live import prometheus
from toolkit.live.queues import Live


@pytest.fixture
def counted() -> tuple[Progress, Live]:
    """A trace that runs: one stall that ended, one that did not."""
    live = Live([load("virtio_net")], META["devices"])
    live.take(np.concatenate([*worker_stall(2, 6), *worker_stall(8, 9, queue=1)[:-1]]))
    return Progress(dropped=7, devices=META["devices"]), live


def _samples(file: Path) -> dict[tuple[str, str], float]:
    """:return: (name, queue) -> value; as Prometheus reads it."""
    return {
        (sample.name, sample.labels.get("queue", "")): sample.value
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }


def test_metrics_file_is_what_prometheus_reads(
    counted: tuple[Progress, Live], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: 1010 * 10**9)
    prometheus.write(*counted, tmp_path / "rx.prom")
    assert _samples(tmp_path / "rx.prom") == {
        ("rx_stall_stalls_total", "0"): 1,
        ("rx_stall_stalls_total", "1"): 1,
        ("rx_stall_stalled_seconds_total", "0"): 4,
        ("rx_stall_stalled_seconds_total", "1"): 2,
        ("rx_stall_refills_failed_total", "0"): 1,
        ("rx_stall_refills_failed_total", "1"): 1,
        ("rx_stall_events_dropped_total", ""): 7,
    }
    assert 'device="eth1",driver="virtio_net",queue="0"' in (tmp_path / "rx.prom").read_text()


def test_a_reader_sees_the_old_file_or_the_new(counted: tuple[Progress, Live], tmp_path: Path) -> None:
    file = tmp_path / "rx.prom"
    prometheus.write(*counted, file)
    with file.open() as opened:
        prometheus.write(*counted, file)
        assert opened.read().endswith("7.0\n")
    assert [path.name for path in tmp_path.iterdir()] == ["rx.prom"]


@pytest.mark.parametrize(
    ("name", "there", "sentence"),
    [
        ("rx.txt", None, "must end in .prom"),
        ("none/rx.prom", None, "there is no directory"),
        ("rx.prom", "precious", "holds something else"),
    ],
)
def test_unusable_metrics_file_is_refused(
    run: Run, tmp_path: Path, name: str, there: str | None, sentence: str
) -> None:
    file = tmp_path / name
    if there:
        file.write_text(there)
    code, _, err = run("trace", "virtio_net", "--metrics", file)
    assert code == 1
    assert sentence in err
    assert not there or file.read_text() == there
