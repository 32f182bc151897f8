# SPDX-License-Identifier: GPL-2.0-only
"""Names for a gfp mask, with the bits that the traced kernel has."""

from collections.abc import Mapping

# include/linux/gfp_types.h; __GFP_ATOMIC went in 6.3 (2973d8229b78), __GFP_HIGH remained.
_COMPOSITES = {
    "GFP_KERNEL": ("__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM", "__GFP_IO", "__GFP_FS"),
    "GFP_NOIO": ("__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM"),
    "GFP_ATOMIC": ("__GFP_HIGH", "__GFP_ATOMIC", "__GFP_KSWAPD_RECLAIM"),
    "GFP_NOWAIT": ("__GFP_KSWAPD_RECLAIM",),
}
_MAY_LACK = "__GFP_ATOMIC"


def names(mask: int, flags: Mapping[str, int]) -> str:
    """Spell a gfp mask as the kernel does.

    :param mask: the mask.
    :param flags: name -> bits of each __GFP flag in the traced kernel.
    :return: names joined by |, the widest first; bits without a name in hex; "0" for none.
    """
    known = {name: bits for name, bits in flags.items() if bits}
    for name, parts in _COMPOSITES.items():
        if all(part in known or part == _MAY_LACK for part in parts):
            known.setdefault(name, sum(known.get(part, 0) for part in parts))
    found = []
    for name, bits in sorted(
        known.items(), key=lambda item: (-item[1].bit_count(), item[0].startswith("__"), item[1])
    ):
        if mask & bits == bits:
            found.append(name)
            mask &= ~bits
    if mask or not found:
        found.append(hex(mask) if mask else "0")
    return "|".join(found)
