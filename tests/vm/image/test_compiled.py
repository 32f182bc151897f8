# SPDX-License-Identifier: GPL-2.0-only
import shutil
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import machines
from vm.image import compiled
from vm.machines import Kernel

BOOKWORM = Kernel("bookworm", ())


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configurations, to change."""
    monkeypatch.setattr(compiled, "CONFIGS", shutil.copytree(compiled.CONFIGS, tmp_path / "configs"))
    return tmp_path / "configs"


def test_key_follows_all_that_a_kernel_is_made_of(configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [compiled.key("builtin", BOOKWORM)]
    assert keys[0] == compiled.key("builtin", BOOKWORM)
    for name in ("builtin.config", "init"):
        (configs / name).write_text((configs / name).read_text() + "\n# more\n")
        keys.append(compiled.key("builtin", BOOKWORM))
    monkeypatch.setattr(compiled, "PACKAGES", [*compiled.PACKAGES, "clang"])
    keys.append(compiled.key("builtin", BOOKWORM))
    keys.append(compiled.key("builtin", Kernel("trixie", (), "trixie-backports")))
    assert len({*keys}) == len(keys) == 5
    assert keys[-1].startswith("trixie-backports-builtin-")


def test_unknown_configuration_is_told_which_there_are() -> None:
    with pytest.raises(UserError, match="no configuration of a kernel is called nonesuch; there is builtin"):
        compiled.key("nonesuch", BOOKWORM)


def test_each_machines_configuration_is_there() -> None:
    wanted = [machine for machine in machines.load().values() if machine.config]
    assert wanted
    for machine in wanted:
        assert machine.config and compiled.key(machine.config, BOOKWORM)


def test_lines_that_a_kernel_does_not_take_are_named() -> None:
    wanted = "# Words.\nCONFIG_NET=y\n# CONFIG_EXPERT is not set\nCONFIG_KPROBES=y\n"
    assert compiled.lacking(wanted, "CONFIG_NET=y\nCONFIG_EXPERT=y\n") == [
        "# CONFIG_EXPERT is not set",
        "CONFIG_KPROBES=y",
    ]
    assert compiled.lacking(wanted, wanted) == []


def test_kernel_that_is_there_is_not_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cache", lambda: tmp_path)
    directory = tmp_path / "kernels" / compiled.key("builtin", BOOKWORM)
    directory.mkdir(parents=True)
    said: list[str] = []
    found = compiled.ensure("builtin", BOOKWORM, say=said.append)
    assert (found.kernel, found.initrd, said) == (directory / "vmlinux", directory / "initrd", [])
