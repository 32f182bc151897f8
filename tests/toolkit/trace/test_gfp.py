# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.trace.gfp import names

# Bits of Linux 6.1 and, without __GFP_ATOMIC, of 6.12.
OLD = {
    "__GFP_HIGH": 0x20,
    "__GFP_IO": 0x40,
    "__GFP_FS": 0x80,
    "__GFP_ATOMIC": 0x200,
    "__GFP_DIRECT_RECLAIM": 0x400,
    "__GFP_KSWAPD_RECLAIM": 0x800,
    "__GFP_NOWARN": 0x2000,
}
NEW = {name: bits for name, bits in OLD.items() if name != "__GFP_ATOMIC"}


@pytest.mark.parametrize(
    ("mask", "flags", "expected"),
    [
        (0xA20, OLD, "GFP_ATOMIC"),
        (0x820, NEW, "GFP_ATOMIC"),
        (0xCC0, OLD, "GFP_KERNEL"),
        (0x2A20, OLD, "GFP_ATOMIC|__GFP_NOWARN"),
        (0x800, OLD, "GFP_NOWAIT"),
        (0x1000020, OLD, "__GFP_HIGH|0x1000000"),
        (0, OLD, "0"),
        (0xA20, {}, "0xa20"),
    ],
)
def test_gfp_masks_have_the_kernels_names(mask: int, flags: dict[str, int], expected: str) -> None:
    assert names(mask, flags) == expected
