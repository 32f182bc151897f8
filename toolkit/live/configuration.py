# SPDX-License-Identifier: GPL-2.0-only
"""Options in a file: TOML, by their long names."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from toolkit.errors import UserError


def read(path: Path, repeated: Mapping[str, bool]) -> dict[str, str | list[str]]:
    """Read options from a file.

    :param repeated: name -> whether it may be repeated, of the options that there are; in the file, - may
        stand for _.
    :return: name -> text as on the command line; or several, of an option that may be repeated.
    :raises UserError: if the file cannot be read, is not TOML, or has something else.
    """
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}.") from error
    options: dict[str, str | list[str]] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name not in repeated:
            raise UserError(f"{path}: there is no option {key!r}; there is: {', '.join(sorted(repeated))}.")
        many = value if isinstance(value, list) and repeated[name] else [value]
        if not all(type(each) in (str, int, float) for each in many):
            lists = ", or a list of these" if repeated[name] else ""
            raise UserError(f"{path}: {key} has to be a text or a number{lists}.")
        options[name] = [str(each) for each in many] if repeated[name] else str(value)
    return options
