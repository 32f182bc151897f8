# SPDX-License-Identifier: GPL-2.0-only
"""The command line. Each command is a function in toolkit/commands; what it needs it imports itself."""

import importlib
import sys
from typing import Annotated, NoReturn

import typer
from typer._completion_classes import completion_init
from typer.completion import install_callback, show_callback

from toolkit.completion import Shell
from toolkit.errors import UserError
from toolkit.extras import missing
from toolkit.printable import printable, wrapped
from toolkit.version import __version__

app = typer.Typer(
    name="toolkit",
    help="Shows when and why a network driver stops receiving for lack of buffers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # Typer's own options work only for the shell that calls them; these take the shell's name.
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


for _name in COMMANDS:
    _module = importlib.import_module(f"toolkit.commands.{_name}")
    app.command(_name, cls=getattr(_module, "Command", None))(getattr(_module, _name))


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
