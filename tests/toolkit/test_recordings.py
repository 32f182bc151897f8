# SPDX-License-Identifier: GPL-2.0-only
"""What is said of traces that were recorded on real machines (tests/data)."""

import itertools
import json
from pathlib import Path

import pyarrow as pa
import pytest

import toolkit
from tests.conftest import DATA, Run
from toolkit.compare import comparison
from toolkit.compare.verdict import IMPROVED
from toolkit.report import text
from toolkit.report.analyze import poll_gaps
from toolkit.report.causes import sentence
from toolkit.runs import read_runs
from toolkit.stalls.accounts import read_phases
from toolkit.stalls.analysis import summary
from toolkit.stalls.slow import SLOW_REFILL


def test_genuine_pressure_on_virtio_net() -> None:
    here = DATA / "virtio_net_pressure"
    trace = toolkit.read(here / "trace.rxt")
    analysis, witness = trace.analysis, trace.agreement
    assert witness
    (stall,) = analysis.stalls.to_dict("records")
    assert (stall["device"], stall["queue"], stall["state"]) == ("eth1", 0, "napi-off")
    assert stall["duration_ns"] == 15_925_938_970
    assert (stall["order"], stall["gfp_names"], stall["context"]) == (0, "GFP_ATOMIC", "softirq")
    assert stall["reclaim_ns"] / stall["duration_ns"] == pytest.approx(0.992, abs=0.001)
    assert not stall["open"]
    assert not stall["uncertain"]
    assert abs(stall["witness_difference_ns"]) < 2_000_000
    assert witness["agrees"]
    phases = read_phases(here / "phases.json").set_index("name")
    assert phases["start"]["pressure"] < stall["start_ns"] < phases["end"]["pressure"]
    found = summary(analysis)
    assert found["complete"]
    ledger = found["ledger"]
    assert ledger["attempted"] == ledger["delivered"] == found["events"]
    assert ledger["dropped"] == 0
    assert text.verdict(analysis).startswith("eth1 went deaf once")


def test_a_recording_is_a_run() -> None:
    (run,) = read_runs(DATA / "virtio_net_pressure").to_dict("records")
    assert (run["driver"], run["variant"], run["scenario"]) == ("virtio_net", "stock", "pressure")
    assert (run["stalls"], run["stalled_ns"], run["open"], run["failed"]) == (1, 15_925_938_970, 0, 1)
    assert run["refused"] == 113441 / (201915 + 113441)
    assert run["recovery_ns"] == 0  # the stall ended 16 s before the shortage did
    assert run["witness_agrees"]


@pytest.mark.long
def test_recorded_variants_compare_as_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA / "virtio_net_variants")
    found = comparison.summary(comparison.compare(read_runs("stock"), read_runs("paced")))
    committed = json.loads(Path("comparison.json").read_text())
    assert found["verdict"] == committed["verdict"] == IMPROVED
    assert found["sentence"] == committed["sentence"]
    metrics, expected = found.pop("metrics"), committed.pop("metrics")
    assert [row["name"] for row in metrics] == [row["name"] for row in expected]
    for row, old in zip(metrics, expected, strict=True):
        assert row == pytest.approx(old)
    assert found == committed | {"toolkit": found["toolkit"]}


@pytest.mark.long
@pytest.mark.parametrize(
    ("base", "candidate", "code", "sentence"),
    [
        (
            "virtio_net_variants/stock/001",
            "virtio_net_variants/paced/001",
            3,
            "1 run of stock and 1 of paced",
        ),
        ("virtio_net_variants/stock", "virtio_net_variants/stock/001", 1, "is in both sets"),
        ("virtio_net_variants", "virtio_net_pressure", 1, "the base mixes builds of the driver"),
    ],
)
def test_recordings_that_cannot_be_compared(
    run: Run, monkeypatch: pytest.MonkeyPatch, base: str, candidate: str, code: int, sentence: str
) -> None:
    monkeypatch.chdir(DATA)
    exit_code, out, err = run("compare", base, candidate)
    assert exit_code == code
    assert sentence in " ".join((out + err).split())


