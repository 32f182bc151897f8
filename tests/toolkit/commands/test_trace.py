# SPDX-License-Identifier: GPL-2.0-only
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import META, Run, worker_stall
from toolkit.capture import session, start
from toolkit.capture.drain import Progress
from toolkit.commands.trace import limits
from toolkit.trace.schema import Events


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> Progress:
    """What a trace had when it ended; recording one is tested on machines."""
    found = Progress(events=6, devices=META["devices"], reason="duration")

    def run(
        _start: object,
        _sink: object,
        observe: Callable[[Events], object],
        *_: object,
        show_interval: float,
    ) -> Progress:
        assert show_interval > 0
        observe(np.concatenate(worker_stall(2, 6)))
        return found

    monkeypatch.setattr(start, "begin", lambda _: SimpleNamespace(devices=META["devices"]))
    monkeypatch.setattr(session, "run", run)
    return found


@pytest.mark.usefixtures("progress")
def test_json_of_a_trace_is_what_was_counted(run: Run) -> None:
    code, out, _ = run("trace", "virtio_net", "-o", "a.rxt", "--json")
    assert code == 0
    found = json.loads(out)
    queues = found.pop("queues")
    assert found == {
        "trace": "a.rxt",
        "files": [],  # nothing was recorded here
        "reason": "duration",
        "events": 6,
        "dropped": 0,
        "hooks_missing": [],
    }
    assert [(each["device"], each["queue"], each["stalled_ns"]) for each in queues] == [
        ("eth1", 0, 4 * 10**9),
        ("eth1", 1, 0),
    ]


@pytest.mark.usefixtures("progress")
def test_the_last_metrics_are_of_the_end(run: Run, tmp_path: Path) -> None:
    code, _, err = run("trace", "virtio_net", "-o", "a.rxt", "--metrics", tmp_path / "rx.prom")
    assert code == 0
    assert "a.rxt: 6 events, 1 stalls begun, 0 silences, 0 dropped; ended by duration." in err
    assert (
        'rx_stall_stalled_seconds_total{device="eth1",driver="virtio_net",queue="0"} 4.0'
        in (tmp_path / "rx.prom").read_text()
    )


def test_what_follows_two_dashes_is_run_and_its_status_passed_on(
    run: Run, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[start.Options] = []

    def begin(options: start.Options) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(devices=META["devices"])

    monkeypatch.setattr(start, "begin", begin)
    progress.status = 7
    words = ("make", "-j2", "--", "-d", "eth9")
    code, _, err = run("trace", "virtio_net", "-d", "eth1", "-o", "a.rxt", "--", *words)
    assert code == 7
    assert "Next: toolkit analyze" in err
    assert (asked[0].devices, asked[0].command) == (["eth1"], list(words))
    assert [driver.name for driver in asked[0].drivers] == ["virtio_net"]


@pytest.mark.usefixtures("progress")
def test_two_dashes_without_a_command_are_a_mistake(run: Run) -> None:
    code, _, err = run("trace", "virtio_net", "-o", "a.rxt", "--")
    assert code == 1
    assert "-- is followed by nothing" in err


def test_what_cannot_be_told_of_a_nic_without_probes_of_its_own_is_said() -> None:
    devices = [{"name": "eth0", "driver": "generic"}, {"name": "eth1", "driver": "virtio_net"}]
    assert limits(devices) == (
        "eth0: told by polls and failed allocations; what is posted and what each refill did is not known, "
        "since the driver has no probes of its own."
    )
    assert limits(devices[1:]) == ""
