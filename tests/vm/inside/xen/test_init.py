# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.errors import UserError
from vm.inside import xen

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


def test_slots_are_counted_across_the_end_of_the_indices() -> None:
    text = IO_RING.format(prod=3, cons=4294967290, state="running")
    assert xen.read_ring(text) == xen.Ring(free=9, queued=7, stopped=False)


def test_unknown_form_of_the_ring_file_is_refused() -> None:
    with pytest.raises(UserError, match="of another form"):
        xen.read_ring("Queue 0\n")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, ("guest1", "vif-guest1", "192.0.2.11", "00:16:3e:00:00:01")),
        (12, ("guest12", "vif-guest12", "192.0.2.22", "00:16:3e:00:00:0c")),
    ],
)
def test_guest_has_its_own_name_device_and_addresses(number: int, expected: tuple[str, ...]) -> None:
    guest = xen.Guest(number)
    assert (guest.name, guest.device, guest.address, guest.mac) == expected
    # As long as a device's name may be (IFNAMSIZ).
    assert len(guest.device) < 16
