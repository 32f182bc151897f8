# SPDX-License-Identifier: GPL-2.0-only
"""Packages are made here, with a kernel of a few functions; real ones are read by `make matrix`."""

import io
import lzma
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from tests.toolkit.capture import test_elf, test_kallsyms
from tests.toolkit.capture.test_btf import SMALL
from toolkit.capture import elf, packages
from toolkit.errors import UserError

RELEASE = "6.12.118+deb13-arm64"
#: An Image of arm64, with tables of its functions and with types.
IMAGE = (
    b"MZ"
    + bytes(0x36)
    + b"ARMd"
    + bytes(64)
    + test_kallsyms.image(["Twarn_alloc", *test_kallsyms.NAMES], align=8)
    + SMALL
    + bytes(64)
)
MODULE = test_elf.module("try_fill_recv")
KERNEL = {f"boot/vmlinuz-{RELEASE}": IMAGE}
MODULES = {
    f"usr/lib/modules/{RELEASE}/kernel/drivers/net/virtio_net.ko.xz": lzma.compress(MODULE),
    f"usr/lib/modules/{RELEASE}/kernel/drivers/net/xen-netback/xen-netback.ko": MODULE,
    f"usr/lib/modules/{RELEASE}/kernel/drivers/net/e1000e.ko": b"not asked for",
    f"usr/lib/modules/{RELEASE}/modules.builtin": b"kernel/drivers/virtio/virtio-ring.ko\n",
    "usr/share/doc/changelog": b"text",
}


def _tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _member(name: str, data: bytes) -> bytes:
    return (
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        + data
        + b"\n" * (len(data) % 2)
    )


def deb(path: Path, package: str, files: dict[str, bytes], *, pack: str = "xz") -> Path:
    """Make a Debian package (deb(5))."""
    about = f"Package: {package}\nVersion: 1\nArchitecture: arm64\n".encode()
    data = _tar(files)
    packed = lzma.compress(data) if pack == "xz" else bytes(pa.compress(data, "zstd", asbytes=True))
    path.write_bytes(
        b"!<arch>\n"
        + _member("debian-binary", b"2.0\n")
        + _member("control.tar.xz", lzma.compress(_tar({"control": about})))
        + _member(f"data.tar.{pack}", packed)
    )
    return path


def _read(*paths: Path) -> list[packages.PackedKernel]:
    said: list[str] = []
    found = packages.read(
        paths, {"virtio_net", "xen_netback"}, {"warn_alloc", "napi_disable", "gone"}, said.append
    )
    assert all(line.startswith("reading ") for line in said)
    return found


@pytest.mark.parametrize("pack", ["xz", "zst"])
def test_kernel_is_read_whole_from_one_package(pack: str, tmp_path: Path) -> None:
    (kernel,) = _read(deb(tmp_path / "a.deb", "linux-image-6", KERNEL | MODULES, pack=pack))
    assert (kernel.release, kernel.architecture) == (RELEASE, "arm64")
    assert kernel.functions == frozenset({"warn_alloc", "napi_disable"})
    assert kernel.btf == SMALL
    assert kernel.built_in == {"virtio_ring"}
    assert {name: elf.functions(module) for name, module in kernel.modules.items()} == {
        "virtio_net": {"try_fill_recv"},
        "xen_netback": {"try_fill_recv"},
    }
    assert [path.name for path in tmp_path.iterdir()] == ["a.deb"]


def test_kernel_may_be_in_two_packages_of_a_directory(tmp_path: Path) -> None:
    deb(tmp_path / "a.deb", "linux-binary-7", KERNEL)
    deb(tmp_path / "b.deb", "linux-modules-7", MODULES)
    deb(tmp_path / "c.deb", "linux-image-7-dbg", {"x": b"not read"})
    deb(tmp_path / "d.deb", "linux-headers-7", {"x": b"not read"})
    (kernel,) = _read(tmp_path)
    assert kernel.functions and kernel.modules


@pytest.mark.parametrize(
    ("files", "lacking"),
    [(KERNEL, "has the modules of 6.12.118"), (MODULES, "has the image .vmlinuz. of 6.12")],
)
def test_half_a_kernel_is_one_sentence(files: dict[str, bytes], lacking: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no package given {lacking}.*; give that package, too"):
        _read(deb(tmp_path / "a.deb", "linux-image-6", files))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"text", r"a\.deb: this is no Debian package"),
        (b"!<arch>\n" + _member("debian-binary", b"2.0\n"), r"a\.deb: this Debian package has no files"),
        (
            b"!<arch>\n" + _member("data.tar.xz", lzma.compress(_tar(MODULES))[:-200]),
            r"a\.deb cannot be read as a Debian package",
        ),
    ],
)
def test_file_that_is_no_package_is_one_sentence(data: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(data)
    with pytest.raises(UserError, match=sentence):
        _read(tmp_path / "a.deb")


def test_package_without_a_kernel_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.deb does not exist"):
        _read(tmp_path / "none.deb")
    with pytest.raises(UserError, match=r"no \.deb file is in "):
        _read(tmp_path)
    other = deb(tmp_path / "a.deb", "hello", {"usr/bin/hello": b"x"})
    with pytest.raises(UserError, match=r"a\.deb has no part of a kernel"):
        _read(other)
    with pytest.raises(UserError, match="no package with a kernel in "):
        _read(tmp_path)


def test_module_without_types_is_one_sentence() -> None:
    kernel = packages.PackedKernel(RELEASE, "arm64", modules={"aoe": MODULE})
    with pytest.raises(UserError, match="module aoe carries no BTF"):
        packages.module_types(kernel, "aoe")
    typed = packages.PackedKernel(RELEASE, "arm64", modules={"aoe": test_elf.build(BTF=b"types")})
    assert packages.module_types(typed, "aoe") == b"types"
