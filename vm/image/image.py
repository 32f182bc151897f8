# SPDX-License-Identifier: GPL-2.0-only
"""Build the machines' disk image from Debian packages, as root or as a normal user.

The image is cached under a key made of everything that goes into it: a changed recipe is a new image, and an
unchanged one is never built twice.
"""

import hashlib
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit.capture import vmlinux
from toolkit.errors import UserError
from vm import drivers, machines
from vm.cmd import cmd
from vm.image import compiled, debian, foreign
from vm.machines import ARCHITECTURES, Kernel, Machine
from vm.paths import CHECKOUT, cache

BOX = Path(__file__).parent / "box"
SIZE = "8G"

# The interpreter of each release, for the wheels that the host fetches: the machine has no network.
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}

# What every machine has.
PACKAGES = [
    word
    for line in (BOX / "packages.txt").read_text().splitlines()
    for word in line.partition("#")[0].split()
]


# What builds variants of a driver. A compiler of another architecture would be emulated: its image has none.
BUILDERS = {"linux-headers-amd64", "linux-source", "make", "patch", "dwarves"}

# What builds a kernel module, as arguments of tar: all of the image but what is large and has no part in it.
TOOLS = [
    *(
        f"--exclude={pattern}"
        for pattern in ("modules/*/kernel", "python3*", "lto*", "perl*", "lib*san.*", "firmware")
    ),
    *(
        f"--exclude={pattern}"
        for pattern in ("libLLVM*", "llvm-*", "libclang*", "libicu*", "libz3*", "librbd*", "ceph")
    ),
    *(f"--exclude=usr/lib/{name}" for name in ("systemd", "udev", "xen-*", "git-core")),
    *(
        "bin",
        "lib",
        "lib64",
        "sbin",
        "etc/alternatives",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/sbin",
        "usr/src",
    ),
]

# And what is of one release: gcc 14 has the compiler proper there, gcc 12 in usr/lib.
TOOLS_OF = {"trixie": ["usr/libexec/gcc"]}


@dataclass(frozen=True)
class Image:
    """A finished image, ready for a direct kernel boot.

    :param kernel: vmlinux, which the machine need not unpack, and which has the kernel's types.
    :param tools: a tar archive of what builds modules in it: compiler, kernel headers, drivers' sources; None
        in an image of another architecture.
    """

    key: str
    disk: Path
    kernel: Path
    initrd: Path
    tools: Path | None
    hypervisor: Path | None = None


def requirements() -> list[str]:
    """What the toolkit needs in its virtual environment, from ``pyproject.toml``."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return sorted([*project["dependencies"], *project["optional-dependencies"]["vm"]])


def packages(machine: Machine) -> list[str]:
    """Return the Debian packages of a machine's image, which all share that boot it."""
    suite = f"/{machine.kernel}" if machine.kernel else ""
    more = {package for each in _sharers(machine) for package in each.packages}
    every = [each for each in PACKAGES if not (machine.foreign and each in BUILDERS)]
    ours = [each.replace("-amd64", f"-{machine.architecture}") for each in every]
    return [*(f"{each}{suite}" if each.startswith("linux-") else each for each in ours), *sorted(more)]


def environment(machine: Machine) -> dict[str, str]:
    """Return what install.sh is told of the drivers that machines of the same image are for."""
    sharers = _sharers(machine)
    needs = [drivers.needs(driver) for driver in {each.driver for each in sharers}]
    words = {
        "SOURCES": {path for need in needs for path in need.sources},
        "NIC_MODULES": {module for need in needs for module in need.nic_modules},
        "MANAGEMENT": {each.management for each in sharers},
    }
    return {name: " ".join(sorted(values)) for name, values in words.items()}


def _sharers(machine: Machine) -> list[Machine]:
    """Return the machines that boot the same image, this one among them."""
    others = [each for each in machines.load().values() if each.name != machine.name]
    return [machine, *(each for each in others if _system(each) == _system(machine))]


