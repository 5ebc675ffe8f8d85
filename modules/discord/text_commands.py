"""What a text command is answered with."""

from __future__ import annotations

from typing import Any

import discord
from discord.ext import commands

from modules.discord.refusals import is_gone


class TextContext(commands.Context[Any]):
    """A text command and its one answer: what is said later replaces what was said first."""

    _said: discord.Message | None = None

    async def answer(self, sentence: str) -> None:
        """A reply, or its new text; a reply that somebody deleted meanwhile is written anew."""
        if self._said is not None:
            try:
                self._said = await self._said.edit(content=sentence)
            except discord.NotFound as error:
                if not is_gone(error):
                    raise
            else:
                return
        self._said = await self.reply(sentence, mention_author=False)
