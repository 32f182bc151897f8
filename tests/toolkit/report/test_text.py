# SPDX-License-Identifier: GPL-2.0-only
import pytest

from tests.conftest import META, Trace, event, failed, window, worker_stall
from toolkit.report import text
from toolkit.stalls.analysis import analyze


def test_verdict_without_a_stall_says_for_how_long(make_trace: Trace) -> None:
    verdict = text.verdict(analyze(make_trace([window(1)])))
    assert verdict == "No stall: eth1 never went deaf in 10.0 s (40 packets on 2 queue(s))."


def test_verdict_without_a_packet_proves_nothing(make_trace: Trace) -> None:
    assert "but there was no packet either: it proves nothing" in text.verdict(analyze(make_trace()))


def test_a_trace_that_breaks_off_proves_no_absence(make_trace: Trace) -> None:
    path = make_trace([window(1)], [window(2)])
    path.write_bytes(path.read_bytes()[:-1500])
    assert text.verdict(analyze(path)) == (
        "Whether eth1 went deaf is not known: the trace breaks off after 3.3 s, "
        "and no stall was seen until then (40 packets on 2 queue(s))."
    )


def test_what_follows_in_a_trace_that_breaks_off_is_not_known(make_trace: Trace) -> None:
    path = make_trace(worker_stall(1, 2), [window(4)])
    path.write_bytes(path.read_bytes()[:-100])
    verdict = text.verdict(analyze(path))
    assert verdict.startswith("eth1 went deaf once in 6.7 s")
    assert verdict.endswith("What happened later is not known: the trace breaks off after 6.7 s.")


def test_verdict_of_one_stall_says_why_it_began(make_trace: Trace) -> None:
    assert text.verdict(analyze(make_trace([window(1), *worker_stall(2, 6)]))) == (
        "eth1 went deaf once in 10.0 s on queue 0, for 4.000 s (starved, of it napi-off 3.999 s): "
        "order-0 allocation failed in a softirq refill (GFP_ATOMIC)."
    )


def test_a_queue_has_its_name_where_a_ring_has_several(make_trace: Trace) -> None:
    traced = {**META["drivers"][0], "name": "qlge", "module": "qlge", "regime": "none"}
    meta = {**META, "drivers": [traced], "devices": [{**META["devices"][0], "driver": "qlge", "queues": []}]}
    napi = [event("napi_off", 3, flags="process|in_worker"), event("napi_on", 3.5, flags="process")]
    analysis = analyze(make_trace([window(1, queue=3), failed(4, queue=3), *napi], meta=meta))
    assert text.stall_table(analysis)["queue"].tolist() == ["rx-0 sbq", "rx-1 lbq"]
    assert text.queue_table(analysis)["queue"].tolist() == ["rx-0 sbq", "rx-1 lbq"]
    alone = analyze(make_trace([failed(2, posted_after=3, queue=3), *napi], meta=meta))
    assert "on rx-0 sbq, for 0.500 s (napi-off): softirq refill of rx-1 lbq failed" in text.verdict(alone)


def test_a_driver_that_sends_goes_silent(make_trace: Trace) -> None:
    traced = {**META["drivers"][0], "name": "aoe", "module": "aoe", "regime": "kicked by the timer"}
    meta = {**META, "drivers": [traced], "devices": [{**META["devices"][0], "driver": "aoe", "queues": []}]}
    stalled = make_trace([window(1), event("blocked", 2, flags="held"), event("unblocked", 3)], meta=meta)
    assert text.verdict(analyze(stalled)).startswith(
        "eth1 went silent once in 10.0 s on target-0, for 1.000 s"
    )
    assert " eth1 never went silent in 10.0 s" in text.verdict(analyze(make_trace([window(1)], meta=meta)))


def test_verdict_counts_stalls_and_says_which_is_open(make_trace: Trace) -> None:
    verdict = text.verdict(analyze(make_trace([*worker_stall(2, 3), failed(4, queue=1)])))
    assert verdict.startswith("eth1 went deaf 2 times in 10.0 s on 2 queues, at most for 6.000 s (starved)")
    assert verdict.endswith("1 stall(s) had not ended when the trace did.")


def test_the_worst_device_comes_first(make_trace: Trace) -> None:
    meta = META | {"devices": [*META["devices"], META["devices"][0] | {"ifindex": 4, "name": "eth2"}]}
    events = [*worker_stall(2, 3), failed(4, ifindex=4), event("napi_on", 9)]
    verdict = text.verdict(analyze(make_trace(events, meta=meta)))
    assert verdict.index("eth2 went deaf once") < verdict.index("eth1 went deaf once")


def test_tables_have_units(make_trace: Trace) -> None:
    analysis = analyze(make_trace(worker_stall(2, 6)))
    stalls, queues = text.stall_table(analysis), text.queue_table(analysis)
    row = stalls.to_dict("records")[0]
    assert (row["start [s]"], row["duration [s]"], row["reclaim [s]"]) == ("2.000", "4.000", "1.000")
    assert queues["NAPI gap max [ms]"].tolist() == ["-", "-"]


def test_only_the_queues_that_stalled_longest_are_listed(
    make_trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = analyze(make_trace([*worker_stall(2, 3, queue=1), window(4), window(5, queue=2)]))
    assert text.queues_title(analysis) == "Queues"
    monkeypatch.setattr(text, "QUEUES", 2)
    assert text.queues_title(analysis) == "The 2 queues of 3 that stalled longest"
    assert text.queue_table(analysis)["queue"].tolist() == ["0", "1"]


def test_only_the_longest_stalls_are_listed(make_trace: Trace) -> None:
    batches = [worker_stall(each, each + 0.01 * each) for each in range(1, 31)]
    table = text.stall_table(analyze(make_trace(*batches, end=40)))
    assert table["start [s]"].tolist() == [f"{each}.000" for each in range(11, 31)]


@pytest.mark.parametrize("terminal", [False, True])
def test_rendered_analysis_ends_with_the_witness(
    make_trace: Trace, terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    text.render(
        analyze(make_trace(worker_stall(2, 6))), {"sentence": "The witness agrees."}, terminal=terminal
    )
    out = capsys.readouterr().out
    assert out.startswith("eth1 went deaf once")
    assert "Not attached: b; this trace lacks receive interrupts." in out
    assert "6 attempted, 6 delivered, 0 dropped" in out
    assert out.rstrip().endswith("The witness agrees.")
    assert ("─" in out) == terminal


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_terminal_shows_whole_numbers_with_units_or_none(
    make_trace: Trace, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text.render(analyze(make_trace(worker_stall(2, 6))), None, terminal=True)
    out = capsys.readouterr().out
    assert "…" not in out
    assert "duration" in out and "[s]" in out and "4.000" in out
    assert max(map(len, out.splitlines()[2:])) <= width
    assert ("A wider terminal shows also: waiting [s]" in out) == (width < 200)