def _system(machine: Machine) -> tuple[str, str | None, str]:
    """Return what machines of one image have in common."""
    return machine.release, machine.kernel, machine.architecture


def key(machine: Machine) -> str:
    """A name for the image that changes with everything it is made of."""
    digest = hashlib.sha256("\0".join(_command(machine, Path("work"), Path("wheels"))).encode())
    digest.update(Path(vmlinux.__file__).read_bytes())
    files = [
        BOX / "install.sh",
        BOX / "ramdisk.sh",
        *(BOX / "ramdisk").rglob("*"),
        *(BOX / "initramfs").rglob("*"),
        *(BOX / "rootfs").rglob("*"),
    ]
    for path in sorted(files):
        if path.is_file():
            digest.update(f"{path.relative_to(BOX)} {path.stat().st_mode & 0o111:o}\0".encode())
            digest.update(path.read_bytes())
    return f"{machine.release}-{digest.hexdigest()[:12]}"


def ensure(machine: Machine, *, force: bool = False, say: Callable[[str], None] | None = None) -> Image:
    """The machine's image, built first if it is not in the cache; and its kernel, if that is compiled here.

    :param machine: what to build for.
    :param force: build it anew.
    :param say: is told of progress, a line at a time.
    :return: the image.
    :raises UserError: if it cannot be built.
    """
    say = say or debian.stderr
    name = key(machine)
    directory = cache() / "images" / name
    if machine.release not in PYTHON:
        raise UserError(f"Release {machine.release} is not known; {' and '.join(PYTHON)} are.")
    if machine.architecture not in ARCHITECTURES:
        known = " and ".join(ARCHITECTURES)
        raise UserError(f"Architecture {machine.architecture} is not known; {known} are.")
    debian.once(
        directory,
        lambda work: _build(machine, work, say),
        what=f"the image {name}",
        force=force,
        say=say,
    )
    kernel, initrd = directory / "vmlinux", directory / "initrd"
    if machine.config:
        own = compiled.ensure(
            machine.config, Kernel(machine.release, (), machine.kernel), force=force, say=say
        )
        kernel, initrd = own.kernel, own.initrd
    return Image(
        name,
        directory / "root.qcow2",
        kernel,
        initrd,
        None if machine.foreign else directory / "tools.tar",
        directory / "xen" if _has_hypervisor(machine) else None,
    )


def layer(image: Image, path: Path) -> None:
    """Make a disk that begins as an image's and keeps what is written to it; the image stays as it is."""
    cmd(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.disk.resolve(), path])


def _has_hypervisor(machine: Machine) -> bool:
    return any(each.xen for each in _sharers(machine))


def prune(keep: set[str]) -> list[str]:
    """Delete images that no machine of this checkout would use.

    :param keep: keys to keep.
    :return: the keys of the images that were deleted.
    """
    images = cache() / "images"
    # A hidden one is being built.
    old = [path for path in sorted(images.glob("[!.]*")) if path.is_dir() and path.name not in keep]
    for path in old:
        shutil.rmtree(path)
    return [path.name for path in old]


def _build(machine: Machine, work: Path, say: Callable[[str], None]) -> None:
    command = _command(machine, work, _wheels(machine.release, machine.architecture, say))
    before = foreign.words(machine.architecture, say)
    debian.mmdebstrap([*command, *debian.sources(machine.release)], say, cwd=BOX.parent, before=before)
    (work / "vmlinux").write_bytes(vmlinux.extract((work / "vmlinuz").read_bytes(), "vmlinuz"))
    (work / "vmlinuz").unlink()


