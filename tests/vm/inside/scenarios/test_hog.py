# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

from vm.inside.scenarios import hog


def test_threads_of_the_kernel_are_known_by_their_names(tmp_path: Path) -> None:
    names = {7: "napi/eth1-8193", 9: "napi/eth2-8194", 11: "ksoftirqd/1", 12: "napi/eth1-8195"}
    names |= {13: "ksoftirqd/10", 14: "napi/eth10-8196"}
    for thread, name in names.items():
        (tmp_path / str(thread)).mkdir()
        (tmp_path / str(thread) / "comm").write_text(f"{name}\n")
    assert hog.threads_called("napi/eth1-*", tmp_path) == [7, 12]
    assert hog.threads_called("ksoftirqd/1", tmp_path) == [11]


def test_thread_that_is_to_run_is_waited_for(tmp_path: Path) -> None:
    for thread, state in {7: "S", 9: "R"}.items():
        (tmp_path / str(thread)).mkdir()
        (tmp_path / str(thread) / "stat").write_text(f"{thread} (a (thread) R ) {state} 2 0 0\n")
    assert hog.wait_for_any([7, 9], tmp_path)
    assert not hog.wait_for_any([7], tmp_path, seconds=0.05)


def test_interrupts_of_a_virtio_device_are_those_of_its_pci_device(tmp_path: Path) -> None:
    pci = tmp_path / "devices/pci0000:00/0000:00:05.0"
    (pci / "msi_irqs").mkdir(parents=True)
    for number in ("27", "28"):
        (pci / "msi_irqs" / number).touch()
    (pci / "virtio3/net/eth1").mkdir(parents=True)
    (pci / "virtio3/net/eth1/device").symlink_to("../..")
    (tmp_path / "class/net").mkdir(parents=True)
    (tmp_path / "class/net/eth1").symlink_to(pci / "virtio3/net/eth1")
    assert hog.irqs("eth1", tmp_path) == ["27", "28"]
