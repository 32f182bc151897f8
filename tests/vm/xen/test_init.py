# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.errors import UserError
from vm import xen

# As xenvif_read_io_ring prints it.
IO_RING = """Queue 0
TX: nr_ents 256
req prod 13 (0) cons 13 (0) event 14 (1)
rsp prod 13 (base) pvt 13 (0) event 14 (1)
pending prod 269 pending cons 13 nr_pending_reqs 0
dealloc prod 0 dealloc cons 0 dealloc_queue 0

RX: nr_ents 256
req prod {prod} (256) cons {cons} (0) event 1 (-1)
rsp prod 2 (base) pvt 2 (0) event 3 (1)

NAPI state: 10 NAPI weight: 64 TX queue len 0

Rx internal queue: len 524 max 524288 pkts 7 {state}
"""


def test_slots_that_are_free_are_those_of_the_rx_ring() -> None:
    text = IO_RING.format(prod=258, cons=4, state="stopped")
    assert xen.read_ring(text) == xen.Ring(free=254, queued=7, stopped=True)


def test_indices_go_round() -> None:
    text = IO_RING.format(prod=3, cons=4294967290, state="running")
    assert xen.read_ring(text) == xen.Ring(free=9, queued=7, stopped=False)


def test_another_form_is_said() -> None:
    with pytest.raises(UserError, match="of another form"):
        xen.read_ring("Queue 0\n")


def test_each_guest_has_names_of_its_own() -> None:
    one, two = xen.Guest(1), xen.Guest(2)
    assert (one.name, one.device, one.address) == ("guest1", "vif-guest1", "192.0.2.11")
    for what in ("name", "device", "address", "mac"):
        assert getattr(one, what) != getattr(two, what)
