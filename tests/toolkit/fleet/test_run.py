# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import distributed
import pytest
from moto.server import ThreadedMotoServer

from tests.conftest import DATA, META, MS, Trace, window, worker_stall
from toolkit.errors import UserError
from toolkit.fleet import dataset, rows, rules, run, sources
from toolkit.fleet.dataset import FAILED, SCHEMAS, UNFETCHED, UNREADABLE, WHOLE
from toolkit.stalls.thresholds import Thresholds

STORES = Path(__file__).parent / "stores"
ROOT = Path(__file__).parents[3]

Update = Callable[..., run.Progress]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster in this process."""
    with distributed.LocalCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def update(scheduler: str, tmp_path: Path) -> Update:
    """Brings the dataset `fleet` up to date with what is in the directory `traces`."""
    (tmp_path / "traces").mkdir()

    def update(*places: object, **options: Any) -> run.Progress:
        names = list(map(str, places)) or [str(tmp_path / "traces")]
        return run.update(tmp_path / "fleet", names, **{"scheduler": scheduler} | options)

    return update


def _statuses(folder: Path) -> dict[str, str]:
    found = dataset.table(folder, "traces").to_pylist()
    assert len({row["place"] for row in found}) == len(found)
    return {Path(row["place"]).name: row["status"] for row in found}


def _contents(folder: Path, names: Callable[[str], str] = str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a dataset but for when they were made, in an order of their own."""
    found = {name: dataset.table(folder, name).to_pylist() for name in SCHEMAS}
    return _sorted(found, names)


def _expected(traces: Path, names: Callable[[str], str] = str) -> dict[str, list[dict[str, Any]]]:
    """Return what the dataset of a directory should have, analyzed here one by one."""
    parts = [rows.tables(source, rules.version(), None, None) for source in sources.find([str(traces)])]
    return _sorted({name: table.to_pylist() for name, table in rows.joined(parts).items()}, names)


def _sorted(
    found: dict[str, list[dict[str, Any]]], names: Callable[[str], str]
) -> dict[str, list[dict[str, Any]]]:
    left_out = ("analyzed_utc", "etag", "modified")
    return {
        name: sorted(
            (
                {key: value for key, value in row.items() if key not in left_out}
                | {"place": names(row["place"])}
                for row in many
            ),
            key=lambda row: json.dumps(row, default=str),
        )
        for name, many in found.items()
    }


def test_only_what_is_new_or_changed_is_analyzed(update: Update, make_trace: Trace, tmp_path: Path) -> None:
    first, second = (make_trace([window(1)], name=f"traces/{name}.rxt") for name in "ab")
    assert update().analyzed == {WHOLE: 2}
    again = update()
    assert (again.found, again.unchanged, again.analyzed) == (2, 2, {})
    before = dataset.parts(tmp_path / "fleet")
    make_trace(worker_stall(2, 6), name="traces/b.rxt")
    make_trace([window(1)], name="traces/c.rxt")
    first.unlink()
    assert (update().unchanged, update().found) == (0, 2)
    assert _statuses(tmp_path / "fleet") == {"a.rxt": WHOLE, "b.rxt": WHOLE, "c.rxt": WHOLE}
    assert dataset.table(tmp_path / "fleet", "stalls")["place"].to_pylist() == [str(second)]
    assert len(before) == 1 and before[0] not in dataset.parts(tmp_path / "fleet")


