# SPDX-License-Identifier: GPL-2.0-only
"""Where traces are: on this machine or in an object store, by way of fsspec."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.core import has_magic

from toolkit.errors import UserError
from toolkit.printable import printable

SUFFIX = ".rxt"


class Source(NamedTuple):
    """A trace that lies somewhere, and by what a change of it is noticed.

    :param url: where it is; a path for a file of this machine.
    :param size: [bytes], modified, etag: None if the store does not say.
    """

    url: str
    size: int | None
    modified: datetime | None
    etag: str | None

    @property
    def place(self) -> str:
        """The URL as it is shown, and as the dataset has it."""
        return printable(self.url)


def find(sources: Iterable[str]) -> list[Source]:
    """Find the traces in some places, each once.

    :param sources: each a trace, a directory that is searched for *.rxt, also below, or a glob; on this
        machine, or the URL of an object store.
    :raises UserError: if a place does not exist, has no trace, or cannot be listed.
    """
    found: dict[str, Source] = {}
    for source in sources:
        try:
            filesystem, path = fsspec.core.url_to_fs(source)
            # A process that goes on may look twice.
            filesystem.invalidate_cache()
            listed = _listed(filesystem, path)
        except ImportError as error:
            raise UserError(f"cannot read {source}: {error}.") from error
        except FileNotFoundError:
            raise UserError(f"{source} does not exist.") from None
        # Each store has errors of its own, such as for credentials that are missing.
        except Exception as error:
            raise UserError(f"cannot list {source}: {sentence(error)}") from error
        if not listed:
            raise UserError(f"there is no trace (*{SUFFIX}) in {source}.")
        for name, about in listed.items():
            url = name if _is_local(filesystem) else filesystem.unstrip_protocol(name)
            found[url] = Source(url, about.get("size"), _modified(about), _etag(about))
    return sorted(found.values())


def _listed(filesystem: Any, path: str) -> dict[str, Mapping[str, Any]]:
    """Return the traces in a place, with what the store says of each."""
    if has_magic(path) and not filesystem.exists(path):
        found = filesystem.glob(path, detail=True)
        # A directory that matches stands for the traces in it.
        inside = [filesystem.find(name, detail=True) for name, about in found.items() if _is_directory(about)]
        return _files(found, "") | _files(
            {name: about for each in inside for name, about in each.items()}, SUFFIX
        )
    about = filesystem.info(path)
    if _is_directory(about):
        return _files(filesystem.find(path, detail=True), SUFFIX)
    return _files({about["name"]: about}, "")


def _files(found: Mapping[str, Mapping[str, Any]], suffix: str) -> dict[str, Mapping[str, Any]]:
    """Return the files with a suffix; reading a pipe might never end."""
    return {name: about for name, about in found.items() if name.endswith(suffix) and about["type"] == "file"}


def _is_directory(about: Mapping[str, Any]) -> bool:
    return bool(about["type"] == "directory")


def _is_local(filesystem: Any) -> bool:
    return "file" in filesystem.protocol


def _modified(about: Mapping[str, Any]) -> datetime | None:
    """Return when an object was last changed, under whichever name its store has that."""
    time = next(
        (about[name] for name in ("mtime", "LastModified", "last_modified", "updated") if name in about), None
    )
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    if isinstance(time, int | float):
        time = datetime.fromtimestamp(time, UTC)
    return time if isinstance(time, datetime) else None


def _etag(about: Mapping[str, Any]) -> str | None:
    etag = next((about[name] for name in ("ETag", "etag") if name in about), None)
    return str(etag).strip('"') if etag else None


@contextmanager
def local(url: str, scratch: Path | str | None = None) -> Iterator[Path]:
    """Give the path of a file with a trace; a remote one is fetched, and removed afterwards.

    :param scratch: the directory for what is fetched.
    :raises OSError: or another error of the store, if the trace cannot be read.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    if _is_local(filesystem):
        with Path(path).open("rb"):
            pass
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        file = Path(folder, "trace.rxt")
        filesystem.get_file(path, str(file))
        yield file


def sentence(error: Exception) -> str:
    """Return what an error of a store says, as the end of a sentence."""
    words = printable(" ".join(str(error).split()) or type(error).__name__)
    return words.rstrip(".") + "."
