# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in Debian packages: read without installing, booting or unpacking them on a disk."""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from toolkit.capture import elf, kallsyms, vmlinux
from toolkit.errors import UserError

Say = Callable[[str], None]

#: Packages that have parts of a kernel: by their name, in a directory of many.
_PARTS = re.compile(r"linux-(image|binary|modules)-(?!.*-dbg$)")
_MODULE = re.compile(r"(?:usr/)?lib/modules/([^/]+)/(?:.*/)?([^/]+)\.ko(\.xz|\.zst|\.gz|)")
_BUILT_IN = re.compile(r"(?:usr/)?lib/modules/([^/]+)/modules\.builtin")
_IMAGE = re.compile(r"boot/vmlinu[xz]-(.+)|(?:usr/)?lib/modules/([^/]+)/vmlinu[xz]")
#: What begins a BTF of the kernel: struct btf_header, little-endian, version 1, no flags.
_BTF = b"\x9f\xeb\x01\x00\x18\0\0\0"


@dataclass
class PackedKernel:
    """A kernel, made of one package or several.

    :param architecture: as Debian calls it.
    :param functions: of the kernel itself, of those that were asked for; None if no package has its image.
    :param btf: its types; empty if it has none.
    :param modules: those that were asked for, each an ELF file.
    :param built_in: the modules that are part of the kernel itself.
    :param has_modules: whether a package has any module.
    """

    release: str
    architecture: str
    functions: frozenset[str] | None = None
    btf: bytes = b""
    modules: dict[str, bytes] = field(default_factory=dict)
    built_in: frozenset[str] = frozenset()
    has_modules: bool = False


def read(
    paths: Sequence[Path], modules: Collection[str], functions: Collection[str], say: Say
) -> list[PackedKernel]:
    """Read the kernels in Debian packages.

    :param paths: packages, and directories of packages, of which only those with parts of a kernel are read.
    :param modules: those to keep, with underscores.
    :param functions: those of the kernel itself to keep.
    :param say: is told of progress, a line at a time.
    :return: kernels in the order of their first package.
    :raises UserError: if a file is no such package, or a kernel is not whole.
    """
    files = [(file, path.is_dir()) for path in paths for file in _files(path)]
    kernels: dict[tuple[str, str], PackedKernel] = {}
    for number, (file, from_directory) in enumerate(files, 1):
        with _readable(file), file.open("rb") as stream:
            package, architecture = _control(file, stream)
            if from_directory and not _PARTS.match(package):
                continue
            say(f"reading {file.name} ({number} of {len(files)})")
            found = False
            for name, content in _contents(stream):
                found |= _keep(name, content, architecture, kernels, modules, functions)
        if not found and not from_directory:
            raise UserError(f"{file} has no part of a kernel; give a package with an image or its modules.")
    if not kernels:
        raise UserError(
            f"no package with a kernel in {', '.join(map(str, paths))}; "
            "get one (Debian: apt-get download linux-image-RELEASE)."
        )
    for kernel in kernels.values():
        _require_whole(kernel)
    return list(kernels.values())


def _files(path: Path) -> list[Path]:
    """Return the packages that a path names.

    :raises UserError: if there are none.
    """
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{path} does not exist.")
        return [path]
    files = sorted(path.glob("*.deb"))
    if not files:
        raise UserError(f"no .deb file is in {path}.")
    return files


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what a damaged file makes of its readers into one sentence."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (OSError, EOFError, ValueError, lzma.LZMAError, tarfile.TarError) as error:
        raise UserError(f"{file} cannot be read as a Debian package ({error}).") from None


def _control(file: Path, stream: IO[bytes]) -> tuple[str, str]:
    """Return a package's name and architecture, and leave the stream where its files are.

    :raises UserError: if the file is no Debian package.
    """
    if stream.read(8) != b"!<arch>\n":
        raise UserError("this is no Debian package.")
    fields: dict[str, str] = {}
    while len(header := stream.read(60)) == 60:
        name, size = header[:16].decode().strip(" /"), int(header[48:58])
        after = stream.tell() + size + size % 2
        if name.startswith("data.tar"):
            stream.seek(-60, 1)
            break
        if name.startswith("control.tar"):
            for path, content in _tar(stream, name):
                if path == "control":
                    text = content().decode()
                    fields = dict(re.findall(r"^(Package|Architecture): *(.+)$", text, re.MULTILINE))
        stream.seek(after)
    else:
        raise UserError("this Debian package has no files.")
    return fields.get("Package", file.stem), fields.get("Architecture", "unknown")


