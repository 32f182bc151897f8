# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Iterator
from types import SimpleNamespace

import distributed
import pytest

from tests.conftest import MS, Trace, window
from toolkit.errors import UserError
from toolkit.fleet import rules, sources, worker
from toolkit.stalls.thresholds import DEFAULT, Thresholds


@pytest.fixture(autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process stands for a worker."""
    scratch = str(tmp_path_factory.mktemp("scratch"))
    about = SimpleNamespace(address="tcp://10.0.0.1:4", local_directory=scratch)
    monkeypatch.setattr(distributed, "get_worker", lambda: about)
    yield


def test_rows_of_a_group_are_one_table_each(make_trace: Trace) -> None:
    found = [make_trace([window(1)], name=name) for name in ("host-1.rxt", "host-2.rxt")]
    pattern = r"(?P<host>host-\d)"
    thresholds = Thresholds(silence_over_ns=50 * MS)
    wanted = rules.wanted(thresholds, pattern)
    tables = worker.analyze(sources.find(map(str, found)), wanted, pattern, thresholds)
    assert tables["traces"]["place"].to_pylist() == list(map(str, found))
    assert tables["traces"]["host"].to_pylist() == ["host-1", "host-2"]
    assert set(tables["traces"]["rules"].to_pylist()) == {wanted}
    assert set(tables["traces"]["silence_over_ns"].to_pylist()) == {50 * MS}


def test_a_worker_with_another_toolkit_is_refused() -> None:
    with pytest.raises(UserError, match=r"worker at tcp://10\.0\.0\.1:4 has another toolkit"):
        worker.analyze([], "0123456789abcdef", None, DEFAULT)
