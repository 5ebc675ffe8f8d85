"""Small pictures for pages and cards: made at the first look, kept in memory for the next ones, a bounded amount of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from modules.domain.images import BlobId, Picture
from modules.utils.images import PictureWorkshop

#: As wide as Discord shows a picture in a section or gallery on a large screen.
MAX_SIDE_PX = 640
MAX_BYTES = 100_000
#: About 200 of them. No page names an erased picture; what is left of it here goes with the next ones, or with the process.
KEPT_BYTES = 8 * 1024 * 1024


class Pictures(Protocol):
    """Of the `BlobStore`, what thumbnails need."""

    async def get(self, blob_id: BlobId) -> Picture | None:
        """None when it is gone."""
        ...


class Thumbnails:
    """Implements the `Thumbnails` port. A stored picture never changes, so its thumbnail does not either."""

    def __init__(self, pictures: Pictures, workshop: PictureWorkshop, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._pictures = pictures
        self._workshop = workshop
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[BlobId, bytes] = OrderedDict()
        self._bytes = 0

    async def of(self, blob_id: BlobId) -> bytes | None:
        """See the port."""
        known = self._kept.get(blob_id)
        if known is not None:
            self._kept.move_to_end(blob_id)
            return known
        picture = await self._pictures.get(blob_id)
        if picture is None:
            return None
        jpeg = await self._workshop.shrink_to_jpeg(picture.data, max_side_px=MAX_SIDE_PX, max_bytes=MAX_BYTES)
        self._keep(blob_id, jpeg)
        return jpeg

    def _keep(self, blob_id: BlobId, jpeg: bytes) -> None:
        if blob_id not in self._kept:
            self._kept[blob_id] = jpeg
            self._bytes += len(jpeg)
        while self._bytes > self._kept_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)