def test_virtio_net_of_today_spins() -> None:
    trace = toolkit.read(DATA / "virtio_net_spinning" / "trace.rxt")
    assert trace.summary["regime"] == "NAPI repoll"
    stalls = trace.stalls[trace.stalls["class"] == "stall"]
    assert stalls["state"].tolist() == ["starved", "starved"]
    assert (stalls["spinning_ns"] > 0.9 * stalls["duration_ns"]).all()
    assert stalls["polls"].tolist() == [103607, 89426]
    assert stalls["failed"].tolist() == [103587, 89426]
    # What claims its whole budget has taken nothing.
    assert stalls["packets"].tolist() == [2, 1]
    assert trace.agreement and trace.agreement["agrees"]
    assert trace.ledger["dropped"].sum() == 0


def test_qlge_stays_deaf_without_its_fix_and_recovers_with_it() -> None:
    unfixed, stock = (toolkit.read(DATA / "qlge" / variant / "trace.rxt") for variant in ("unfixed", "stock"))
    (stall,) = unfixed.stalls.to_dict("records")
    assert (stall["name"], stall["state"], stall["open"]) == ("rx-1 lbq", "starved", True)
    assert stall["duration_ns"] == pytest.approx(94.344e9, abs=1e6)
    assert (stall["polls"], stall["retries"], stall["irqs"]) == (
        1,
        0,
        0,
    )  # nothing comes that could refill it
    assert unfixed.phases is not None
    assert unfixed.phases.set_index("name")["start"]["recover"] < stall["end_ns"] - 60e9
    assert not stock.stalls["open"].any()
    assert stock.stalls["duration_ns"].max() == pytest.approx(27.187e9, abs=1e6)
    assert (stock.stalls["retries"] > 0).all()
    for trace in (unfixed, stock):
        assert trace.agreement and trace.agreement["agrees"]
        assert trace.ledger["dropped"].sum() == 0


def test_xen_netback_stays_stopped_without_its_fix() -> None:
    trace = toolkit.read(DATA / "xen_netback" / "unfixed" / "trace.rxt")
    last = trace.stalls.iloc[-1]
    assert (len(trace.stalls), last["state"], bool(last["open"]), last["posted"]) == (
        43,
        "blocked",
        True,
        256,
    )
    assert last["duration_ns"] == pytest.approx(31.581e9, abs=1e6)
    assert trace.agreement and trace.agreement["agrees"]
    assert trace.summary["tables"]["flaps"] == []


@pytest.mark.parametrize(
    ("recording", "stalls", "brief"),
    [
        ("xen_netback/unfixed", 1, 42),
        ("virtio_net_variants/paced/001", 29, 113),
        ("virtio_net_variants/stock/001", 3, 1),
        ("virtio_net_pressure", 1, 0),
    ],
)
def test_brief_stalls_are_told_apart(recording: str, stalls: int, brief: int) -> None:
    trace = toolkit.read(DATA / recording / "trace.rxt")
    assert len(trace.stalls) == stalls + brief
    (queue,) = trace.queues.to_dict("records")
    assert (queue["stalls"], queue["brief"], queue["reconfigurations"]) == (stalls, brief, 0)
    times = "once" if stalls == 1 else f"{stalls} times"
    assert f"went deaf {times} in" in trace.verdict
    assert ("Not counted" in trace.verdict) == (brief > 0)


@pytest.mark.parametrize(
    ("recording", "queue", "longest"),
    [
        ("qlge/unfixed", "rx-1 lbq", 94.344),
        ("xen_netback/unfixed", "rx-0", 31.580),
        ("aoe/stock", "target-0", 22.017),
    ],
)
def test_the_longest_gap_goes_on_to_the_end_of_the_trace(recording: str, queue: str, longest: float) -> None:
    trace = toolkit.read(DATA / recording / "trace.rxt")
    gap = trace.queues.set_index("name")["gap_max_ns"][queue]
    assert gap == pytest.approx(longest * 1e9, abs=2e6)
    # The poll that met the stall was a moment before it or in it.
    assert abs(gap - trace.stalls["duration_ns"].max()) < 2e6


