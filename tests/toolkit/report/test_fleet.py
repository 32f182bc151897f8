# SPDX-License-Identifier: GPL-2.0-only
import io
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import MS, Terminal
from tests.toolkit.fleet.recorded import copies, fleet_of, recorded, write
from toolkit.fleet import dataset, rows, sources
from toolkit.fleet.overview import Overview, look
from toolkit.report import fleet, fleet_page
from toolkit.stalls.thresholds import DEFAULT, Thresholds


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Overview:
    """A fleet of copies, before and after a rollout that changes nothing."""
    directory = write(fleet_of(60, 600), tmp_path_factory.mktemp("report") / "fleet")
    return look(directory, "kernel=6.1.*", "kernel=6.12.*")


@pytest.mark.usefixtures("no_drawings")
def test_thresholds_that_differ_are_said(found: Overview) -> None:
    assert fleet.thresholds(found) == [] and fleet.least_silence(found) == "10 ms"
    mixed = replace(found, thresholds={DEFAULT: 600, Thresholds(50 * MS, 0): 1})
    assert fleet.about(mixed)[-1] == (
        "Thresholds differ, so that the numbers do not compare. 600 traces: silences of 10 ms or longer, "
        "brief stalls below 10 ms; 1 trace: silences of 50 ms or longer, brief stalls below 0 ns."
    )
    assert fleet.least_silence(mixed) == "10 ms or 50 ms"
    assert "other silences of 10 ms or 50 ms and longer" in fleet_page.render(mixed)


@pytest.mark.parametrize("terminal", [False, True])
def test_text_begins_with_what_happened(found: Overview, terminal: bool) -> None:
    shown = Terminal() if terminal else io.StringIO()
    fleet.render(found, shown)
    out = shown.text() if isinstance(shown, Terminal) else shown.getvalue()
    assert out.startswith("56 of 56 hosts were silent, up to 682 s for each traced hour.")
    words = " ".join(out.split())
    assert "Of 31 traces the host is unknown: these are in no number of hosts." in words
    assert "no difference seen: From kernel=6.1.* to kernel=6.12.* (18 hosts and 19 other ones)" in words
    assert "1 outlier: host-0001 (" in words
    assert words.endswith(f'ORDER BY seconds DESC" -o {found.directory}')
    assert "nan" not in words.lower() and "<na>" not in words.lower()
    assert not terminal or max(map(len, out.splitlines())) <= 80


def test_unknown_hosts_are_shown_as_unknown(found: Overview) -> None:
    table = fleet.silent_table(found, "host", rows=1000)
    assert table["host"].iloc[0] == "host-0001"
    assert table["host"].tolist().count("unknown") == 1
    assert table["host"].iloc[-1] == "unknown"


def test_tables_have_units_and_no_nan(found: Overview) -> None:
    tables = [fleet.silent_table(found, name) for name in found.groups]
    tables += [fleet.state_table(found), fleet.cause_table(found), fleet.day_table(found)]
    for table in tables:
        assert "traces" in table and any(str(name).endswith(("[s]", "[s/h]")) for name in table)
        assert not table.isna().any(axis=None)
        assert not any(cell in ("nan", "NaN", "<NA>") for cell in table.to_numpy().ravel())


def test_a_rollout_that_helped(tmp_path: Path) -> None:
    hosts = [f"h{number:03}" for number in range(120)]
    builds = ["new" if number % 3 == 0 else "old" for number in range(120)]
    halved = [0.3 if build == "new" else 1 for build in builds]
    tables = copies(hosts, only="virtio_net_variants/stock", build=builds, stalls=halved)
    found = look(write(tables, tmp_path / "fleet"), "build=old", "build=new").rollout
    assert found is not None
    said = fleet.sentence(found)
    assert said.startswith(
        "improved: From build=old to build=new (80 hosts and 40 other ones) stalled time fell "
        "from a median of "
    )
    assert "s/h (95 %: -" in said and "80 of 80 hosts stalled before, 40 of 40 after." in said
    table = fleet.metric_table(found).set_index("metric")
    assert table.loc["stalled time [s/h]", "finding"] == "lower"
    assert table.loc["stalls that did not end [/h]", "finding"] == "the same in all hosts"
    assert [line.partition(":")[0] for line in fleet.sets(found)] == ["Before, build=old", "After, build=new"]


def test_few_hosts_are_too_few(tmp_path: Path) -> None:
    tables = copies(list("abcd"), only="stock/001", build=["old", "old", "new", "new"])
    found = look(write(tables, tmp_path / "fleet"), "build=old", "build=new").rollout
    assert found is not None
    assert fleet.sentence(found).startswith("cannot say: 2 and 2 hosts are too few: ")


def test_a_fleet_without_names_and_with_traces_that_are_not_whole(tmp_path: Path) -> None:
    tables = dict(recorded())
    traces = tables["traces"].copy()
    traces.loc[traces.index[0], ["status", "reason"]] = ["damaged", "it stops after 3 s."]
    found = look(write(tables | {"traces": traces}, tmp_path / "fleet"))
    shown = io.StringIO()
    fleet.render(found, shown)
    out = shown.getvalue()
    assert out.startswith("Hosts are not known; ")
    assert "19 of 20 traces are whole (95.0 %)." in out
    assert "it stops after … s." in out
    assert "Outliers are not looked for: 0 silent hosts are too few" in out
    assert "A trend is not known: no host has traces of 3 or more days." in out


def test_traces_that_nobody_can_read(tmp_path: Path) -> None:
    file = tmp_path / "a.rxt"
    file.write_text("nonsense")
    tables = rows.tables(sources.find([str(file)])[0], "", None, None)
    dataset.create(tmp_path / "fleet")
    dataset.add(tmp_path / "fleet", tables)
    found = look(tmp_path / "fleet")
    shown = io.StringIO()
    fleet.render(found, shown)
    out = shown.getvalue()
    assert out.startswith("Nothing is known: no trace could be read.")
    assert "unreadable" in out and "the trace is not a trace" in out and "Silence by" not in out
    assert "Empty" not in out
    page = fleet_page.render(found)
    assert "<svg" not in page and "Which kernels" not in page and "the trace is not a trace" in page


def test_numbers_for_each_hour() -> None:
    assert [fleet.per_hour(each) for each in (0, 12_345_678, 5e9, 1234e9, float("nan"))] == [
        "0.00",
        "0.0123",
        "5.00",
        "1,234",
        "-",
    ]
