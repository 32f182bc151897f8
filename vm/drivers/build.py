# SPDX-License-Identifier: GPL-2.0-only
"""Build a variant of a driver, or a module of our own: in a machine, or on the host with an image's tools."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from vm.drivers import HERE, check, file_name, split

#: The drivers' sources, of exactly this kernel's version (testbed.toml lists them).
SOURCES = Path("/usr/src/rx-stall")
#: Modules that are no builds of a driver, each a directory.
MODULES = HERE.parent / "modules"
#: Where a machine keeps what it has built.
BUILT = Path("/var/tmp/rx-stall-variants")


@dataclass(frozen=True)
class Tree:
    """Where modules are built: a testbed machine itself, or the tools of its image, unpacked on the host.

    :param root: of the tree.
    :param release: of the kernel to build for.
    :param btf: a file with the types of that kernel.
    :param enter: words that run a command in the tree.
    """

    root: Path
    release: str
    btf: Path
    enter: tuple[str, ...] = ()

    @property
    def headers(self) -> Path:
        """The kernel's headers, below the root."""
        return self.root / "usr/src" / f"linux-headers-{self.release}"

    def inside(self, path: Path) -> str:
        """Return what a path of ours is called in the tree."""
        return f"/{path.relative_to(self.root)}"


def build(driver: str, variant: str, tree: Tree) -> Path:
    """Build a variant of a driver.

    The module has BTF, without which the tracer could not find the members of its structs, and names itself:
    its version is ``variant:NAME``, but for `rebuilt`, which stays the same source.

    :return: the module, kept in the tree's BUILT.
    :raises UserError: if the kernel's source is not there or it does not compile.
    """
    check(driver, variant)
    name, _ = split(variant)
    built = tree.root / BUILT.relative_to("/")
    module = built / file_name(driver, name)
    if module.exists():
        return module
    sources = tree.root / SOURCES.relative_to("/")
    source = _source(sources, driver)
    work = built / "work" / driver
    shutil.rmtree(work, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, work)
    else:
        work.mkdir(parents=True)
        shutil.copy(source, work)
    patch = HERE / driver / f"{name}.patch"
    if patch.exists():
        inside = source.relative_to(sources) if source.is_dir() else source.parent.relative_to(sources)
        strip = len(inside.parts) + 1
        words = ["patch", "--directory", tree.inside(work), f"--strip={strip}", "--fuzz=0"]
        run([*tree.enter, *words], stdin=patch)
        _name_itself(work, name, (HERE / driver / "Kbuild").read_text().split())
    shutil.copy(HERE / driver / "Kbuild", work / "Kbuild")
    _make(work, driver, tree, module)
    return module


def build_own(name: str, tree: Tree) -> Path:
    """Build a module of our own, which is in MODULES.

    :return: the module, kept in the tree's BUILT.
    :raises UserError: if it does not compile.
    """
    built = tree.root / BUILT.relative_to("/")
    module = built / own_file_name(name)
    work = built / "work" / name
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(MODULES / name, work)
    _make(work, name, tree, module)
    return module


def own_file_name(name: str) -> str:
    """Return the name of the file of a built module of our own; it changes with its sources."""
    parts = [*sorted((MODULES / name).iterdir()), HERE / "build.py"]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in parts)).hexdigest()
    return f"{name}-{digest[:12]}.ko"


def _make(work: Path, name: str, tree: Tree, module: Path) -> None:
    """Compile what is in a directory of the tree, with BTF; the directory goes.

    :param name: of the module that its Kbuild makes.
    :param module: where the module is kept.
    """
    # pahole reads the kernel's types from here, to lay the module's own over them; raw BTF will do.
    shutil.copyfile(tree.btf, tree.headers / "vmlinux")
    # Debian's older headers have no resolve_btfids, and these modules nothing for it to resolve. Since
    # 522397d05e7d (2025) it is what writes BTF into a module, and the headers have it.
    resolver = tree.headers / "tools/bpf/resolve_btfids/resolve_btfids"
    without = [] if resolver.exists() else ["RESOLVE_BTFIDS=true"]
    words = ["make", "-C", tree.inside(tree.headers), f"M={tree.inside(work)}", f"-j{os.cpu_count()}"]
    run([*tree.enter, *words, *without, "modules"])
    run([*tree.enter, "strip", "--strip-debug", tree.inside(work / f"{name}.ko")])
    shutil.move(work / f"{name}.ko", module)
    shutil.rmtree(work)


def _source(sources: Path, driver: str) -> Path:
    """Return a driver's source: a file, or a directory of them."""
    for pattern in (f"drivers/**/{driver}.c", f"drivers/**/{driver.replace('_', '-')}"):
        for path in sources.glob(pattern):
            return path
    raise UserError(f"{SOURCES} has no source of {driver}; is this a testbed machine whose kernel has it?")


def _name_itself(work: Path, variant: str, words: Sequence[str]) -> None:
    """Gives the module a version that says which variant it is; an own version of the driver goes.

    :param words: of its Kbuild: other drivers may have their source in the same directory.
    """
    own = [path for path in sorted(work.glob("*.c")) if f"{path.stem}.o" in words]
    main = next(path for path in own if "MODULE_LICENSE" in path.read_text())
    text = re.sub(r"^MODULE_VERSION\(.*\);\n", "", main.read_text(), flags=re.MULTILINE)
    main.write_text(f'{text}MODULE_VERSION("variant:{variant}");\n')


def run(words: Sequence[str | Path], stdin: Path = Path(os.devnull)) -> None:
    """Run a command.

    :raises UserError: if it fails, with what it said of errors.
    """
    with stdin.open() as file:
        done = subprocess.run(words, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        # Of make's errors the first ones tell; those after them only say that there were some.
        lines = [line for line in done.stdout.splitlines() if not re.match(r"make(\[\d+\])?: ", line)]
        said = [line for line in lines if "rror" in line] or lines
        raise UserError(f"{words[0]} failed with status {done.returncode}: {' | '.join(said[-3:])}")