def _command(machine: Machine, work: Path, wheels: Path) -> list[str]:
    """mmdebstrap's arguments, but for those that follow from who builds and from where the packages come."""
    install = ["env", *(f"{name}={words}" for name, words in environment(machine).items())]
    install += ["/opt/box/install.sh", "/opt/box/rootfs", "/opt/wheels", "--", *requirements()]
    # A bind mount shows the tree without the /proc, /sys and /dev that mmdebstrap mounts in it.
    populate = (
        f'{debian.PRIVATE}mount --bind "$1" "$1.tree" && exec mke2fs -q -F -t ext4 -d "$1.tree" "$1.raw"'
    )
    own_mounts = "unshare --mount --propagation unchanged"
    tools = shlex.join([*TOOLS, *TOOLS_OF.get(machine.release, [])])
    hooks = [
        ("essential", 'mkdir "$1"/opt/box'),
        ("essential", f"sync-in {BOX.name} /opt/box"),
        # The initramfs is made when the kernel is installed: its configuration has to be there before.
        ("essential", 'chroot "$1" cp -r --no-preserve=all /opt/box/initramfs/. /'),
        ("essential", 'chmod 755 "$1"/etc/initramfs-tools/hooks/rx-stall'),
        ("customize", f"copy-in {shlex.quote(str(wheels))} /opt"),
        ("customize", f'chroot "$1" {shlex.join(install)}'),
        ("customize", 'chroot "$1" sh /opt/box/ramdisk.sh /ramdisk'),
        (
            "customize",
            'rm -rf "$1"/opt/box "$1"/opt/wheels "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin',
        ),
        ("customize", f'echo {machine.release} > "$1"/etc/rx-stall-release; : > "$1"/etc/resolv.conf'),
        ("customize", 'echo testbed > "$1"/etc/hostname; echo 127.0.0.1 localhost testbed > "$1"/etc/hosts'),
        ("customize", f'truncate -s {SIZE} "$1.raw"; mkdir "$1.tree"'),
        ("customize", f'{own_mounts} sh -c {shlex.quote(populate)} sh "$1" && rmdir "$1.tree"'),
        ("customize", 'qemu-img convert -O qcow2 "$1.raw" "$1/disk"; rm "$1.raw"'),
        ("customize", 'cp "$1"/boot/vmlinuz-* "$1/kernel"'),
    ]
    files = {"disk": "root.qcow2", "kernel": "vmlinuz", "ramdisk": "initrd"}
    if not machine.foreign:
        hooks.append(("customize", f'tar --create --file "$1/tools" --directory "$1" {tools}'))
        files["tools"] = "tools.tar"
    if _has_hypervisor(machine):
        hooks.append(("customize", 'gunzip --stdout "$1"/boot/xen-*.gz >"$1/hypervisor"'))
        files["hypervisor"] = "xen"
    for inside, outside in files.items():
        hooks.append(("customize", f"download /{inside} {shlex.quote(str(work / outside))}"))
    words = ["--variant=apt", "--format=null", f"--include={','.join(packages(machine))}"]
    if machine.kernel:
        words.append(debian.laid_over(machine.release, machine.kernel))
    if machine.foreign:
        # mmdebstrap looks for an emulator that is installed; ours is not (vm/image/foreign.py).
        words += [f"--architectures={machine.architecture}", "--skip=check/qemu"]
    return [*words, *(f"--{stage}-hook={hook}" for stage, hook in hooks), machine.release, "-"]


def _wheels(release: str, architecture: str, say: Callable[[str], None]) -> Path:
    """Fetch the wheels of the toolkit's requirements for a release's interpreter; kept in the cache."""
    python, machine = PYTHON[release], ARCHITECTURES[architecture]
    name = hashlib.sha256("\n".join(requirements()).encode()).hexdigest()[:12]
    directory = cache() / "wheels" / f"{python}-{machine}-{name}" / "wheels"
    what = f"a directory of wheels for Python {python} and {machine}"
    debian.once(directory, lambda work: _download(python, machine, work), what=what, force=False, say=say)
    return directory


def _download(python: str, machine: str, work: Path) -> None:
    platforms = [f"manylinux{version}_{machine}" for version in ("_2_28", "_2_17", "2014")]
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    words += ["--only-binary=:all:", f"--python-version={python}", "--dest", str(work)]
    cmd([*words, *(f"--platform={each}" for each in platforms), *requirements()])
    work.chmod(0o755)