def _contents(stream: IO[bytes]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the name of each file of a package, and what reads it, up to the next."""
    name = stream.read(60)[:16].decode().strip(" /")
    return _tar(stream, name)


def _tar(stream: IO[bytes], name: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    suffix = name.rpartition(".tar")[2].removeprefix(".")
    source: Any = stream
    if suffix == "zst":
        import pyarrow as pa

        source, suffix = pa.CompressedInputStream(stream, "zstd"), ""
    mode: Any = f"r|{suffix}"
    with tarfile.open(fileobj=source, mode=mode) as tar:
        for member in tar:
            if member.isfile():

                def content(of: tarfile.TarInfo = member) -> bytes:
                    file = tar.extractfile(of)
                    return file.read() if file else b""

                yield member.name.removeprefix("./"), content


def _keep(
    name: str,
    content: Callable[[], bytes],
    architecture: str,
    kernels: dict[tuple[str, str], PackedKernel],
    modules: Collection[str],
    functions: Collection[str],
) -> bool:
    """Keep what is needed of one file of a package; return whether the file is part of a kernel."""

    def kernel(release: str) -> PackedKernel:
        return kernels.setdefault((release, architecture), PackedKernel(release, architecture))

    if match := _MODULE.fullmatch(name):
        release, module, suffix = match.groups()
        kernel(release).has_modules = True
        if (module := module.replace("-", "_")) in modules:
            kernel(release).modules[module] = _unpacked(content(), suffix)
    elif match := _BUILT_IN.fullmatch(name):
        paths = content().decode().splitlines()
        kernel(match[1]).built_in = frozenset(Path(path).stem.replace("-", "_") for path in paths)
    elif match := _IMAGE.fullmatch(name):
        found = kernel(match[1] or match[2])
        image = vmlinux.extract(content(), name)
        found.functions = kallsyms.functions(image) & frozenset(functions)
        found.btf = _types(image)
    else:
        return False
    return True


def _unpacked(data: bytes, suffix: str) -> bytes:
    match suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case ".zst":
            import pyarrow as pa

            return bytes(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read())
    return data


def _types(kernel: bytes) -> bytes:
    """Return the BTF in an unpacked kernel, which has no table of sections on some architectures.

    :return: empty if there is none.
    """
    place = kernel.find(_BTF)
    while place >= 0:
        # type_off, type_len, str_off, str_len: of a whole kernel they are large, and one follows the other.
        offsets = [int.from_bytes(kernel[place + at : place + at + 4], "little") for at in (8, 12, 16, 20)]
        if offsets[0] == 0 and offsets[1] == offsets[2] > 0 and place + 24 + sum(offsets[2:]) <= len(kernel):
            return kernel[place : place + 24 + sum(offsets[2:])]
        place = kernel.find(_BTF, place + 1)
    return b""


def _require_whole(kernel: PackedKernel) -> None:
    if kernel.functions is None:
        raise UserError(
            f"no package given has the image (vmlinuz) of {kernel.release}; give that package, too "
            "(Debian: linux-image, or linux-binary from 7.0 on)."
        )
    if not kernel.has_modules:
        raise UserError(
            f"no package given has the modules of {kernel.release}; give that package, too "
            "(Debian: linux-image, or linux-modules from 7.0 on)."
        )


def module_types(kernel: PackedKernel, module: str) -> bytes:
    """Return the BTF of a module.

    :raises UserError: if the module carries none.
    """
    try:
        return elf.section(kernel.modules[module], ".BTF")
    except UserError:
        raise UserError(f"module {module} carries no BTF, so its private structs cannot be read.") from None
