# SPDX-License-Identifier: GPL-2.0-only
"""Builds of a driver under test: which there are, and how one is built and put in, in the machine itself.

A variant of a driver is a patch in the driver's directory here; `stock` is the distribution's own module and
`rebuilt` the same source, built as the variants are: what differs between those two is due to the building.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from toolkit.capture.kernel import bound
from toolkit.errors import UserError
from vm.inside import aoe, xen

HERE = Path(__file__).parent
#: The drivers' sources, of exactly this kernel's version (vm/image/box/sources.txt).
SOURCES = Path("/usr/src/rx-stall")
#: Where a machine keeps what it has built.
BUILT = Path("/var/tmp/rx-stall-variants")
_IFF_UP = 1  # include/uapi/linux/if.h
#: How long devices may take to come back with another module (s).
BACK_SECONDS = 60

#: In which its module may be taken out: who uses it lets go of it, and comes back.
_AWAY = {"aoe": aoe.away, "xen_netback": xen.away}

_WITHOUT_PATCH = {
    "stock": "The distribution's module, untouched.",
    "rebuilt": "The distribution's source, built as the variants are.",
}


def variants(driver: str) -> dict[str, str]:
    """The builds of a driver.

    :return: what each is, in a sentence, by name.
    :raises UserError: if there are none.
    """
    directory = HERE / driver
    if not (directory / "Kbuild").exists():
        known = sorted(path.parent.name for path in HERE.glob("*/Kbuild"))
        raise UserError(f"There are no variants of {driver}; there are some of {', '.join(known)}.")
    patches = {path.stem: path.read_text().splitlines()[1] for path in sorted(directory.glob("*.patch"))}
    return _WITHOUT_PATCH | patches


def split(variant: str) -> tuple[str, list[str]]:
    """:return: of NAME:PARAMETER=VALUE:... the name of the build, and what its module is loaded with."""
    name, *parameters = variant.split(":")
    return name, parameters


def check(driver: str, variant: str) -> None:
    """:raises UserError: if there is no such build of the driver."""
    name, parameters = split(variant)
    if name not in (known := variants(driver)):
        raise UserError(f"{driver} has no variant {name}; it has {', '.join(known)}.")
    if wrong := [each for each in parameters if "=" not in each]:
        raise UserError(f"{wrong[0]} is no PARAMETER=VALUE; a variant is NAME or NAME:PARAMETER=VALUE.")


def file_name(driver: str, variant: str) -> str:
    """:return: a name for a built module that changes with all that it is built from, but for the kernel."""
    name, _ = split(variant)
    parts = [HERE / driver / "Kbuild", HERE / driver / f"{name}.patch", Path(__file__)]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in parts if path.exists())).hexdigest()
    return f"{driver}-{name}-{digest[:12]}.ko"


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


def this_machine() -> Tree:
    """Return the tree that is the testbed machine in which this runs."""
    return Tree(Path("/"), os.uname().release, Path("/sys/kernel/btf/vmlinux"))


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
        _run([*tree.enter, *words], stdin=patch)
        _name_itself(work, name)
    shutil.copy(HERE / driver / "Kbuild", work / "Kbuild")
    # pahole reads the kernel's types from here, to lay the module's own over them; raw BTF will do.
    shutil.copyfile(tree.btf, tree.headers / "vmlinux")
    # Debian's older headers have no resolve_btfids, and these modules nothing for it to resolve. Since
    # 522397d05e7d (2025) it is what writes BTF into a module, and the headers have it.
    resolver = tree.headers / "tools/bpf/resolve_btfids/resolve_btfids"
    without = [] if resolver.exists() else ["RESOLVE_BTFIDS=true"]
    words = ["make", "-C", tree.inside(tree.headers), f"M={tree.inside(work)}", f"-j{os.cpu_count()}"]
    _run([*tree.enter, *words, *without, "modules"])
    _run([*tree.enter, "strip", "--strip-debug", tree.inside(work / f"{driver}.ko")])
    shutil.move(work / f"{driver}.ko", module)
    shutil.rmtree(work)
    return module


def load(driver: str, variant: str) -> None:
    """Puts a variant in the place of the module that is loaded, in a testbed machine, as root.

    Its devices are back and up when this returns.

    :raises UserError: if that fails.
    """
    check(driver, variant)
    name, parameters = split(variant)
    words = ["modprobe", driver] if name == "stock" else ["insmod", build(driver, name, this_machine())]
    before = {device.name for device in bound(driver)}
    with _AWAY.get(driver, nullcontext)():
        if Path("/sys/module", driver).exists():
            _run(["rmmod", driver])
        _run([*words, *parameters])
    # The kernel only logs that it does not know a parameter.
    for each in parameters:
        if not Path("/sys/module", driver, "parameters", each.partition("=")[0]).exists():
            raise UserError(f"{driver} {name} has no parameter {each.partition('=')[0]}.")
    deadline = time.monotonic() + BACK_SECONDS
    while missing := before - {device.name for device in bound(driver) if _is_up(device.name)}:
        if time.monotonic() > deadline:
            raise UserError(
                f"{driver} {variant} is loaded, but {', '.join(sorted(missing))} did not come up."
            )
        # A machine without systemd has nobody who does it when a device comes.
        for name in sorted(name for name in missing if name.startswith("eth") and _is_down(name)):
            _run(["rx-stall-nic", name])
        time.sleep(0.1)


def _is_down(device: str) -> bool:
    """Whether a device is there, and was not brought up."""
    flags = Path("/sys/class/net", device, "flags")
    return flags.exists() and not int(flags.read_text(), 16) & _IFF_UP


def _is_up(device: str) -> bool:
    """Whether a device was brought up and has its link."""
    return Path("/sys/class/net", device, "operstate").read_text().strip() == "up"


def _source(sources: Path, driver: str) -> Path:
    """Return a driver's source: a file, or a directory of them."""
    for pattern in (f"drivers/**/{driver}.c", f"drivers/**/{driver.replace('_', '-')}"):
        for path in sources.glob(pattern):
            return path
    raise UserError(f"{SOURCES} has no source of {driver}; is this a testbed machine whose kernel has it?")


def _name_itself(work: Path, variant: str) -> None:
    """Gives the module a version that says which variant it is; an own version of the driver goes."""
    main = next(path for path in sorted(work.glob("*.c")) if "MODULE_LICENSE" in path.read_text())
    text = re.sub(r"^MODULE_VERSION\(.*\);\n", "", main.read_text(), flags=re.MULTILINE)
    main.write_text(f'{text}MODULE_VERSION("variant:{variant}");\n')


def _run(words: Sequence[str | Path], stdin: Path = Path(os.devnull)) -> None:
    with stdin.open() as file:
        done = subprocess.run(words, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        # Of make's errors the first ones tell; those after them only say that there were some.
        lines = [line for line in done.stdout.splitlines() if not re.match(r"make(\[\d+\])?: ", line)]
        said = [line for line in lines if "rror" in line] or lines
        raise UserError(f"{words[0]} failed with status {done.returncode}: {' | '.join(said[-3:])}")
