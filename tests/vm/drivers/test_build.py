# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import drivers
from vm.drivers import build


def test_source_of_a_driver_is_a_file_or_a_directory(tmp_path: Path) -> None:
    (tmp_path / "drivers/net/xen-netback").mkdir(parents=True)
    (tmp_path / "drivers/net/virtio_net.c").touch()
    assert build._source(tmp_path, "virtio_net") == tmp_path / "drivers/net/virtio_net.c"
    assert build._source(tmp_path, "xen_netback") == tmp_path / "drivers/net/xen-netback"
    with pytest.raises(UserError, match="has no source of qlge"):
        build._source(tmp_path, "qlge")


def test_module_says_which_variant_it_is(tmp_path: Path) -> None:
    (tmp_path / "help.c").write_text("int help;\n")
    main = tmp_path / "main.c"
    main.write_text('MODULE_LICENSE("GPL");\nMODULE_VERSION("85");\n')
    # Of another module, whose source is in the same directory.
    (tmp_path / "also.c").write_text('MODULE_LICENSE("GPL");\n')
    build._name_itself(tmp_path, "patched", ["obj-m", ":=", "both.o", "both-objs", ":=", "help.o", "main.o"])
    assert main.read_text() == 'MODULE_LICENSE("GPL");\nMODULE_VERSION("variant:patched");\n'
    assert "VERSION" not in (tmp_path / "also.c").read_text()


def test_module_that_is_there_is_not_built_again(tmp_path: Path) -> None:
    tree = build.Tree(tmp_path, "6.1.0-test", tmp_path / "btf", ("false",))
    module = tmp_path / build.BUILT.relative_to("/") / drivers.file_name("qlge", "unfixed")
    module.parent.mkdir(parents=True)
    module.touch()
    assert build.build("qlge", "unfixed", tree) == module


def test_module_of_our_own_is_made_from_its_directory(tmp_path: Path) -> None:
    """What it says when it does not compile shows where it was: in a copy."""
    tree = build.Tree(
        tmp_path, "6.1.0-test", tmp_path / "btf", ("sh", "-c", 'echo "error: $*"; exit 2', "in")
    )
    tree.btf.write_bytes(b"types")
    tree.headers.mkdir(parents=True)
    with pytest.raises(UserError, match=r"error: make .* M=/var/tmp/rx-stall-variants/work/irqs_off "):
        build.build_own("irqs_off", tree)
    work = tmp_path / build.BUILT.relative_to("/") / "work/irqs_off"
    assert {path.name for path in work.iterdir()} == {"Kbuild", "irqs_off.c"}
    assert (tree.headers / "vmlinux").read_bytes() == b"types"


def test_built_module_of_our_own_is_named_by_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MODULES", tmp_path)
    (tmp_path / "one").mkdir()
    names = []
    for text in ("int a;", "int b;", "int b;"):
        (tmp_path / "one" / "one.c").write_text(text)
        names.append(build.own_file_name("one"))
    assert names[0] != names[1] == names[2]
    assert names[0].startswith("one-")


def test_paths_of_a_tree_are_those_inside_it(tmp_path: Path) -> None:
    tree = build.Tree(tmp_path, "6.1.0-test", tmp_path / "btf")
    assert tree.inside(tree.headers) == "/usr/src/linux-headers-6.1.0-test"


def test_compiler_that_fails_says_what_was_wrong() -> None:
    script = "echo main.c:1: error: no such thing; echo make: *** [main.o] Error 1; exit 2"
    with pytest.raises(UserError, match=r"sh failed with status 2: main.c:1: error: no such thing$"):
        build.run(["sh", "-c", script])
