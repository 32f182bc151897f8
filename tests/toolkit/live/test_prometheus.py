# SPDX-License-Identifier: GPL-2.0-only
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import META, Run, S, window, worker_stall
from toolkit.capture.drain import Progress
from toolkit.capture.program import Attached
from toolkit.drivers import core, load
from toolkit.live import prometheus
from toolkit.live.queues import Live
from toolkit.live.recent import Recent
from toolkit.live.recorder import Recorder, Rules
from toolkit.live.segments import Room, Segments


@pytest.fixture
def counted() -> tuple[Progress, Live]:
    """A trace that runs: one stall that ended, one that did not."""
    live = Live([load("virtio_net")], META["devices"])
    slow = window(1.5, dur=S, polls=1)
    live.take(np.concatenate([slow, *worker_stall(2, 6), *worker_stall(8, 9, queue=1)[:-1]]))
    return Progress(events=42, dropped=7, devices=META["devices"]), live


def _samples(file: Path) -> dict[tuple[str, str], float]:
    """Return (name, queue and state) -> value, as Prometheus reads the file."""
    return {
        (sample.name, " ".join(sample.labels[key] for key in ("queue", "state") if key in sample.labels)): (
            sample.value
        )
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
        ("rx_stall_states_total", "0 starved"): 1,
        ("rx_stall_states_total", "0 napi-off"): 1,
        ("rx_stall_states_total", "0 unscheduled"): 0,
        ("rx_stall_states_total", "0 spinning"): 0,
        ("rx_stall_states_total", "1 starved"): 1,
        ("rx_stall_states_total", "1 napi-off"): 1,
        ("rx_stall_states_total", "1 unscheduled"): 0,
        ("rx_stall_states_total", "1 spinning"): 0,
        ("rx_stall_state_seconds_total", "0 starved"): 4,
        ("rx_stall_state_seconds_total", "0 napi-off"): 3.999,
        ("rx_stall_state_seconds_total", "0 unscheduled"): 0,
        ("rx_stall_state_seconds_total", "0 spinning"): 0,
        ("rx_stall_state_seconds_total", "1 starved"): 1,
        ("rx_stall_state_seconds_total", "1 napi-off"): 1.999,
        ("rx_stall_state_seconds_total", "1 unscheduled"): 0,
        ("rx_stall_state_seconds_total", "1 spinning"): 0,
        ("rx_stall_events_total", ""): 42,
        ("rx_stall_events_dropped_total", ""): 7,
        ("rx_stall_silences_total", "0 slow-refill"): 0,
        ("rx_stall_silences_total", "0 slow-poll"): 1,
        ("rx_stall_silences_total", "0 unpolled"): 0,
        ("rx_stall_silences_total", "1 slow-refill"): 0,
        ("rx_stall_silences_total", "1 slow-poll"): 0,
        ("rx_stall_silences_total", "1 unpolled"): 0,
        ("rx_stall_silent_seconds_total", "0 slow-refill"): 0,
        ("rx_stall_silent_seconds_total", "0 slow-poll"): 1,
        ("rx_stall_silent_seconds_total", "0 unpolled"): 0,
        ("rx_stall_silent_seconds_total", "1 slow-refill"): 0,
        ("rx_stall_silent_seconds_total", "1 slow-poll"): 0,
        ("rx_stall_silent_seconds_total", "1 unpolled"): 0,
    }
    assert 'device="eth1",driver="virtio_net",queue="0"' in (tmp_path / "rx.prom").read_text()


def test_missed_calls_of_probes_are_told_where_the_kernel_counts_them(
    counted: tuple[Progress, Live], tmp_path: Path
) -> None:
    progress, live = counted
    missed = ("rx_stall_probes_missed_total", "")
    prometheus.write(progress, live, tmp_path / "rx.prom")
    assert missed not in _samples(tmp_path / "rx.prom")
    progress.missed = 3
    prometheus.write(progress, live, tmp_path / "rx.prom")
    assert _samples(tmp_path / "rx.prom")[missed] == 3


def test_a_recorder_tells_its_own_health(counted: tuple[Progress, Live], tmp_path: Path) -> None:
    progress, live = counted
    recorder = Recorder(Rules([], 0, 0, 1, 1), tmp_path, print, written=4, unwritten=1)
    (tmp_path / "ring").mkdir()
    with Segments(tmp_path / "ring", [], Room(None, 1 << 24, 0), META, Recent(META), print) as segments:
        segments.lacking = 5
        prometheus.write(progress, live, tmp_path / "rx.prom", prometheus.Health(recorder, segments))
        found = {name: value for (name, _), value in _samples(tmp_path / "rx.prom").items()}
    assert (found["rx_stall_traces_put_aside_total"], found["rx_stall_traces_unwritten_total"]) == (4, 1)
    assert (found["rx_stall_segments_lacking_total"], found["rx_stall_segments_well"]) == (5, 1)
    assert found["rx_stall_recorder_cpu_seconds_total"] > 0
    assert 10e6 < found["rx_stall_recorder_resident_bytes"] < 10e9
    prometheus.write(progress, live, tmp_path / "rx.prom", prometheus.Health(recorder, None))
    assert not any("segments" in name for name, _ in _samples(tmp_path / "rx.prom"))


def test_what_a_missing_hook_would_have_told_is_not_counted(
    counted: tuple[Progress, Live], tmp_path: Path
) -> None:
    progress, live = counted
    (hook,) = (hook for hook in core()[0] if hook.program == "rxt_schedule")
    (clock,) = (hook for hook in load("virtio_net").hooks if "unscheduled_ns" in hook.tells)
    progress.missing = [Attached(each, None, "not in this kernel") for each in (hook, clock)]
    prometheus.write(progress, live, tmp_path / "rx.prom")
    samples = _samples(tmp_path / "rx.prom")
    silences = {labels.partition(" ")[2] for name, labels in samples if "silen" in name}
    assert silences == {"slow-refill", "slow-poll"}
    states = {labels.partition(" ")[2] for name, labels in samples if "state" in name}
    assert states == {"starved", "napi-off", "spinning"}


def test_a_driver_without_napi_has_no_counters_of_silences(tmp_path: Path) -> None:
    devices = [META["devices"][0] | {"driver": "xen_netback"}]
    prometheus.write(Progress(), Live([load("xen_netback")], devices), tmp_path / "rx.prom")
    found = {name for name, _ in _samples(tmp_path / "rx.prom")}
    assert "rx_stall_stalls_total" in found
    assert not any("silen" in name for name in found)


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
