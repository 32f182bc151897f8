# SPDX-License-Identifier: GPL-2.0-only
"""Debian's Prometheus and alertmanager on this host, which listen on loopback; and what their APIs say."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.promtool import program
from vm.guest import ssh
from vm.image.debian import PRIVATE, own_mounts

#: Seconds between two scrapes, and between two evaluations of the rules.
INTERVAL = 5


@dataclass(frozen=True)
class Servers:
    """The ports at which Prometheus and alertmanager answer."""

    prometheus: int
    alertmanager: int

    def query(self, expression: str) -> dict[str, float]:
        """Ask Prometheus for an expression now: job of a series -> its value; of several the last."""
        words = urllib.parse.urlencode({"query": expression})
        found = _get(f"http://127.0.0.1:{self.prometheus}/api/v1/query?{words}")["data"]["result"]
        return {each["metric"].get("job", ""): float(each["value"][1]) for each in found}

    def firing(self) -> dict[str, dict[str, str]]:
        """Ask Prometheus which alerts fire: name -> labels."""
        alerts = _get(f"http://127.0.0.1:{self.prometheus}/api/v1/alerts")["data"]["alerts"]
        return {each["labels"]["alertname"]: each["labels"] for each in alerts if each["state"] == "firing"}

    def notified(self) -> dict[str, dict[str, str]]:
        """Ask alertmanager which alerts it was told of that are not resolved: name -> labels."""
        alerts = _get(f"http://127.0.0.1:{self.alertmanager}/api/v2/alerts?active=true")
        return {each["labels"]["alertname"]: each["labels"] for each in alerts}


@contextmanager
def running(directory: Path, rules: Path, jobs: Mapping[str, int]) -> Iterator[Servers]:
    """Run both for the length of the block.

    :param directory: for what they keep and say.
    :param rules: of the alerts.
    :param jobs: name of a job -> the port of loopback that it scrapes.
    """
    servers = Servers(ssh.free_port(), ssh.free_port())
    config = {
        "global": {"scrape_interval": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"},
        "rule_files": [str(rules)],
        "alerting": {"alertmanagers": [_targets(servers.alertmanager)]},
        "scrape_configs": [{"job_name": name, **_targets(port)} for name, port in jobs.items()],
    }
    nobody = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    commands = {
        "alertmanager": (
            program("prometheus-alertmanager"),
            nobody,
            servers.alertmanager,
            ["--storage.path", "--cluster.listen-address="],
        ),
        "prometheus": (program("prometheus"), config, servers.prometheus, ["--storage.tsdb.path"]),
    }
    with ExitStack() as stack:
        for name, (binary, settings, port, options) in commands.items():
            file, kept = directory / f"{name}.yaml", directory / f"{name}.kept"
            file.write_text(yaml.safe_dump(settings))
            kept.mkdir()
            log = stack.enter_context((directory / f"{name}.log").open("w"))
            words = [*_unpacked(binary), f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}"]
            words += [f"{options[0]}={kept}", *options[1:]]
            process = stack.enter_context(subprocess.Popen(words, stdout=log, stderr=log))
            stack.callback(process.terminate)
            wait(lambda port=port: _is_ready(port), 60, f"{name} to be ready")  # type: ignore[misc]
        yield servers


def wait(seen: Callable[[], Any], seconds: float, what: str) -> float:
    """Wait until something is so; return how long that took [s]."""
    began = time.monotonic()
    while not seen():
        assert time.monotonic() < began + seconds, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(1)
    return time.monotonic() - began


def _unpacked(binary: Path) -> list[str]:
    """Return the words that start a program that is not installed, as if what it reads in /usr/share were."""
    mount = f'{PRIVATE}mount -t overlay overlay -o "lowerdir=$0:/usr/share" /usr/share && exec "$@"'
    return [*own_mounts(), "sh", "-c", mount, str(binary.parents[2] / "usr/share"), str(binary)]


def _targets(port: int) -> dict[str, Any]:
    return {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)
