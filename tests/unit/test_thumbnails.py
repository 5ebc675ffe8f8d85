"""A thumbnail is made at the first look, and what is kept of them is bounded (faults.md M9)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from modules.domain.images import BlobId, Dimensions, Picture, PictureFormat
from modules.utils.images import PictureWorkshop
from modules.utils.thumbnails import MAX_BYTES, MAX_SIDE_PX, Thumbnails
from tests.support.pictures import a_photo, decoded, encoded


class Stored:
    """A store that counts how often a picture's bytes are read."""

    def __init__(self) -> None:
        self.pictures: dict[BlobId, Picture] = {}
        self.reads: list[BlobId] = []

    def put(self, name: str, data: bytes) -> BlobId:
        self.pictures[BlobId(name)] = Picture(data=data, format=PictureFormat.PNG, size=Dimensions(*decoded(data).size))
        return BlobId(name)

    async def get(self, blob_id: BlobId) -> Picture | None:
        self.reads.append(blob_id)
        return self.pictures.get(blob_id)


@pytest.fixture
async def workshop() -> AsyncIterator[PictureWorkshop]:
    async with PictureWorkshop() as opened:
        yield opened


async def test_it_is_small_and_made_once(workshop: PictureWorkshop) -> None:
    stored = Stored()
    fox = stored.put("fox", encoded(a_photo(1200, 900)))
    thumbnails = Thumbnails(stored, workshop)
    first, again = await thumbnails.of(fox), await thumbnails.of(fox)
    assert first is not None
    assert first is again
    assert stored.reads == [fox]
    assert len(first) <= MAX_BYTES
    image = decoded(first)
    assert (image.format, max(image.size)) == ("JPEG", MAX_SIDE_PX)


async def test_a_picture_that_is_gone_has_none_and_may_come_back(workshop: PictureWorkshop) -> None:
    stored = Stored()
    thumbnails = Thumbnails(stored, workshop)
    assert await thumbnails.of(BlobId("fox")) is None
    stored.put("fox", encoded(a_photo()))
    assert await thumbnails.of(BlobId("fox")) is not None


async def test_those_looked_at_last_are_kept(workshop: PictureWorkshop) -> None:
    stored = Stored()
    names = [stored.put(name, encoded(a_photo(200, 150))) for name in ("a", "b", "c")]
    size = len(await Thumbnails(stored, workshop).of(names[0]) or b"")
    thumbnails = Thumbnails(stored, workshop, kept_bytes=int(size * 2.5))
    stored.reads.clear()
    for name in ("a", "b", "a", "c", "a", "b"):
        assert await thumbnails.of(BlobId(name))
    assert stored.reads == ["a", "b", "c", "b"]
