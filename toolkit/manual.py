# SPDX-License-Identifier: GPL-2.0-only
"""Make manual pages from the commands: `python -m toolkit.manual DIR`.

Not with click-man: its pages have no options, since typer brings a click of its own, and no exit status.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from toolkit.cli import app
from toolkit.version import __version__

_SECTIONS = {"Exits with": "EXIT STATUS", "Example:": "EXAMPLE"}


def pages() -> dict[str, str]:
    """Return name of the file -> text, for the toolkit and for each command."""
    group: Any = typer.main.get_command(app)
    commands = {name: command.help.split("\n\n")[0] for name, command in group.commands.items()}
    found = {
        "toolkit.1": _page(
            "toolkit",
            group.help,
            "[OPTIONS] COMMAND [ARGS]...",
            _options(group),
            [("COMMANDS", [(rf"\fBtoolkit {name}\fR", text) for name, text in commands.items()])],
            [f"toolkit-{name}" for name in commands],
        )
    }
    for name, command in group.commands.items():
        arguments = _arguments(command)
        # After its arguments, a command may take a command to run.
        rest = command.collect_usage_pieces(typer.Context(command))[1 + len(arguments) :]
        usage = " ".join(["[OPTIONS]", *map(_argument, arguments), *rest])
        found[f"toolkit-{name}.1"] = _page(
            f"toolkit {name}", command.help, usage, _options(command), [], ["toolkit"]
        )
    return found


def _arguments(command: Any) -> list[Any]:
    return [param for param in command.params if param.param_type_name == "argument"]


def _argument(param: Any) -> str:
    """Return an argument as the synopsis has it."""
    name = param.metavar + "..." * (param.nargs == -1)
    return name if param.required else f"[{name}]"


def _options(command: Any) -> list[tuple[str, str]]:
    """Return each argument and option, with its help text."""
    found = [(param.metavar, param.help) for param in _arguments(command)]
    for param in command.params:
        if param.param_type_name == "option":
            value = "" if param.is_flag else f" {param.metavar}"
            found.append((", ".join(sorted(param.opts, key=len)) + value, param.help))
    return [(rf"\fB{_text(what)}\fR", text) for what, text in found]


def _page(
    command: str,
    words: str,
    usage: str,
    options: Sequence[tuple[str, str]],
    lists: Sequence[tuple[str, Sequence[tuple[str, str]]]],
    see: Sequence[str],
) -> str:
    """Return a page in the man macros (man(7))."""
    name = command.replace(" ", "-")
    first, *more = words.split("\n\n")
    sections: dict[str, list[str]] = {"DESCRIPTION": [first]}
    for paragraph in more:
        start = next((each for each in _SECTIONS if paragraph.startswith(each)), None)
        sections.setdefault(_SECTIONS[start] if start else "DESCRIPTION", []).append(
            paragraph.removeprefix("Example:").strip()
        )
    lines = [
        r".\" SPDX-License-Identifier: GPL-2.0-only",
        rf'.TH {name.upper()} 1 "" "toolkit {__version__}" "rx-stall toolkit"',
        ".SH NAME",
        rf"{name} \- {_text(first[0].lower() + first[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        rf"\fB{command}\fR {_text(usage)}",
        *_section("DESCRIPTION", sections.pop("DESCRIPTION")),
        *(line for title, entries in (("OPTIONS", options), *lists) for line in _list(title, entries)),
        *(line for title in sections for line in _section(title, sections[title])),
        ".SH SEE ALSO",
        ", ".join(rf"\fB{each}\fR(1)" for each in see),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, paragraphs: Sequence[str]) -> Iterator[str]:
    yield f".SH {title}"
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _list(title: str, entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f".SH {title}"
    for what, text in entries:
        yield from (".TP", what, _text(text))


def _text(text: str) -> str:
    """Return the text with roff's escape characters escaped."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("`", "")
    return rf"\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    for page, content in pages().items():
        (Path(sys.argv[1]) / page).write_text(content)
