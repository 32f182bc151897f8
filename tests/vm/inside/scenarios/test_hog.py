# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

from vm.inside.scenarios import hog


def test_threads_of_a_device_are_known_by_their_names(tmp_path: Path) -> None:
    names = {7: "napi/eth1-8193", 9: "napi/eth2-8194", 11: "ksoftirqd/1", 12: "napi/eth1-8195"}
    for thread, name in names.items():
        (tmp_path / str(thread)).mkdir()
        (tmp_path / str(thread) / "comm").write_text(f"{name}\n")
    assert hog.napi_threads("eth1", tmp_path) == [7, 12]
