# SPDX-License-Identifier: GPL-2.0-only
"""What `toolkit watch` refuses, and a recorder on its screen; probes are in tests/machine/test_watch.py."""

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import Run, S, worker_stall
from tests.machine.harness.terminal import is_clean, on_terminal
from tests.toolkit.live.test_following import Recorder
from toolkit import extras
from toolkit.live.segments import Room


def test_watch_needs_a_terminal(run: Run) -> None:
    code, _, err = run("watch", "virtio_net")
    assert code == 1
    assert "needs a terminal" in err


def test_watch_without_textual_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    code, _, err = run("watch", "virtio_net")
    assert code == 1
    assert "pip install '.[watch]'" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["virtio_net", "--recorder"], "a recorder has its own drivers and devices"),
        (["-d", "eth1", "--recorder"], "a recorder has its own drivers and devices"),
        (["-d", "eth1", "ssh://host"], "a recorder has its own drivers and devices"),
        (["virtio_net", "ssh://host"], "ssh://host names a recorder: give no driver"),
        (["ssh://host", "ssh://other"], "ssh://host names a recorder: give no driver"),
        (["ssh://host", "--recorder"], "ssh://host names a recorder: give no driver, other recorder"),
        (["ssh://host", "-o", "/var/kept"], "ssh://host names a recorder: give no driver"),
        (["ssh://"], "ssh://: write ssh://HOST, or ssh://USER@HOST:PORT/DIR."),
        (["-o", "/var/kept"], "--directory is about a recorder: add --recorder."),
        (["--stream"], "--stream is about a recorder: add --recorder."),
    ],
)
def test_two_things_to_watch_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal())
    monkeypatch.setattr(sys, "stdout", _Terminal())
    code, _, said = run("watch", *words)
    assert code == 1
    assert sentence in " ".join(said.split())


@pytest.mark.long
def test_a_recorder_is_seen_until_somebody_quits(tmp_path: Path) -> None:
    running = Recorder(tmp_path, Room(16 * S, 64 << 20, 0))
    running.second(*worker_stall(0.2, 1.4)[:-2])
    words = [sys.executable, "-m", "toolkit", "watch", "--recorder", "-o", str(tmp_path)]
    with on_terminal(words) as shown:
        shown.resize(120, 24)
        shown.wait(lambda text: "is deaf: starved" in text and "recorder of" in " ".join(text.split()))
        running.second(*worker_stall(0.2, 1.4)[-2:])
        shown.wait(lambda text: "receives again after 1.200 s" in text)
        running.end()
        # The name of the directory may take the line's whole width.
        shown.wait(lambda text: "it has ended" in " ".join(text.split()))
        shown.press("q")
        counted = re.compile(r"8 events, 1 stalls, \d+ silences, 0 dropped")
        shown.wait(lambda text: counted.search(" ".join(text.split())) is not None)
        assert shown.process.wait(60) == 0
        assert is_clean(shown)


@pytest.mark.long
def test_without_a_recorder_it_ends_with_one_sentence(tmp_path: Path) -> None:
    with on_terminal([sys.executable, "-m", "toolkit", "watch", "--recorder", "-o", str(tmp_path)]) as shown:
        shown.wait(lambda text: "no recorder puts its traces into" in " ".join(text.split()))
        assert shown.process.wait(60) == 1
        assert "Traceback" not in shown.text()


class _Terminal:
    def isatty(self) -> bool:
        return True
