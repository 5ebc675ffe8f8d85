"""What is wrong with a server that is there, told in `#admin-tools`: the status and route of a refusal, the node that fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import discord

from modules.discord.admin_notes import AdminNotes
from modules.discord.voices import Voices
from modules.discord.wording import plain
from modules.domain.events import ServerTrouble
from modules.domain.ports import Studio
from modules.utils.i18n import Texts

SERVER_CHARS, ROUTE_CHARS, NODE_CHARS, DETAIL_CHARS = 60, 60, 80, 200


class Guilds(Protocol):
    """Of the bot, where there are administrators."""

    @property
    def guilds(self) -> Sequence[discord.Guild]:
        """All that it is in."""
        ...


class ServerNotes:
    """Follows the events of the house; each trouble is told once an hour at most, whoever's picture met it."""

    def __init__(
        self, client: Guilds, studio: Studio, admins: AdminNotes, voices: Voices, when_ready: Callable[[], Awaitable[None]]
    ) -> None:
        self._client = client
        self._studio = studio
        self._admins = admins
        self._voices = voices
        self._when_ready = when_ready

    async def run(self) -> None:
        """Until cancelled."""
        async with self._studio.events() as events:
            async for event in events:
                if isinstance(event, ServerTrouble):
                    await self._tell(event)

    async def _tell(self, trouble: ServerTrouble) -> None:
        await self._when_ready()
        for guild in self._client.guilds:
            sentence = trouble_sentence(trouble, self._voices.for_guild(guild))
            await self._admins.tell(guild.id, sentence, about=subject_of(trouble))


def subject_of(trouble: ServerTrouble) -> str:
    """Two troubles with one subject are one for an administrator; a node's number and its exact words differ from job to job."""
    node_class = trouble.node.partition(" ")[0]
    return f"{trouble.server} {trouble.reason} {trouble.status} {trouble.route} {node_class} {trouble.fails_all}"


def trouble_sentence(trouble: ServerTrouble, texts: Texts) -> str:
    """For administrators: with what ComfyUI or a proxy said, in plain letters and cut short."""
    key = "trouble.fails_all" if trouble.fails_all else f"trouble.{trouble.reason}"
    said = " ".join(trouble.detail.split())[:DETAIL_CHARS]
    return texts(
        key if key in texts.sentences else "trouble.unnamed",
        server=plain(trouble.server, SERVER_CHARS),
        route=plain(trouble.route, ROUTE_CHARS),
        status=texts("trouble.no_answer") if trouble.status is None else str(trouble.status),
        node=plain(trouble.node, NODE_CHARS),
        detail=plain(said, DETAIL_CHARS),
    )
