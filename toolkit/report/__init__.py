# SPDX-License-Identifier: GPL-2.0-only
"""Find the outputs of the commands: each file in one of four directories here is an output.

analyze/ has what `toolkit analyze -o DIR` writes for each trace, several/ what it adds for several traces,
compare/ what `toolkit compare -o DIR` writes, and export/ the formats of `toolkit export`. A file that is put
there is found. It defines `render(what, out)`, as Output says.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast


class Output(Protocol):
    """A module that makes an output.

    Attributes: `FILES`, the names of the files that it makes in a directory.
    """

    FILES: Sequence[str]

    def render(self, what: Any, *out: BinaryIO) -> None:
        """Write the output.

        :param what: a trace, several traces or a comparison, as the module's annotation says.
        :param out: an open file for each of FILES.
        """


class Format(Output, Protocol):
    """A format of `toolkit export`.

    Attributes: `IS_TEXT`, whether it may go to standard output.
    """

    IS_TEXT: bool


def names(place: str) -> list[str]:
    """Return the names of the outputs of a place, sorted; none of their modules is imported.

    :param place: analyze, several, compare or export.
    """
    return sorted(file.stem for file in (Path(__file__).parent / place).glob("[a-z]*.py"))


def load(place: str, name: str) -> Output:
    """Import the module of an output, and return it.

    :param place: analyze, several, compare or export.
    :param name: one of `names(place)`.
    :raises ModuleNotFoundError: if the place has no such output.
    """
    return cast(Output, import_module(f"toolkit.report.{place}.{name}"))


def files(place: str, folder: Path) -> list[Path]:
    """Return the files that `save` writes."""
    return [folder / file for name in names(place) for file in load(place, name).FILES]


def save(place: str, what: Any, folder: Path) -> None:
    """Write each output of a place into a directory, and replace the files that are there.

    :param what: a trace, several traces or a comparison, as the place has it.
    :param folder: an existing directory.
    """
    for name in names(place):
        output = load(place, name)
        with ExitStack() as opened:
            output.render(what, *(opened.enter_context((folder / file).open("wb")) for file in output.FILES))
