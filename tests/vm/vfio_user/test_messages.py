# SPDX-License-Identifier: GPL-2.0-only
"""The framing takes any stream in any pieces, and every descriptor is given to a message or closed."""

import itertools
import os
import selectors
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vm.vfio_user.client import Client
from tests.vm.vfio_user.conftest import Scratch, gained_descriptors
from vm.vfio_user import messages as m
from vm.vfio_user.messages import Framing, Message, ProtocolError
from vm.vfio_user.server import Server

COMMANDS = st.lists(
    st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=60)), max_size=8
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


@given(COMMANDS, st.lists(st.integers(0, 600), max_size=20))
def test_any_split_gives_the_same_messages(commands: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    framing = Framing()
    stream = b"".join(m.command(*each) for each in commands)
    found = [message for piece in pieces(stream, cuts) for message in framing.feed(piece)]
    assert [(each.number, each.command, each.payload) for each in found] == commands


@given(COMMANDS.filter(bool), st.data())
def test_descriptors_go_with_their_message(
    commands: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    """Each message may carry some; a read ends with the bytes that they were sent with, or earlier."""
    framing, number = Framing(), 0
    expected, found, pending = [], [], b""
    for each in commands:
        message = m.command(*each)
        carried = list(range(number, number + data.draw(st.integers(0, 2))))
        number += len(carried)
        expected.append(carried)
        cut = data.draw(st.integers(1, len(message)))
        if carried:
            # What went before may be read with it; the rest of it comes later.
            found += list(framing.feed(pending + message[:cut], carried))
            pending = message[cut:]
        else:
            pending += message
    found += list(framing.feed(pending))
    assert [each.descriptors for each in found] == expected


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_garbage_is_messages_or_an_error(parts: list[bytes]) -> None:
    framing = Framing(largest=64)
    taken = 0
    try:
        for part in parts:
            taken += sum(m.HEADER.size + len(message.payload) for message in framing.feed(part))
    except ProtocolError:
        return
    assert taken <= sum(map(len, parts))


def test_sizes_at_the_border() -> None:
    assert [len(x.payload) for x in Framing(20).feed(m.command(1, 2, b"abcd"))] == [4]
    for size in (0, 15, 21, 0xFFFFFFFF):
        with pytest.raises(ProtocolError):
            list(Framing(20).feed(m.HEADER.pack(1, 2, size, 0, 0)))


def test_close_closes_the_descriptors_of_a_half_message() -> None:
    with gained_descriptors() as gained:
        framing = Framing()
        assert not list(framing.feed(b"\1\0", os.pipe()))
        assert gained() == 2
        framing.close()
        assert gained() == 0


def test_close_closes_what_a_message_has_not_taken() -> None:
    with gained_descriptors() as gained:
        framing = Framing()
        drawn = framing.feed(m.command(1, 2) + b"\0", os.pipe())
        assert isinstance(next(drawn), Message)
        framing.close()
        assert gained() == 0


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=100), max_size=5), st.booleans(), st.integers(0, 17))
def test_server_survives_any_bytes(parts: list[bytes], greeted: bool, command: int) -> None:
    """Garbage raw, and garbage as the payload of a command, with a descriptor beside it."""
    with gained_descriptors() as gained:
        scratch = Scratch()
        with tempfile.TemporaryDirectory() as directory, selectors.DefaultSelector() as loop:
            server = Server(Path(directory) / "device", scratch.device, loop)
            client = Client(server.path, loop)
            a, b = os.pipe()
            try:
                if greeted:
                    client.negotiate()
                    for part in parts:
                        client.send(m.command(1, command, part), [a])
                for part in parts:
                    client.send(part, [b])
            except (BrokenPipeError, ConnectionResetError):
                pass
            for each in (a, b):
                os.close(each)
            client.close()
            again = Client(server.path, loop)
            assert again.negotiate()
            again.close()
            server.close()
        scratch.close()
        assert gained() == 0