def test_a_refill_that_failed_before_a_stall_is_not_counted_in_it_and_is_said_to_be_earlier() -> None:
    (stall,) = toolkit.read(DATA / "virtio_net_pressure" / "trace.rxt").stalls.to_dict("records")
    assert stall["failed"] == 0
    assert (stall["cause"], stall["order"], stall["cause_earlier"]) == ("allocation_failed", 0, True)
    assert sentence(stall) == "order-0 allocation failed in an earlier softirq refill (GFP_ATOMIC)"


@pytest.mark.parametrize(
    ("recording", "polls"),
    [
        ("virtio_net_pressure", "NAPI polls"),
        ("aoe/stock", "looks for a frame"),
        ("xen_netback/unfixed", "rounds of the guest-rx thread"),
    ],
)
def test_gaps_are_between_what_the_driver_calls_a_poll(recording: str, polls: str) -> None:
    trace = toolkit.read(DATA / recording / "trace.rxt")
    assert poll_gaps.draw(trace).axes[0].get_title().startswith(f"Gaps between {polls}\n")
    assert not text.queue_table(trace.analysis).columns.str.contains("NAPI").any()


def test_a_paused_guest_is_ready_and_deaf() -> None:
    trace = toolkit.read(DATA / "xen_netback" / "paused" / "trace.rxt")
    (stall,) = trace.stalls.to_dict("records")
    assert (stall["state"], stall["open"], stall["posted"]) == ("blocked", False, 0)
    assert stall["duration_ns"] == pytest.approx(39.949e9, abs=1e6)
    first, _ = trace.summary["tables"]["flaps"]
    assert stall["start_ns"] < first["begin_ns"] < first["end_ns"] == stall["end_ns"] - first["after_ns"]
    assert first["after_ns"] > 19e9
    assert trace.agreement and trace.agreement["agrees"]


def test_packets_that_get_through_end_a_stall() -> None:
    """After 5 s netback threw away what needed more than 9 slots, and the guest got nine packets."""
    trace = toolkit.read(DATA / "xen_netback" / "unfilled" / "trace.rxt")
    assert trace.stalls["state"].tolist() == ["blocked", "blocked"]
    assert trace.stalls["posted"].tolist() == [9, 0]
    assert trace.agreement and trace.agreement["agrees"]
    for stall, gap in zip(trace.stalls.to_dict("records"), trace.agreement["gaps"], strict=True):
        assert abs(stall["start_ns"] - gap["start_ns"]) < 20_000_000
        assert abs(stall["duration_ns"] - gap["duration_ns"]) < 30_000_000


RECORDINGS = sorted(DATA.glob("**/trace.rxt"))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: "-".join(path.parent.relative_to(DATA).parts))
def test_every_recording_is_whole_and_its_witness_saw_its_stalls(path: Path) -> None:
    trace = toolkit.read(path)
    found = trace.agreement
    assert trace.damage is None
    assert found and found["agrees"], found
    assert found["stalls_compared"] > 0
    assert found["largest_difference_ns"] < 40_000_000
    parts = ("in_stalls_ns", "no_ticks_ns", "served_ns", "idle_ns", "while_busy_ns", "unexplained_ns")
    spent = sum(found[name] for name in parts)
    spent += sum(sum(found[name].values()) for name in ("in_silences_ns", "in_events_ns"))
    assert found["refused_ns"] == spent
    assert found["mostly_explained"]


def test_most_of_the_refused_time_may_be_in_refills_that_take_long() -> None:
    found = toolkit.read(DATA / "virtio_net_variants" / "paced" / "001" / "trace.rxt").agreement
    assert found and found["agrees"] and found["mostly_explained"]
    assert found["in_stalls_ns"] / found["refused_ns"] == pytest.approx(0.198, abs=0.001)
    assert found["sentence"].endswith(
        "It saw gaps of 22.654 s in all: 4.495 s in stalls, "
        "15.012 s in slow-refill, 0.483 s in slow-poll, 0.455 s while frames were taken all the time, "
        "2.208 s unexplained."
    )


