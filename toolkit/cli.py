# SPDX-License-Identifier: GPL-2.0-only
"""The command line. Each command is a function in toolkit/commands; what it needs it imports itself."""

import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NoReturn

import typer
from typer._completion_classes import completion_init
from typer.completion import install_callback, show_callback
from typer.core import TyperGroup

from toolkit.completion import Shell
from toolkit.errors import UserError
from toolkit.extras import missing
from toolkit.printable import printable, wrapped
from toolkit.version import __version__

COMMANDS = (
    "trace",
    "record",
    "watch",
    "doctor",
    "drivers",
    "info",
    "pack",
    "analyze",
    "compare",
    "fleet",
    "export",
)


@functools.cache
def _command(name: str) -> Any:
    """Import the module of a command, and make the command of its function."""
    module = importlib.import_module(f"toolkit.commands.{name}")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name, cls=getattr(module, "Command", None))(getattr(module, name))
    return typer.main.get_command(alone)


class _Commands(Mapping[str, Any]):
    """The commands by name. Each is made when it is looked up: a trace starts without the other commands."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Toolkit(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = _Commands()


app = typer.Typer(
    name="toolkit",
    cls=_Toolkit,
    help="Shows when and why a network driver stops receiving for lack of buffers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # Typer's own options work only for the shell that calls them; these take the shell's name.
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"toolkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _install: Annotated[
        Shell | None,
        typer.Option(
            "--install-completion",
            metavar="SHELL",
            callback=install_callback,
            is_eager=True,
            expose_value=False,
            help="Install completion for bash, zsh or fish.",
        ),
    ] = None,
    _show: Annotated[
        Shell | None,
        typer.Option(
            "--show-completion",
            metavar="SHELL",
            callback=show_callback,
            is_eager=True,
            expose_value=False,
            help="Show what would be installed.",
        ),
    ] = None,
) -> None:
    pass


# Typer knows no shell before this call.
completion_init()


def main() -> NoReturn:
    """Run the command line; a mistake of the user is one sentence and an exit code, not a traceback."""
    try:
        app(prog_name="toolkit")
    except UserError as error:
        message, code = str(error), error.exit_code
    except ModuleNotFoundError as error:
        # A recorder is installed without the packages of an analysis. Its own modules are always there.
        if error.name is None or error.name.startswith("toolkit"):
            raise
        message, code = str(missing(error.name)), 1
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        message, code = f"{error.filename or 'cannot write'}: {error.strerror or error}.", 1
    except MemoryError:
        message, code = "not enough memory.", 1
    print(wrapped(f"toolkit: error: {printable(message)}", sys.stderr), file=sys.stderr)
    sys.exit(code)
