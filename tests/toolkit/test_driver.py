# SPDX-License-Identifier: GPL-2.0-only
from toolkit import drivers
from toolkit.driver import POSTED


def test_an_rx_queue_is_one_queue_or_as_many_as_it_has_rings() -> None:
    one, two = drivers.load("virtio_net"), drivers.load("qlge")
    assert [one.queue_name(number) for number in one.queues_of(1)] == ["rx-1"]
    assert [two.queue_name(number) for number in two.queues_of(1)] == ["rx-1 sbq", "rx-1 lbq"]
    assert list(two.queues_of(0)) == [0, 1]
    assert (one.queue_label(3), two.queue_label(3)) == ("queue 3", "rx-1 lbq")


def test_a_driver_may_have_other_queues_and_other_buffers() -> None:
    driver = drivers.load("aoe")
    assert driver.queue_name(3) == driver.queue_label(3) == "target-3"
    assert driver.posted == "skbs in the pool"
    assert drivers.load("qlge").posted == POSTED