@pytest.mark.parametrize("taken", [(30, 1), (20, 15), (1, 1)])
def test_a_recording_without_some_batches_is_damaged(
    taken: tuple[int, int], tmp_path: Path, run: Run
) -> None:
    """Arrow's own batches are taken out of the file, so that every checksum is right."""
    source, path = DATA / "virtio_net_pressure" / "trace.rxt", tmp_path / "t.rxt"
    first, count = taken
    stream = pa.ipc.open_stream(source)
    with pa.ipc.new_stream(path, stream.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as out:
        for number in itertools.count():
            try:
                batch, metadata = stream.read_next_batch_with_custom_metadata()
            except StopIteration:
                break
            if not first <= number < first + count:
                out.write_batch(batch, custom_metadata=metadata)
    code, text_shown, err = run("analyze", path)
    assert code == 3
    assert "is missing, repeated or out of order" in err
    assert not text_shown.startswith("No stall")


@pytest.mark.parametrize(
    "path",
    [each for each in RECORDINGS if each.relative_to(DATA).parts[0].startswith(("virtio_net", "qlge"))],
    ids=lambda path: "-".join(path.parent.relative_to(DATA).parts),
)
def test_packets_are_those_that_arrived(path: Path) -> None:
    """As the sender counted them, or the model of the NIC, whose completion queue may be full."""
    witness = json.loads((path.parent / "witness.json").read_text())
    rings = witness.get("nic", {}).get("rings", [])
    arrived = sum(ring["accepted"] for ring in rings) if rings else witness["sent"]
    assert toolkit.read(path).queues["packets"].sum() == arrived


def test_nics_that_nobody_declared_are_told_by_their_polls() -> None:
    """What failed is what the NICs' drivers counted themselves, to 4 of 5,797."""
    trace = toolkit.read(DATA / "generic" / "trace.rxt")
    stalls = trace.stalls.set_index("device")
    assert stalls["state"].to_dict() == {"eth1": "no-work", "eth2": "dropping"}
    assert stalls["duration_ns"].round(-6).to_dict() == {"eth1": 4_971_000_000, "eth2": 4_010_000_000}
    failed = trace.queues.set_index("device")["failed"]
    counters = trace.summary["counters"]
    assert (failed["eth1"], counters["eth1"]["alloc_rx_buff_failed"]) == (27, 27)
    assert (failed["eth2"], counters["eth2"]["rx buf alloc fail"]) == (5793, 5797)
    assert trace.agreement is not None
    # eth2 took all frames, and its driver lost them: its sender was not refused.
    assert trace.agreement["agrees"] and trace.agreement["stalls_compared"] == 1


TICKS = DATA.parent.parent / "docs/results/virtio_net/ticks"


@pytest.mark.parametrize(
    ("name", "refills", "slow_ns", "ticks", "clearing"),
    [("init_on_alloc", 50, 1_290_272_500, 53, 51), ("no_init", 3, 57_446_250, 2, 0)],
)
def test_in_slow_refills_the_cpu_clears_pages(
    name: str, refills: int, slow_ns: int, ticks: int, clearing: int
) -> None:
    trace = toolkit.read(TICKS / f"{name}.rxt")
    slow = trace.silences[trace.silences["state"] == SLOW_REFILL]
    found = trace.ticks[trace.ticks["state"] == SLOW_REFILL]
    assert (len(slow), int(slow["duration_ns"].sum())) == (refills, slow_ns)
    assert int(found["count"].sum()) == ticks
    assert int(found["count"][found["function"] == "clear_page_erms"].sum()) == clearing
    assert found["stack"].str.contains("skb_page_frag_refill").sum() >= bool(clearing)
