"""Uploads on their way into the house: implements the `PictureIntake` port over a blob store."""

from __future__ import annotations

from typing import Protocol

from modules.domain.images import BlobId, Picture
from modules.utils.images import PictureWorkshop


class Shelf(Protocol):
    """Of the `BlobStore`, what the intake needs."""

    async def put(self, picture: Picture) -> BlobId:
        """Keep a picture."""
        ...


class UploadIntake:
    """Makes an upload safe, then keeps it. Nothing that did not pass the workshop is ever stored."""

    def __init__(self, workshop: PictureWorkshop, blobs: Shelf) -> None:
        self._workshop = workshop
        self._blobs = blobs

    async def take(self, data: bytes, *, filename: str) -> BlobId:
        """Check, decode, re-encode and store. Raises PICTURE_*."""
        return await self._blobs.put(await self._workshop.sanitise_upload(data, filename=filename))
