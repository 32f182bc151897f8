# SPDX-License-Identifier: GPL-2.0-only
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.errors import UserError
from vm import drivers, variants
from vm.drivers.build import BUILT, Tree, own_file_name
from vm.image import image


class Machine:
    """A guest that says what it was told; a file copied from it is there."""

    machine = SimpleNamespace(driver="virtio_net", name="virtio-net", config=None, foreign=False)

    def __init__(self) -> None:
        self.told: list[str] = []

    def ssh(self, command: str, *, check: bool, **_: object) -> None:
        assert check
        self.told.append(command)

    def copy_to(self, source: Path, target: str) -> None:
        self.told.append(f"{source.read_text()} to {target}")


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is said while modules are built, with an empty cache, from the tools of an image."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tree = tmp_path / "tools"
    (tree / "usr/lib/modules/6.1.0-test").mkdir(parents=True)
    tools = tmp_path / "tools.tar"
    subprocess.run(["tar", "--create", "--file", tools, "--directory", tree, "usr"], check=True)
    # Any ELF file with a section of that name will do.
    kernel = Path("/bin/true").read_bytes().replace(b".interp\0", b".BTF\0\0\0\0")
    (tmp_path / "vmlinux").write_bytes(kernel)
    found = image.Image("key", tmp_path, tmp_path / "vmlinux", tmp_path, tools)
    monkeypatch.setattr(image, "ensure", lambda _: found)

    def build(driver: str, variant: str, tree: Tree) -> Path:
        module = tree.root / f"{driver}.ko"
        module.write_bytes(f"{variant} for {tree.release} with ".encode() + tree.btf.read_bytes()[:4])
        return module

    monkeypatch.setattr(variants, "build_module", build)
    return []


def test_stock_is_put_in_without_a_build(said: list[str]) -> None:
    guest: Any = Machine()
    variants.load(guest, "stock", say=said.append)
    assert (guest.told, said) == (["sudo variant virtio_net stock"], [])


def test_module_is_built_once_and_kept_for_its_image(said: list[str], tmp_path: Path) -> None:
    first: Any = Machine()
    variants.load(first, "patched", say=said.append)
    name = drivers.file_name("virtio_net", "patched")
    there = f"{BUILT}/{name}"
    module = "patched for 6.1.0-test with /lib"
    assert first.told[1:] == [f"{module} to {there}", "sudo variant virtio_net patched"]
    assert [line.split(" in ")[0] for line in said] == ["building virtio_net patched", "built"]
    folder = tmp_path / "rx-stall" / "modules" / "key"
    assert [path.name for path in folder.iterdir()] == [name]
    assert not list((tmp_path / "rx-stall").glob("build-*"))

    second: Any = Machine()
    variants.load(second, "patched", say=said.append)
    assert second.told[1:] == [f"{module} to {there}", "sudo variant virtio_net patched"]
    assert len(said) == 2


def test_module_of_our_own_is_built_once_and_inserted(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_own(name: str, tree: Tree) -> Path:
        module = tree.root / f"{name}.ko"
        module.write_text(f"{name} for {tree.release}")
        return module

    monkeypatch.setattr(variants, "build_own", build_own)
    guest: Any = Machine()
    for _ in range(2):
        variants.insert(guest, "irqs_off", say=said.append)
    there = f"/var/tmp/{own_file_name('irqs_off')}"
    once = [f"irqs_off for 6.1.0-test to {there}", f"test -e /sys/module/irqs_off || sudo insmod {there}"]
    assert guest.told == 2 * once
    assert [line.split(" in ")[0] for line in said] == ["building irqs_off", "built"]


def test_parameters_reach_the_module_but_not_its_build(said: list[str], tmp_path: Path) -> None:
    guest: Any = Machine()
    variants.load(guest, "patched:gso=0", say=said.append)
    assert guest.told[-1] == "sudo variant virtio_net patched:gso=0"
    (kept,) = (tmp_path / "rx-stall" / "modules").rglob("*.ko")
    assert kept.name == drivers.file_name("virtio_net", "patched")


def test_driver_that_is_built_in_has_no_variants(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    guest: Any = Machine()
    monkeypatch.setattr(guest.machine, "config", "builtin")
    with pytest.raises(UserError, match="virtio_net is built into the kernel of virtio-net"):
        variants.load(guest, "patched", say=said.append)
    assert guest.told == []


def test_machine_of_another_architecture_has_only_stock(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest: Any = Machine()
    monkeypatch.setattr(guest.machine, "foreign", True)
    with pytest.raises(UserError, match="the image of virtio-net has no compiler: of virtio_net it has only"):
        variants.load(guest, "patched", say=said.append)
    assert guest.told == []
    variants.load(guest, "stock", say=said.append)
    assert guest.told == ["sudo variant virtio_net stock"]


def test_image_without_a_compiler_says_so() -> None:
    built = image.Image("trixie-1", Path("/disk"), Path("/vmlinux"), Path("/initrd"), tools=None)
    with pytest.raises(UserError, match="the image trixie-1 has no compiler"), variants.tools(built):
        pass


def test_unknown_variant_touches_no_machine(said: list[str]) -> None:
    guest: Any = Machine()
    with pytest.raises(UserError, match="virtio_net has no variant cured"):
        variants.load(guest, "cured", say=said.append)
    assert guest.told == []
