# SPDX-License-Identifier: GPL-2.0-only
"""The one exception for a mistake that the user can mend."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path


class UserError(Exception):
    """A mistake that the user can mend: one sentence, shown without a traceback.

    :param message: the sentence; it says what is wrong and what to do.
    :param exit_code: 1 for a mistake; 3 if a result was written but rests on a damaged trace; 4 if a limit
        that the user gave is exceeded.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def already_there(file: Path) -> UserError:
    """Return the error for an output that exists, without --force."""
    return UserError(f"{file} exists; give another name, or --force to replace it.")


def one_sentence(name: str) -> Callable[[Callable[[], int]], Callable[[], int]]:
    """Have a command show a UserError as one sentence, and return its exit status.

    :param name: of the command, before the sentence.
    """

    def decorate(command: Callable[[], int]) -> Callable[[], int]:
        @wraps(command)
        def run() -> int:
            try:
                return command()
            except UserError as error:
                print(f"{name}: error: {error}", file=sys.stderr)
                return error.exit_code

        return run

    return decorate
