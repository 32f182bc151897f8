# SPDX-License-Identifier: GPL-2.0-only
from tests.conftest import META, S, Trace, window
from toolkit.trace.description import describe
from toolkit.trace.reader import TraceReader


def test_a_whole_trace(make_trace: Trace) -> None:
    found = describe(TraceReader(make_trace([window(1)], [window(2), window(3)])))
    assert (found["complete"], found["damage"], found["reason"]) == (True, None, "duration")
    assert (found["kernel"], found["arch"], found["cpus"]) == ("6.1.0-test", "x86_64", 2)
    assert found["drivers"][0]["variant"] == "stock"
    assert found["devices"] == [{"name": "eth1", "driver": "virtio_net", "queues": 2}]
    assert (found["duration_ns"], found["events"]) == (10 * S, 3)
    assert found["ledger"] == {"attempted": 3, "delivered": 3, "dropped": 0}


def test_one_that_is_cut_off(make_trace: Trace) -> None:
    path = make_trace([window(1)], [window(2)])
    path.write_bytes(path.read_bytes()[:-1500])
    found = describe(TraceReader(path))
    assert found["damage"] and not found["complete"]
    assert (found["reason"], found["events"]) == (None, 1)


def test_what_is_not_there_is_null(make_trace: Trace) -> None:
    bare = {name: META[name] for name in ("format", "clock")} | {"drivers": [{"name": "virtio_net"}]}
    found = describe(TraceReader(make_trace(meta=bare)))
    assert (found["host"], found["kernel"]) == (None, None)
    assert (found["detail"], found["devices"]) == (None, [])
