# SPDX-License-Identifier: GPL-2.0-only
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit import drivers
from toolkit.capture import matching
from toolkit.capture.btf import Member
from toolkit.capture.matching import Place
from toolkit.driver import Field, Hook, Ring
from toolkit.errors import UserError

VIRTIO_NET = drivers.load("virtio_net")
HOOK = Hook("refill", ("kprobe:e1000e:fill", "kretprobe:fill", "raw_tracepoint:napi_poll"), True, "")


def test_places_are_the_candidates_that_are_there_in_their_order() -> None:
    every = [
        Place("kprobe:e1000e:fill", "kprobe", "e1000e", "fill"),
        Place("kretprobe:fill", "kretprobe", "", "fill"),
        Place("raw_tracepoint:napi_poll", "raw_tracepoint", "", "napi_poll"),
    ]
    assert list(matching.places(HOOK, lambda _: True)) == every
    assert list(matching.places(HOOK, lambda place: not place.module)) == every[1:]


def test_modules_are_those_of_the_driver_its_members_and_its_hooks() -> None:
    assert matching.modules(VIRTIO_NET) == {"virtio_net", "virtio_ring"}
    assert matching.modules(replace(VIRTIO_NET, hooks=(HOOK,), fields=())) == {"virtio_net", "e1000e"}


def test_ring_is_its_members_and_those_that_are_missing() -> None:
    ring = Ring("rq.tail", ("fill",), clean="rq.head", mask="rq.mask")
    tail, mask = Member(8, 2), Member(12, 4)
    types: Any = SimpleNamespace(member={"rq.tail": tail, "rq.mask": mask}.get)
    assert matching.ring(ring, types) == ({"fill": tail, "mask": mask}, ["rq.head"])
    # Known from its NAPI instance, and not from a function.
    assert matching.ring(Ring("rq.tail", napi="rq.napi"), types) == ({"fill": tail}, ["rq.napi"])


def test_member_is_the_first_of_its_candidates() -> None:
    fields = [
        Field("napi", ("rq.xdp", "rq.napi"), True),
        Field("ring", ("ring",), True, "virtio_ring"),
        Field("refill", ("vi.refill",), False),
        Field("vq", ("rq.vq", "rq.queue"), True),
        Field("dev", ("vi.dev",), True),
    ]
    own: Any = SimpleNamespace(resolve={"rq.napi": 16}.get)
    other: Any = SimpleNamespace(resolve={"ring": 64}.get)
    found = matching.members(fields, lambda field: other if field.module else own)
    assert found.macros == {"OFF_napi": 16, "SIZE_ring": 64}
    assert [field.name for field in found.missing] == ["refill", "vq", "dev"]
    with pytest.raises(UserError, match=r"a: this kernel's BTF lacks rq\.vq or rq\.queue, vi\.dev; "):
        matching.require_members("a", found)
    matching.require_members("a", found._replace(missing=found.missing[:1]))
