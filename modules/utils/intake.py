"""Uploads on their way into the house: implements the `PictureIntake` port over a blob store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol
from weakref import WeakValueDictionary

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Picture
from modules.domain.people import UserId

#: So many files are read and held at once, each of up to MAX_UPLOAD_BYTES: one is downloaded while another is decoded.
UPLOADS_AT_ONCE = 2
#: One file a person is worked on, and so many of theirs wait behind it: somebody posts three pictures in a row.
WAITING_EACH = 3
#: Whoever waits longer for their turn is asked to come back.
TURN_TIMEOUT_S = 60.0


class Sanitiser(Protocol):
    """Of the process that decodes uploads, what the intake needs."""

    async def sanitise(self, data: bytes) -> Picture:
        """Make an upload safe. Raises PICTURE_*."""
        ...

    async def read_recipe(self, data: bytes) -> str | None:
        """The recipe that we wrote into a file; None for any other file."""
        ...


class Shelf(Protocol):
    """Of the `BlobStore`, what the intake needs."""

    async def put(self, picture: Picture) -> BlobId:
        """Keep a picture."""
        ...


class UploadIntake:
    """Makes an upload safe, then keeps it. Nothing that was not decoded and encoded anew is ever stored."""

    def __init__(self, sanitiser: Sanitiser, blobs: Shelf) -> None:
        self._sanitiser = sanitiser
        self._blobs = blobs
        self._room = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._turns: WeakValueDictionary[UserId, asyncio.Lock] = WeakValueDictionary()
        self._coming = Counter[UserId]()

    @asynccontextmanager
    async def turn(self, user_id: UserId) -> AsyncIterator[None]:
        """See `PictureIntake.turn`."""
        if self._coming[user_id] > WAITING_EACH:
            raise FulletError(ErrorCode.PICTURE_UNDER_WAY)
        own_turn = self._turns.setdefault(user_id, asyncio.Lock())
        self._coming[user_id] += 1
        try:
            async with AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(TURN_TIMEOUT_S):
                        await held.enter_async_context(own_turn)
                        await held.enter_async_context(self._room)
                except TimeoutError as error:
                    raise FulletError(ErrorCode.PICTURES_BUSY) from error
                yield
        finally:
            self._coming[user_id] -= 1
            if not self._coming[user_id]:
                del self._coming[user_id]

    async def take(self, data: bytes) -> BlobId:
        """Check, decode, re-encode and store. Raises PICTURE_*."""
        return await self._blobs.put(await self._sanitiser.sanitise(data))

    async def read_recipe(self, data: bytes) -> str | None:
        """The recipe that we wrote into a picture's file; None for any other file. Raises PICTURE_TOO_COMPLEX, PICTURES_BUSY."""
        return await self._sanitiser.read_recipe(data)
