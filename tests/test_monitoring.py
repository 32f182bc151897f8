# SPDX-License-Identifier: GPL-2.0-only
"""The alert rules and the dashboard in docs/monitoring name counters that a recorder has, and work."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import META
from tests.promtool import promtool
from toolkit.capture.drain import Progress
from toolkit.drivers import load
from toolkit.live import prometheus
from toolkit.live.queues import Live
from toolkit.live.recent import Recent
from toolkit.live.recorder import Recorder, Rules
from toolkit.live.segments import Room, Segments
from toolkit.stalls import slow

MONITORING = Path(__file__).parent.parent / "docs" / "monitoring"
COUNTER = re.compile(r"\brx_stall_\w+")


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Return a file of all counters that there are."""
    file = tmp_path / "rx_stall.prom"
    (tmp_path / "ring").mkdir()
    recorder = Recorder(Rules([], 0, 0, 1, 1), tmp_path, print)
    with Segments(tmp_path / "ring", [], Room(None, 1 << 24, 0), META, Recent(META), print) as segments:
        live = Live([load("virtio_net")], META["devices"])
        prometheus.write(Progress(missed=0), live, file, prometheus.Health(recorder, segments))
    return file


def _counters(file: Path) -> set[str]:
    """Return the names of the counters in a file that was exported."""
    return set(re.findall(r"^(rx_stall_\w+)", file.read_text(), re.MULTILINE))


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard() -> Any:
    return json.loads((MONITORING / "dashboard.json").read_text())


def _queries(node: Any) -> Iterator[str]:
    """Yield the queries of a dashboard, wherever they stand in it."""
    if isinstance(node, list):
        for entry in node:
            yield from _queries(entry)
    elif isinstance(node, dict):
        if "expr" in node:
            yield node["expr"]
        for entry in node.values():
            yield from _queries(entry)


def _run_promtool(*words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool(), *words], input=text, capture_output=True, text=True)


def test_rules_name_counters_that_are_exported(exported: Path) -> None:
    named = {name for rule in _rules() for name in COUNTER.findall(rule["expr"])}
    assert len(named) == 6
    assert named <= _counters(exported)


def test_dashboard_names_counters_that_are_exported(exported: Path) -> None:
    assert set(COUNTER.findall(json.dumps(_dashboard()))) == _counters(exported)


def test_each_alert_is_explained_and_tested() -> None:
    alerts = {rule["alert"] for rule in _rules()}
    page = (MONITORING / "README.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == alerts
    cases = yaml.safe_load((MONITORING / "tests.yaml").read_text())["tests"]
    fired = [case for test in cases for case in test["alert_rule_test"] if case["exp_alerts"]]
    assert {case["alertname"] for case in fired} == alerts


def test_number_of_series_is_the_one_on_the_page(exported: Path) -> None:
    lines = [line for line in exported.read_text().splitlines() if 'queue="0"' in line]
    assert len(lines) == 3 + 2 * len(slow.STATES) + 2 * len(load("virtio_net").states) == 17
    assert f"{512 * len(lines):,} series for 512 queues" in (MONITORING / "README.md").read_text()
    others = [line for line in exported.read_text().splitlines() if "queue=" not in line and line[0] != "#"]
    assert len(others) == 9


@pytest.mark.long
def test_rules_fire_and_resolve() -> None:
    done = _run_promtool("test", "rules", MONITORING / "tests.yaml")
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.long
def test_counters_are_named_as_prometheus_names_them(exported: Path) -> None:
    done = _run_promtool("check", "metrics", text=exported.read_text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.long
def test_queries_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    queries = list(dict.fromkeys(_queries(_dashboard())))
    assert len(queries) > 10
    # Grafana puts times in the place of its variables before Prometheus reads a query.
    times = [re.sub(r"\$__(range|rate_interval)", "5m", query) for query in queries]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(times)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = _run_promtool("check", "rules", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stderr
    assert f"{len(queries)} rules found" in done.stdout
