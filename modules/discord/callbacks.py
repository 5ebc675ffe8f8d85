"""First answers to interactions, repeated safely: what Discord counted although its answer was lost is a success.

discord.py repeats a callback after a 5xx and, on some systems, after a reset; the repeat of one that counted gets 400 with code
40060. Taken for a failure, that would leave a person with "thinking ..." and no job. All kinds of first answers (defer, message,
update, modal, choices) go through the one method here. Source: Discord developer documentation, "Receiving and Responding" and
"JSON error codes"; discord.py 2.7, `webhook/async_.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import discord
import structlog
from discord.http import MultipartParameters
from discord.webhook.async_ import AsyncWebhookAdapter, async_context

from modules.discord.refusals import INTERACTION_ANSWERED

if TYPE_CHECKING:
    from discord.file import File
    from discord.types.interactions import InteractionCallback

log = structlog.get_logger(__name__)

#: Tries when the connection breaks: Discord waits three seconds for the first answer, so more would come too late.
TRIES = 3


def repeat_callbacks_safely() -> None:
    """Have every callback of this context, and of the tasks started in it, go through `SafeCallbacks`."""
    async_context.set(SafeCallbacks())  # type: ignore[no-untyped-call] # discord.py leaves its __init__ without types


class _CountedSession:
    """An aiohttp session that counts the requests sent through it: discord.py repeats inside one call."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.requests = 0

    def request(self, *args: Any, **options: Any) -> object:
        self.requests += 1
        return self._session.request(*args, **options)


class SafeCallbacks(AsyncWebhookAdapter):
    """discord.py's own way to Discord; only the first answer to an interaction is treated differently."""

    async def create_interaction_response(
        self,
        interaction_id: int,
        token: str,
        *,
        session: aiohttp.ClientSession,
        proxy: str | None = None,
        proxy_auth: aiohttp.BasicAuth | None = None,
        params: MultipartParameters,
    ) -> InteractionCallback:
        """Answer; 40060 to a repeat of ours is the success whose confirmation was lost.

        A connection that breaks is tried again at once, for the answer counts once. Raises discord.HTTPException,
        aiohttp.ClientError, OSError.
        """
        counted = _CountedSession(session)
        for last_try in (False,) * (TRIES - 1) + (True,):
            try:
                return await super().create_interaction_response(
                    interaction_id,
                    token,
                    session=cast(aiohttp.ClientSession, counted),
                    proxy=proxy,
                    proxy_auth=proxy_auth,
                    params=params,
                )
            except discord.HTTPException as error:
                if error.code != INTERACTION_ANSWERED or counted.requests < 2:
                    raise
                log.info("callback_had_counted", interaction_id=interaction_id)
                return {"interaction": {"id": interaction_id, "type": 2}}
            except (aiohttp.ClientError, OSError):
                if last_try:
                    raise
                _rewind(params.files)
        raise AssertionError("the last try returns or raises")


def _rewind(files: Sequence[File] | None) -> None:
    for file in files or ():
        file.reset(seek=True)
