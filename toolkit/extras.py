# SPDX-License-Identifier: GPL-2.0-only
"""Packages that some users do not need: those of an extra, and those that a recorder leaves out."""

import sys
from importlib.util import find_spec

from toolkit.errors import UserError


def need(extra: str, *modules: str) -> None:
    """Make sure that the modules of an extra are installed.

    :raises UserError: if a module is missing.
    """
    if names := [module for module in modules if find_spec(module) is None]:
        raise missing(*names, extra=extra)


def missing(*names: str, extra: str = "") -> UserError:
    """Return the error that says which packages are missing, and how to install them for this interpreter.

    :param names: of the modules.
    :param extra: the extra that brings the modules; None if the toolkit itself needs them.
    """
    return UserError(
        f"this needs {', '.join(names)}, which is not installed; "
        f"in the toolkit's checkout, run: {sys.executable} -m pip install '.{f'[{extra}]' if extra else ''}'"
    )
