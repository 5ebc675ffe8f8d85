"""How many pictures one sampler pass may hold on a GPU of this memory, before running out of it has taught us better."""

from __future__ import annotations

from collections.abc import Mapping

from modules.ai.workflows.manifest import Family
from modules.domain.images import Dimensions

GIB = 2**30
#: Memory that one more picture of 1024 x 1024 needs in a pass, in GiB; it grows with the area. Source: what ComfyUI reserves for
#: a row (`memory_required` of its model classes), docs/merging.md. A family we do not know is treated as the largest.
GIB_PER_MEGAPIXEL: Mapping[Family, float] = {Family.SD15: 0.26, Family.SDXL: 0.26, Family.Z_IMAGE: 0.9}
LARGEST_GIB_PER_MEGAPIXEL = 1.0
#: Share of the memory that the pictures of a pass may take; the rest holds the model. Two large pictures on 8 GB, six on 24 GB.
SHARE_FOR_PICTURES = 0.25


def rows_that_fit(vram_bytes: int, family: Family, size: Dimensions | None) -> int | None:
    """Most pictures of this size in one pass, at least 1; None when the memory is not known. No size counts as one megapixel."""
    gib = round(vram_bytes / GIB)  # cards report a little less than is printed on them
    if gib <= 0:
        return None
    each_gib = GIB_PER_MEGAPIXEL.get(family, LARGEST_GIB_PER_MEGAPIXEL) * (size.megapixels if size else 1.0)
    return max(1, int(gib * SHARE_FOR_PICTURES / each_gib))
