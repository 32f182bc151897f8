# SPDX-License-Identifier: GPL-2.0-only
"""Text made fit to show: that of others, such as a device's name, and sentences on a terminal."""

import json
import shutil
import textwrap
from typing import TextIO


def wrapped(sentence: str, stream: TextIO, indent: int = 0) -> str:
    """Return a sentence in lines that break between words, if it is to be read on a terminal.

    :param indent: characters before the lines that follow the first.
    """
    if not stream.isatty():
        return sentence
    width = shutil.get_terminal_size().columns
    return textwrap.fill(
        sentence, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def printable(text: str) -> str:
    """Replace each character that does not print by its escape, as in ``\\x1b``.

    Control and format characters, lone surrogates and line separators could move the cursor, turn the
    direction of writing or not be encodable at all.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def read_json(data: bytes) -> object:
    """Return the value of some JSON, with printable strings.

    :raises ValueError: if the data is no JSON in UTF-8.
    :raises RecursionError: if it is too deep.
    """
    text = data.decode("utf-8-sig")
    value: object = json.loads(text)
    # JSON allows no control character but DEL unless it is escaped.
    plain = text.isascii() and "\\" not in text and "\x7f" not in text
    return value if plain else printable_json(value)


def printable_json(value: object) -> object:
    """Do the same to every string of a JSON value, the names of members too."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [printable_json(item) for item in value]
    if isinstance(value, dict):
        return {printable(name): printable_json(item) for name, item in value.items()}
    return value
