"""Our old files on one server, listed and removed by the node pack where its version can (PROTOCOL.md there, Files)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from modules.ai.client import ComfyClient
from modules.domain.jobs import AttemptId


class ServerFiles:
    """Implements `FilesOnServer`. Uploads are safe from it while an attempt is being sent: `in_use`."""

    def __init__(self, client: ComfyClient) -> None:
        self._client = client
        self._users = 0
        self._removing = asyncio.Lock()

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """An attempt is being sent: until its prompt is in the server's queue nothing there names its uploads.

        An upload that the server has already is not written anew, so its age does not protect it either.
        """
        self._users += 1
        try:
            async with self._removing:  # a removal that is under way ends first; it is one short request
                pass
            yield
        finally:
            self._users -= 1

    async def old_outputs(self, after: str, older_than_s: float) -> Sequence[AttemptId] | None:
        """Attempts whose output folders have not changed for so long, in order, a page; None where the server cannot say."""
        return await self._client.old_outputs(after, older_than_s)

    async def remove_outputs(self, attempt_ids: Sequence[AttemptId]) -> int:
        """Remove their folders; how many are gone."""
        return await self._client.remove_outputs(attempt_ids)

    async def remove_uploads(self, older_than_s: float) -> int:
        """Remove what nothing in the server's queue names; 0 while an attempt is being sent."""
        if self._users:
            return 0
        async with self._removing:
            return await self._client.remove_uploads(older_than_s)