def test_other_rules_begin_anew(
    update: Update, make_trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trace([window(1)], name="traces/a.rxt")
    update()
    assert update(host="(?P<host>[a-z]+).rxt").analyzed == {WHOLE: 1}
    assert dataset.table(tmp_path / "fleet", "traces")["host"].to_pylist() == ["a"]
    longer = Thresholds(silence_over_ns=50 * MS)
    assert update(thresholds=longer).analyzed == {WHOLE: 1}
    assert update(thresholds=longer).analyzed == {}
    assert dataset.table(tmp_path / "fleet", "traces")["silence_over_ns"].to_pylist() == [50 * MS]
    assert update(thresholds=Thresholds(50 * MS, 20 * MS)).analyzed == {WHOLE: 1}
    monkeypatch.setattr(rules, "version", lambda: "0123456789abcdef")
    assert update().analyzed == {WHOLE: 1}
    assert len(_statuses(tmp_path / "fleet")) == 1


def test_workers_with_other_rules_are_refused(
    update: Update, make_trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trace([window(1)], name="traces/a.rxt")
    versions = iter(["0123456789abcdef"])
    monkeypatch.setattr(rules, "version", lambda: next(versions, "fedcba9876543210"))
    with pytest.raises(UserError, match="has another toolkit than this"):
        update()


def test_what_cannot_be_analyzed_is_a_row_and_tried_again_if_it_may_help(
    update: Update, make_trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trace([window(1)], name="traces/a.rxt")
    make_trace([window(1)], name="traces/b.rxt")
    (tmp_path / "traces" / "c.rxt").write_text("no trace")

    def gone(url: str, _: object) -> None:
        raise PermissionError(f"no access to {url}")

    with monkeypatch.context() as patch:
        patch.setattr(sources, "local", gone)
        assert update(tmp_path / "traces" / "a.rxt").analyzed == {UNFETCHED: 1}
    assert update().analyzed == {WHOLE: 2, UNREADABLE: 1}
    assert update().analyzed == {}
    assert _statuses(tmp_path / "fleet") == {"a.rxt": WHOLE, "b.rxt": WHOLE, "c.rxt": UNREADABLE}


def test_parts_are_written_while_the_run_goes_on(
    update: Update, make_trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PART_TRACES", 2)
    for number in range(5):
        make_trace([window(1)], name=f"traces/{number}.rxt")
    seen = []

    def look(progress: run.Progress) -> None:
        seen.append((progress.analyzed.total(), len(dataset.parts(tmp_path / "fleet"))))

    update(show=look)
    assert len(dataset.parts(tmp_path / "fleet")) == 3
    assert seen[-1] == (5, 2) and seen == sorted(seen)


def test_an_interruption_keeps_what_is_finished(update: Update, make_trace: Trace, tmp_path: Path) -> None:
    for number in range(5):
        make_trace([window(1)], name=f"traces/{number}.rxt")

    def interrupt(progress: run.Progress) -> None:
        if progress.analyzed.total() == 2:
            raise KeyboardInterrupt

    progress = update(show=interrupt)
    assert progress.interrupted and progress.analyzed.total() == 2
    assert len(_statuses(tmp_path / "fleet")) == 2
    rest = update()
    assert (rest.unchanged, rest.analyzed) == (2, {WHOLE: 3})


def test_a_second_run_at_the_same_time_is_refused(update: Update, make_trace: Trace) -> None:
    make_trace([window(1)], name="traces/a.rxt")
    refused = []

    def again(progress: run.Progress) -> None:
        with pytest.raises(UserError, match=r"another run writes to .*fleet: wait until it ends"):
            update()
        refused.append(progress)

    update(show=again)
    assert refused and update().unchanged == 1


@pytest.mark.parametrize(
    ("pattern", "words"), [("(", "is no regular expression"), ("[^/]+", "has no group of the name host")]
)
def test_a_wrong_pattern_is_one_sentence(update: Update, pattern: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        update(host=pattern)


def test_a_directory_that_is_something_else_is_refused(update: Update, tmp_path: Path) -> None:
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "thesis").write_text("precious")
    with pytest.raises(UserError, match="is not empty and no dataset"):
        update()
    assert [path.name for path in (tmp_path / "fleet").iterdir()] == ["thesis"]


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "toolkit", "fleet", *map(str, arguments), "--json"]


def _environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{STORES}:{ROOT}"} | more


def _toolkit(*arguments: object, **environment: str) -> dict[str, Any]:
    """Run `toolkit fleet` to its end; return what it printed as JSON."""
    done = subprocess.run(
        _command(*arguments), env=_environment(**environment), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _started(command: Sequence[str], process_group: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=process_group,
    )


def _some(folder: Path, make_trace: Trace, count: int) -> list[Path]:
    """Write traces of some hosts, some of which stalled."""
    (folder / "traces").mkdir()
    return [
        make_trace(
            worker_stall(2, 3 + number % 5) if number % 3 else [window(1)],
            name=f"traces/{number:02}.rxt",
            meta=META | {"host": f"rx{number}"},
        )
        for number in range(count)
    ]


def _until(done: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is so, for as long as a process runs."""
    while not done():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.long
def test_recordings_on_processes_of_this_machine(tmp_path: Path) -> None:
    some = DATA / "[aqx]*"
    done = _toolkit(some, "-o", tmp_path / "fleet", "--workers", 2)
    assert done["status"] == {WHOLE: 7}
    assert _contents(tmp_path / "fleet") == _expected(some)


@pytest.mark.long
def test_killed_workers_change_nothing_and_a_trace_that_kills_each_is_a_row(
    make_trace: Trace, tmp_path: Path
) -> None:
    traces = _some(tmp_path, make_trace, 12)
    for trace in (traces[1], traces[6]):
        trace.with_name(f"{trace.name}.kills").write_text("1")
    deadly = traces.pop(9)
    deadly.with_name(f"{deadly.name}.kills").write_text("1000000")
    done = _toolkit(f"sick://{tmp_path}/traces", "-o", tmp_path / "fleet", "--workers", 2)
    assert done["status"] == {WHOLE: 11, FAILED: 1}
    for trace in (traces[1], traces[6]):
        assert len(trace.with_name(f"{trace.name}.readers").read_text()) > 1
    every = dataset.table(tmp_path / "fleet", "traces").to_pylist()
    (row,) = (row for row in every if row["status"] == FAILED)
    assert row["place"] == f"sick://{deadly}" and "4 workers were lost" in row["reason"]
    found = _contents(tmp_path / "fleet", lambda place: place.removeprefix("sick://"))
    found["traces"] = [row for row in found["traces"] if row["status"] == WHOLE]
    deadly.unlink()
    assert found == _expected(tmp_path / "traces")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_finished(number: signal.Signals, make_trace: Trace, tmp_path: Path) -> None:
    traces = _some(tmp_path, make_trace, 9)
    blocks = traces[-1].with_name(f"{traces[-1].name}.blocks")
    blocks.touch()
    command = _command(f"sick://{tmp_path}/traces", "-o", tmp_path / "fleet", "--workers", 1)
    with _started(command, process_group=0) as process:
        # One worker, so all others are finished when the last begins.
        _until(traces[-1].with_name(f"{traces[-1].name}.readers").exists, process)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "toolkit: error: interrupted; run the same command again to go on."
    assert "Traceback" not in err
    done = json.loads(out)
    assert done["interrupted"] and 0 < done["analyzed"] < 9
    assert len(_statuses(tmp_path / "fleet")) == done["analyzed"]
    blocks.unlink()
    rest = _toolkit(f"sick://{tmp_path}/traces", "-o", tmp_path / "fleet")
    assert (rest["unchanged"], rest["analyzed"]) == (done["analyzed"], 9 - done["analyzed"])
    found = _contents(tmp_path / "fleet", lambda place: place.removeprefix("sick://"))
    assert found == _expected(tmp_path / "traces")


@pytest.mark.long
def test_traces_of_an_object_store(make_trace: Trace, tmp_path: Path) -> None:
    traces = _some(tmp_path, make_trace, 5)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        access = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        access |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        s3 = boto3.client(
            "s3",
            endpoint_url=access["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        s3.create_bucket(Bucket="bucket")
        for trace in traces:
            s3.upload_file(str(trace), "bucket", f"rx/{trace.name}")
        s3.put_object(Bucket="bucket", Key="rx/notes.txt", Body=b"no trace")
        done = _toolkit("s3://bucket/rx", "-o", tmp_path / "fleet", **access)
        assert done["status"] == {WHOLE: 5}
        there, here = "s3://bucket/rx", f"{tmp_path}/traces"
        found = _contents(tmp_path / "fleet", lambda place: place.replace(there, here))
        assert found == _expected(tmp_path / "traces")
        etags = dataset.table(tmp_path / "fleet", "traces")["etag"].to_pylist()
        assert all(re.fullmatch("[0-9a-f]{32}", etag) for etag in etags)
        # The same again is another time, and the same ETag.
        s3.upload_file(str(traces[1]), "bucket", "rx/00.rxt")
        s3.upload_file(str(traces[2]), "bucket", "rx/02.rxt")
        s3.delete_object(Bucket="bucket", Key="rx/04.rxt")
        again = _toolkit("s3://bucket/rx/*.rxt", "-o", tmp_path / "fleet", **access)
        assert (again["traces"], again["unchanged"], again["status"]) == (4, 3, {WHOLE: 1})
        assert len(_statuses(tmp_path / "fleet")) == 5
    finally:
        server.stop()


@pytest.mark.long
def test_a_cluster_that_is_there_loses_a_worker_and_then_its_scheduler(
    make_trace: Trace, tmp_path: Path
) -> None:
    traces = _some(tmp_path, make_trace, 12)
    kills = traces[3].with_name(f"{traces[3].name}.kills")
    kills.write_text("1")
    blocks = traces[-1].with_name(f"{traces[-1].name}.blocks")
    with ExitStack() as stack:

        def start(name: str, *options: str) -> subprocess.Popen[str]:
            program = [sys.executable, "-m", f"distributed.cli.{name}", "--no-dashboard", *options]
            process = stack.enter_context(_started(program))
            stack.callback(process.kill)
            return process

        file = str(tmp_path / "scheduler.json")
        scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)
        for _ in range(2):
            scratch = str(tmp_path / "scratch")
            start("dask_worker", "--scheduler-file", file, "--nthreads", "1", "--local-directory", scratch)
        with distributed.Client(scheduler_file=file, timeout=60) as client:
            client.wait_for_workers(2, timeout=120)
            address = client.scheduler.address
        where = (f"sick://{tmp_path}/traces", "-o", tmp_path / "fleet", "--scheduler", address)
        done = _toolkit(*where)
        assert done["status"] == {WHOLE: 12}
        assert len(traces[3].with_name(f"{traces[3].name}.readers").read_text()) == 2
        found = _contents(tmp_path / "fleet", lambda place: place.removeprefix("sick://"))
        assert found == _expected(tmp_path / "traces")
        blocks.touch()
        make_trace([window(2), window(3)], name=f"traces/{traces[-1].name}")
        traces[-1].with_name(f"{traces[-1].name}.readers").unlink()
        with _started(_command(*where)) as process:
            _until(traces[-1].with_name(f"{traces[-1].name}.readers").exists, process)
            scheduler.kill()
            _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("toolkit: error: the Dask scheduler is gone"), err
    assert found == _contents(tmp_path / "fleet", lambda place: place.removeprefix("sick://"))
