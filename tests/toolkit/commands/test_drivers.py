# SPDX-License-Identifier: GPL-2.0-only
import json

from tests.conftest import Run
from toolkit.drivers import load, names


def test_each_driver_is_listed_with_its_queue_and_states(run: Run) -> None:
    code, out, err = run("drivers")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[::2] == [load(name).title for name in names()]
    at = names().index("virtio_net")
    assert lines[2 * at + 1] == "    queue: receive_queue; states: napi-off, starved, spinning, unscheduled"


def test_json_is_the_same_list(run: Run) -> None:
    code, out, _ = run("drivers", "--json")
    assert code == 0
    found = {each["name"]: each for each in json.loads(out)}
    assert list(found) == names()
    assert found["xen_netback"]["states"] == ["blocked"]
    assert found["qlge"]["title"] == load("qlge").title
    assert set(found["aoe"]) == {"name", "title", "queue", "states"}
