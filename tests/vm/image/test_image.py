# SPDX-License-Identifier: GPL-2.0-only
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm.qemu.test_command import MACHINE
from toolkit.errors import UserError
from vm import drivers, machines
from vm.image import image
from vm.machines import Machine, Xen

Say = Callable[[str], None]


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "box"
    shutil.copytree(image.BOX, copy)
    monkeypatch.setattr(image, "BOX", copy)
    return copy


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/rx-stall"


@pytest.mark.usefixtures("box")
def test_the_key_is_of_content_and_not_of_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = image.key(MACHINE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert image.key(MACHINE) == before
    assert image.key(replace(MACHINE, memory_mb=4096)) == before


def test_key_changes_with_what_an_image_is_made_of(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [image.key(MACHINE), image.key(replace(MACHINE, packages=("fatrace",)))]
    keys.append(image.key(replace(MACHINE, release="trixie")))
    keys.append(image.key(replace(MACHINE, kernel="bookworm-backports")))
    keys.append(image.key(replace(MACHINE, release="trixie", xen=Xen(512))))
    install = box / "install.sh"
    install.write_text(install.read_text() + "\n")
    keys.append(image.key(MACHINE))
    (box / "rootfs/etc/new").write_text("x")
    keys.append(image.key(MACHINE))
    (box / "rootfs/etc/new").chmod(0o755)
    keys.append(image.key(MACHINE))
    monkeypatch.setattr(image, "requirements", lambda: ["typer>=1"])
    keys.append(image.key(MACHINE))
    assert len(set(keys)) == len(keys)


def test_an_image_is_built_once_by_many_who_ask(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    built: list[Path] = []

    def build(_machine: Machine, work: Path, _say: Say) -> None:
        built.append(work)
        time.sleep(0.2)
        (work / "root.qcow2").write_bytes(b"disk")

    monkeypatch.setattr(image, "_build", build)
    found: list[image.Image] = []
    askers = [
        threading.Thread(target=lambda: found.append(image.ensure(MACHINE, say=lambda _: None)))
        for _ in range(3)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(built) == 1
    assert len(set(found)) == 1 and len(found) == 3
    assert found[0].disk.read_bytes() == b"disk"
    image.ensure(MACHINE, force=True, say=lambda _: None)
    assert len(built) == 2
    assert sorted(path.name for path in (cache / "images").iterdir()) == [
        found[0].key,
        f"{found[0].key}.lock",
    ]


def test_a_build_that_fails_leaves_no_image(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def build(_machine: Machine, work: Path, _say: Say) -> None:
        (work / "root.qcow2").write_bytes(b"half")
        raise UserError("mmdebstrap failed.")

    monkeypatch.setattr(image, "_build", build)
    with pytest.raises(UserError, match="mmdebstrap failed"):
        image.ensure(MACHINE, say=lambda _: None)
    assert [path.name for path in (cache / "images").iterdir() if path.is_dir()] == []


def test_prune_keeps_what_is_wanted(cache: Path) -> None:
    for name in ("old", "wanted", ".being-built"):
        (cache / "images" / name).mkdir(parents=True)
    assert image.prune({"wanted"}) == ["old"]
    assert sorted(path.name for path in (cache / "images").iterdir()) == [".being-built", "wanted"]


def test_an_unknown_release_is_one_sentence() -> None:
    with pytest.raises(UserError, match="Release sarge is not known"):
        image.ensure(replace(MACHINE, release="sarge"))


def test_an_unknown_architecture_is_one_sentence() -> None:
    with pytest.raises(UserError, match="Architecture alpha is not known; amd64 and arm64 are"):
        image.ensure(replace(MACHINE, architecture="alpha"))


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_no_mirror_is_written_into_the_recipe(architecture: str) -> None:
    machine = replace(MACHINE, architecture=architecture)
    assert "://" not in " ".join(image._command(machine, Path("w"), Path("w")))


def test_image_of_another_architecture_has_no_compiler() -> None:
    machine = replace(MACHINE, release="trixie", architecture="arm64")
    words = image._command(machine, Path("w"), Path("w"))
    assert "--architectures=arm64" in words and "tools.tar" not in " ".join(words)
    assert not any(
        word.startswith("--architectures") for word in image._command(MACHINE, Path("w"), Path("w"))
    )
    packages = image.packages(machine)
    assert packages[0] == "linux-image-arm64" and not image.BUILDERS & set(packages)
    assert set(image.PACKAGES) >= image.BUILDERS and set(image.PACKAGES) <= set(image.packages(MACHINE))
    # An image is for the machines of its architecture only.
    assert image.key(machine) != image.key(replace(machine, architecture="amd64"))


def test_image_has_what_the_drivers_of_its_machines_need() -> None:
    of_bookworm = image.environment(machines.find("virtio-net"))
    assert of_bookworm == image.environment(machines.find("xen"))
    assert "drivers/staging/qlge" in of_bookworm["SOURCES"].split()
    assert of_bookworm["NIC_MODULES"] == "e100 qlge virtio_net"
    assert of_bookworm["MANAGEMENT"] == "e1000e"
    assert "qlge" not in str(image.environment(machines.find("aoe-trixie")))


def test_one_more_driver_changes_only_the_images_that_are_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> dict[str, str]:
        return {machine.name: image.key(machine) for machine in machines.load().values()}

    before = keys()
    needs = drivers.needs
    more = drivers.Needs(sources=("drivers/net/ethernet/intel/e1000e",))
    monkeypatch.setattr(drivers, "needs", lambda driver: more if driver == "qlge" else needs(driver))
    after = keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {machine.name for machine in machines.load().values() if machine.release == "bookworm"}
