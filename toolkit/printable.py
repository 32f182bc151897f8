# SPDX-License-Identifier: GPL-2.0-only
"""Text of others, such as a device's name, made safe to show."""


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


def printable_json(value: object) -> object:
    """Do the same to every string of a JSON value, the names of members too."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [printable_json(item) for item in value]
    if isinstance(value, dict):
        return {printable(name): printable_json(item) for name, item in value.items()}
    return value
