# SPDX-License-Identifier: GPL-2.0-only
"""Whatever a guest writes, the NIC goes on."""

import selectors
import tempfile
from pathlib import Path
from struct import pack, pack_into

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import BASE, MAC, RAM
from tests.vm.models.qlge_nic.frames import datagram, tcp, to
from vm.models.qlge_nic.registers import Register
from vm.vfio_user.device import CONFIG_REGION

WORDS = st.one_of(
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 31).map(lambda bit: 1 << bit),
    st.sampled_from([0, BASE & 0xFFFFFFFF]),
)
REGISTERS = st.lists(st.tuples(st.sampled_from(list(Register)), WORDS), max_size=30)
ACCESSES = st.lists(
    st.tuples(
        st.sampled_from([(1, 0x4000), (3, 0x100000), (CONFIG_REGION, 256)]),
        st.integers(0),
        st.binary(min_size=1, max_size=9),
    ),
    max_size=20,
)
#: Inbound doorbells of the first queues, by word.
BELLS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 6, 7]), WORDS), max_size=8)
POINTERS = st.sampled_from([0, BASE, BASE + 4096, BASE + RAM - 64, BASE + RAM, 0xFFFFFFFFFFFFFFFF])
HALF = st.integers(0, 0xFFFF)
BLOCKS = st.tuples(
    st.integers(0, 9),
    st.integers(0, 255),
    HALF,
    POINTERS,
    POINTERS,
    POINTERS,
    HALF,
    HALF,
    POINTERS,
    HALF,
    HALF,
)


@settings(max_examples=25)
@given(REGISTERS, ACCESSES, BELLS, st.lists(BLOCKS, max_size=3))
def test_nic_survives_any_accesses(
    registers: list[tuple[Register, int]],
    accesses: list[tuple[tuple[int, int], int, bytes]],
    bells: list[tuple[int, int, int]],
    blocks: list[tuple[int, ...]],
) -> None:
    with tempfile.TemporaryDirectory() as directory, selectors.DefaultSelector() as loop:
        made = Bench(Path(directory), loop)
        made.driver.up()
        for number, (vector, flags, length, address, shadow, *queues) in enumerate(blocks):
            block = pack("<BBBBHHQQHH", vector, 0, 0, flags, length, 0, address, shadow, 0, 0)
            made.driver.load(block + pack("<QHHQHH", *queues), 0x40, number)
        for register, value in registers:
            made.driver.write(register, value)
            made.driver.read(register)
        for (region, size), offset, data in accesses:
            at = offset % (size - len(data))
            made.client.write(region, at, data)
            assert len(made.client.read(region, at, len(data))) == len(data)
        for queue, word, value in bells:
            pack_into("<I", made.driver.inbound, 4096 * queue + 4 * word, value)
        made.arrive(to(MAC, 60), datagram(1000), tcp(b"x" * 5000), to(b"\xff" * 6, 300))
        made.driver.send([to(MAC, 60)])
        made.nic.stats()
        made.close()
