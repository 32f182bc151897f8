# SPDX-License-Identifier: GPL-2.0-only
import io
from typing import cast

import pytest

from toolkit.printable import printable, printable_json, read_json, wrapped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_sentence_is_wrapped_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    sentence = "  ok  hook: kprobe:a_function_that_is_long of it"
    assert wrapped(sentence, io.StringIO(), 6) == sentence
    assert wrapped(sentence, Terminal(), 6).splitlines() == [
        "  ok  hook:",
        "      kprobe:a_function_that_is_long",
        "      of it",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("eth1", "eth1"),
        ("naïve <b> 网卡", "naïve <b> 网卡"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\r\nb\tc\x00", "a\\r\\nb\\tc\\x00"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202egnp\u2066\ufeff\u200d", "\\u202egnp\\u2066\\ufeff\\u200d"),
        ("\u2028\udcff\U000e0001", "\\u2028\\udcff\\U000e0001"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown.isprintable() and shown.encode()


def test_json_is_escaped_all_through() -> None:
    value = {"a\x1b": ["\x1b", {"b": "\x07"}, 1, None, True]}
    assert printable_json(value) == {"a\\x1b": ["\\x1b", {"b": "\\x07"}, 1, None, True]}


@pytest.mark.parametrize("data", [b'{"a": "\\u001b"}', '{"a": "\x7f\u202e"}'.encode()])
def test_json_that_is_read_has_printable_strings(data: bytes) -> None:
    (text,) = cast(dict[str, str], read_json(data)).values()
    assert text.isprintable()


def test_json_is_read_as_utf_8_alone() -> None:
    """In UTF-16, letters that turn the direction of writing look like plain ones of ASCII."""
    assert read_json(b"\xef\xbb\xbf[1]") == [1]
    with pytest.raises(ValueError, match="Expecting"):
        read_json('["\u202e"]'.encode("utf-16-le"))
