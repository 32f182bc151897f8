# SPDX-License-Identifier: GPL-2.0-only
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import machines
from vm.drivers import needs

GOOD = """
defaults: {release: bookworm, memory_mb: 512, cpus: 2, management: e1000e, nics: [{model: virtio-net-pci}]}
machines:
  one: {description: a machine, driver: virtio_net}
"""


def read(directory: Path, text: str) -> dict[str, machines.Machine]:
    path = directory / "machines.yaml"
    path.write_text(text)
    return machines.load(path)


def test_the_projects_own_file_is_valid() -> None:
    found = machines.load()
    assert found["virtio-net"].driver == "virtio_net"
    assert found["qlge"].shares_memory and found["qlge"].nics[0].ours
    assert not found["virtio-net"].shares_memory
    assert found["xen"].xen and not found["virtio-net"].xen
    for machine in found.values():
        taken = needs(machine.driver).nic_modules
        assert machine.management not in taken, "the driver under test must be free to be swapped"


def test_defaults_lie_under_a_machine(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD + "  two: {description: another, driver: aoe, memory_mb: 2048}\n")
    assert (found["one"].memory_mb, found["two"].memory_mb) == (512, 2048)
    assert found["two"].release == "bookworm"
    assert found["one"].swap is None


def test_machine_that_is_like_another_has_its_keys(tmp_path: Path) -> None:
    more = "  three: {description: a third, like: two, cpus: 1}\n"
    more += "  two: {description: another, like: one, memory_mb: 2048, packages: [x]}\n"
    found = read(tmp_path, GOOD + more)
    assert (found["two"].driver, found["three"].driver) == ("virtio_net", "virtio_net")
    assert (found["two"].cpus, found["three"].cpus) == (2, 1)
    assert (found["three"].memory_mb, found["three"].packages) == (2048, ("x",))
    assert found["three"].description == "a third"


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("two: {like: nonesuch}", "two is like nonesuch, which is no machine"),
        ("two: {like: [one]}", "two is like .*, which is no machine"),
        ("two: {like: two}", "two is like itself"),
        ("two: {like: three}\n  three: {like: two}", "two is like itself"),
    ],
)
def test_machine_is_like_another_that_is_there(more: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint):
        read(tmp_path, GOOD + f"  {more}\n")


def test_kernels_of_one_machine_differ_in_nothing_else() -> None:
    known = machines.load()
    for name in ("virtio-net", "aoe"):
        of_trixie = known[f"{name}-trixie"]
        assert replace(of_trixie, name=name, release="bookworm", description="") == replace(
            known[name], description=""
        )


def test_first_machine_is_the_usual_one() -> None:
    assert machines.first() == "virtio-net"


def test_on_and_off_are_words(tmp_path: Path) -> None:
    nics = "nics: [{model: virtio-net-pci, options: {mrg_rxbuf: off, mq: on, vectors: 4}}]"
    nic = read(tmp_path, GOOD + f"  two: {{description: d, driver: d, {nics}}}\n")["two"].nics[0]
    assert nic.options == {"mrg_rxbuf": "off", "mq": "on", "vectors": "4"}


@pytest.mark.parametrize(
    ("own", "complaint"),
    [
        ("{description: d, driver: d, memory: 5}", "unknown key memory"),
        ("{description: d}", "driver is missing"),
        ("{description: d, driver: d, cpus: two}", "cpus is a number"),
        ("{description: d, driver: d, cpus: 0}", "cpus is a number above 0"),
        ("{description: d, driver: d, cpus: yes}", "cpus is a number"),
        ("{description: d, driver: ''}", "driver is a text"),
        ("{description: d, driver: d, nics: {model: x}}", "nics is a list"),
        ("{description: d, driver: d, nics: [{queues: 2}]}", r"nics\[0\]: model is missing"),
        ("{description: d, driver: d, nics: [{model: x, options: [a]}]}", r"nics\[0\].options is a mapping"),
        ("{description: d, driver: d, swap: {gib: 4}}", "bytes_per_second is missing"),
        ("{description: d, driver: d, xen: {}}", "dom0_mb is missing"),
        ("7", "has no keys"),
    ],
)
def test_a_mistake_is_named_with_its_place(own: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^machines.yaml: two.*{complaint}"):
        read(tmp_path, GOOD + f"  two: {own}\n")


@pytest.mark.parametrize("text", ["machines: [", "", "defaults: {}", "machines: []"])
def test_a_file_without_machines_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"machines\.yaml"):
        read(tmp_path, text)


def test_a_name_stays_a_file_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name is made of"):
        read(tmp_path, GOOD + "  ../two: {description: d, driver: d}\n")


def test_an_unknown_machine_is_told_which_there_are() -> None:
    with pytest.raises(UserError, match=r"called nonesuch; there are virtio-net, "):
        machines.find("nonesuch")


def test_promised_kernels_are_those_that_machines_boot() -> None:
    promised = {(kernel.release, kernel.kernel) for kernel in machines.kernels()}
    assert promised == {(machine.release, machine.kernel) for machine in machines.load().values()}
    assert [kernel.suite for kernel in machines.kernels()] == ["bookworm", "trixie", "trixie-backports"]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("", "no list of `kernels`"),
        ("kernels: [bookworm]", "no list of `kernels`"),
        ("kernels: [{release: bookworm}]", r"kernels\[0\]: architectures is missing"),
        ("kernels: [{release: a, architectures: [b], colour: red}]", "unknown key colour"),
    ],
)
def test_wrong_list_of_kernels_is_one_sentence(more: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "machines.yaml"
    path.write_text(f"{GOOD}\n{more}\n")
    with pytest.raises(UserError, match=complaint):
        machines.kernels(path)
