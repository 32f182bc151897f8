# SPDX-License-Identifier: GPL-2.0-only
import os
import subprocess
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import machines
from vm.qemu import emulator
from vm.qemu.files import Files
from vm.vagrant import processes


@pytest.fixture
def files(tmp_path: Path) -> Files:
    directory = tmp_path / "d"
    directory.mkdir()
    return Files(directory)


def test_model_for_a_libvirt_leaves_a_command(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator, "ensure", lambda copy: ["env", f"AT={copy}", "sh", "-c", 'echo "$AT $1"'])
    machine = machines.find("qlge")
    processes.up(machine, files)
    pids = (files.directory / "models").read_text()
    try:
        assert files.device(0).stat().st_mode & 0o777 == 0o666
        said = subprocess.run(
            [files.directory / "qemu", "0", "a b"], capture_output=True, text=True, check=True
        )
        assert said.stdout == f"{files.directory}/tree a b\n"
        processes.up(machine, files)
        assert (files.directory / "models").read_text() == pids
    finally:
        processes.down(files)
    assert not files.directory.exists()
    processes.down(Files(tmp_path / "nothing"))


def test_others_may_pass_to_a_machines_sockets_but_list_nothing(tmp_path: Path) -> None:
    found = Files(tmp_path / "of-user" / "checkout" / "virtio-net")
    for _ in range(2):
        processes.prepare(found)
    modes = [path.stat().st_mode & 0o7777 for path in (found.directory, *list(found.directory.parents)[:2])]
    assert modes == [0o3777, 0o711, 0o711]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_directory_of_the_user_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    if kind == "link":
        (tmp_path / "of-user").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "of-user").touch()
    with pytest.raises(UserError, match="of-user is not a directory of yours"):
        processes.prepare(Files(tmp_path / "of-user" / "checkout" / "virtio-net"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_directory_is_of_the_user_the_checkout_and_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = processes.files("aoe").directory
    assert directory.parent.parent == Path(f"/tmp/rx-stall-{os.getuid()}")
    assert directory.name == "aoe"
