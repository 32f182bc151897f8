# SPDX-License-Identifier: GPL-2.0-only
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Run
from toolkit.commands import record
from toolkit.quantities import amount


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--when", "stall"], "'stall' is no condition: write 'stall > 1s'"),
        (["--listen", "9435"], "--listen 9435: write HOST:PORT, such as 127.0.0.1:9435."),
        (["--listen", "127.0.0.1:99999"], "--listen 127.0.0.1:99999: write HOST:PORT"),
        (["--metrics", "counters.txt"], "counters.txt must end in .prom"),
        (["--save", "-o", "/nowhere"], "no recorder puts its traces into /nowhere; start one"),
    ],
)
def test_mistakes_are_said_before_anything_begins(run: Run, words: list[str], sentence: str) -> None:
    code, _, said = run("record", *words)
    assert code == 1
    assert sentence in " ".join(said.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--before", "4x"], "'4x' is not a time such as 1s or 200ms."),
        (["--keep", "4x"], "'4x' is neither a time such as 10m nor a size such as 256M."),
    ],
)
def test_an_amount_without_a_known_unit_is_a_wrong_option(run: Run, words: list[str], sentence: str) -> None:
    code, _, said = run("record", *words)
    assert code == 2
    assert sentence in " ".join(said.split())


@pytest.mark.parametrize(
    ("amounts", "kept"),
    [
        ([], (600 * 10**9, None)),
        (["1m", "1G"], (60 * 10**9, 1 << 30)),
        (["64M"], (None, 64 << 20)),
        (["20M", "64M"], (None, 64 << 20)),
    ],
)
def test_time_and_size_of_the_segments(
    amounts: list[str], kept: tuple[int | None, int | None], tmp_path: Path
) -> None:
    room = record._room(tmp_path, [amount(text) for text in amounts], 5.0)
    assert room and (room.ns, room.sync_s) == (kept[0], 5.0)
    assert kept[1] is None or room.bytes == kept[1]


@pytest.mark.parametrize("nothing", ["0", "0M"])
def test_nothing_is_kept_on_disk_if_asked_for(nothing: str, tmp_path: Path) -> None:
    assert record._room(tmp_path, [amount(nothing)], 5.0) is None
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ('when = ["stall > 2s"]\nkeep = ["1h", "1G"]\nfiles = 9', 0, "record.toml: nothing is wrong."),
        ('when = "stall > 2s"\ndriver = "virtio_net"', 0, "record.toml: nothing is wrong."),
        ('when = ["stalls"]', 1, "'stalls' is no condition"),
        ('keep = "4x"', 2, "'4x' is neither a time such as 10m nor a size such as 256M."),
        ("files = 0", 2, "for '--files': "),
        ('listen = "9435"', 1, "--listen 9435: write HOST:PORT"),
        ("file = 1", 1, "there is no option 'file'; there is: after, again, before,"),
        ("save = true", 1, "there is no option 'save'"),
    ],
)
def test_a_configuration_is_checked(run: Run, tmp_path: Path, text: str, code: int, sentence: str) -> None:
    (tmp_path / "record.toml").write_text(text)
    found, out, said = run("record", "--config", str(tmp_path / "record.toml"), "--check-config")
    assert sentence in " ".join((out + said).split())
    assert found == code


def test_the_command_line_goes_before_the_configuration(run: Run, tmp_path: Path) -> None:
    (tmp_path / "record.toml").write_text('when = ["stalls"]')
    words = ["--config", str(tmp_path / "record.toml"), "--check-config", "--when", "stall > 1s"]
    assert run("record", *words)[0] == 0


@pytest.mark.parametrize("ignored", [True, False])
def test_a_recorder_under_nohup_survives_its_terminal(ignored: bool) -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        again = threading.Event()
        again.set()
        stop, asked = record._signals(again)
        signal.raise_signal(signal.SIGHUP)
        assert stop.is_set() != ignored and again.is_set() == ignored
        signal.raise_signal(signal.SIGUSR1)
        assert asked.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set() and not again.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_log_on_a_full_disk_does_not_end_the_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115
    monkeypatch.setattr(sys, "stderr", full)
    record._say("/var/lib/rx-stall/20261127-061523-stall.rxt: stall > 1s")
    with pytest.raises(OSError, match="No space left"):
        full.flush()
    with suppress(OSError):
        full.close()
