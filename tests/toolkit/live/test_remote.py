# SPDX-License-Identifier: GPL-2.0-only
"""The toolkit there is a real one, on this machine; in the place of ssh a shell runs what ssh would run."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import S, Trace, window, worker_stall
from tests.toolkit.live.test_following import Recorder
from toolkit.errors import UserError
from toolkit.live.following import View, feed
from toolkit.live.recent import Recent
from toolkit.live.remote import Address, parse, receive, send
from toolkit.live.segments import Room
from toolkit.trace.reader import TraceReader

ROOT = Path(__file__).parents[3]
DEFAULT = Path("/var/lib/rx-stall")


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script in the place of ssh; `$command` is what would run there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def program(name: str, text: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    def install(text: str) -> None:
        program("ssh", f'test "$1 $2" = "-T ssh://host" || exit 9\ncommand=$3\n{text}')

    program("toolkit", f'exec {sys.executable} -m toolkit "$@"')
    return install


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    (tmp_path / "kept").mkdir()
    running = Recorder(tmp_path / "kept", Room(16 * S, 64 << 20, 0))
    yield running
    running.kill()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://host", Address("ssh://host", DEFAULT)),
        ("ssh://host/", Address("ssh://host", DEFAULT)),
        ("ssh://me@host:2222/var/kept", Address("ssh://me@host:2222", Path("/var/kept"))),
        ("ssh://[::1]/a b", Address("ssh://[::1]", Path("/a b"))),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse(text, DEFAULT) == address


@pytest.mark.parametrize(
    "text", ["ssh://", "ssh:///var/kept", "ssh://me:secret@host", "ssh://[::1", "ssh://a?b"]
)
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(UserError, match=r"write ssh://HOST, or ssh://USER@HOST:PORT/DIR\.$"):
        parse(text, DEFAULT)


def test_a_recorder_is_followed_over_ssh(ssh: Callable[[str], None], recorder: Recorder) -> None:
    ssh('exec sh -c "$command"')
    recorder.second()
    views: list[View] = []

    def follow() -> None:
        readers = receive(Address("ssh://host", recorder.directory.parent), lambda: True)
        feed(readers, lambda meta, _: Recent(meta), views.append)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    for second in range(2, 7):
        recorder.second(*(worker_stall(second - 0.9, second - 0.1) if second == 4 else []))
        expected = second + (6 if second >= 4 else 0)
        while not views or views[0].progress.events != expected:
            assert time.monotonic() < deadline and thread.is_alive()
            time.sleep(0.001)
    # It has no end: the batch that it was writing is torn.
    segment = sorted(recorder.directory.iterdir())[-1]
    with segment.open("ab") as file:
        file.write(segment.read_bytes()[-300:-20])
    recorder.kill()
    thread.join(60)
    assert not thread.is_alive()
    (view,) = views
    assert view.ended and view.missing_ns == 0 and view.live.stalls == 1


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (
            "echo 'a warning' >&2; echo 'ssh: connect to host host: No route to host' >&2; exit 255",
            "ssh://host: ssh: connect to host host: No route to host.",
        ),
        ("exit 3", "ssh://host: ssh ended with status 3."),
        (
            "exec sh -c 'no-such-toolkit'",
            "ssh://host has no toolkit; install it there, for the PATH of every shell.",
        ),
        ("echo Welcome to this machine!", "ssh://host sends something else than a trace: a shell that"),
        ('exec sh -c "$command"', "ssh://host: no recorder puts its traces into /no where; start one"),
    ],
)
def test_what_fails_there_is_one_sentence(ssh: Callable[[str], None], there: str, sentence: str) -> None:
    ssh(there)
    with pytest.raises(UserError) as error:
        next(receive(Address("ssh://host", Path("/no where")), lambda: True))
    assert str(error.value).startswith(sentence)


def test_without_ssh_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"^ssh is not installed; install the distribution's openssh-client\.$"
    ):
        next(receive(Address("ssh://host", DEFAULT), lambda: True))


def test_a_connection_that_breaks_is_one_sentence(ssh: Callable[[str], None], make_trace: Trace) -> None:
    trace = make_trace([window(1)], [window(2)])
    ssh(f"head -c {trace.stat().st_size - 100} {trace}; echo 'Connection reset by peer' >&2; exit 255")
    readers = receive(Address("ssh://host", DEFAULT), lambda: True)
    assert sum(len(columns["ts"]) for columns, _ in next(readers)) == 2
    with pytest.raises(UserError, match=r"^ssh://host: Connection reset by peer\.$"):
        next(readers)


def test_ssh_ends_with_the_screen(ssh: Callable[[str], None], make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1)])
    ssh(f"echo $$ >{tmp_path}/pid; head -c {trace.stat().st_size - 100} {trace}; exec sleep 600")
    on = [True]
    readers = receive(Address("ssh://host", DEFAULT), lambda: on[0])
    batches = iter(next(readers))
    next(batches)
    on[0] = False
    assert len(list(batches)) <= 1 and list(readers) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_sending_ends_when_nobody_reads(recorder: Recorder) -> None:
    recorder.second()
    reads, writes = os.pipe()
    thread = threading.Thread(target=send, args=(recorder.directory.parent, writes), daemon=True)
    thread.start()
    with os.fdopen(reads, "rb") as there:
        batches = iter(TraceReader("there", there))
        assert [len(next(batches).columns["ts"]) for _ in range(2)] == [0, 1]
    # The recorder writes nothing more, and goes on.
    thread.join(60)
    os.close(writes)
    assert not thread.is_alive()
