"""The people's side as one service: the bot, its cards, its sessions and the courier, under one roof."""

from __future__ import annotations

import asyncio

from modules.discord.bot import FulletBot
from modules.discord.courier import Courier
from modules.discord.delivery import Delivery
from modules.discord.exports import Exports
from modules.discord.house import DiscordOptions, House


class PeopleSide:
    """Everything that speaks to Discord, joined; `app.py` gives the ports and runs it."""

    def __init__(self, house: House, options: DiscordOptions) -> None:
        self.bot = FulletBot(house, options)
        delivery = Delivery(
            self.bot,
            house,
            self.bot.post,
            self.bot.rooms,
            self.bot.cards,
            self.bot.voices,
            Exports(options.export_path),
        )
        self.courier = Courier(house, delivery, self.bot.when_ready)

    async def run(self, token: str) -> None:
        """Serve until cancelled. What `FulletBot.run_with` raises comes in an ExceptionGroup."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.bot.run_with(token), name="discord-bot")
            tasks.create_task(self.bot.cards.run(), name="cards")
            tasks.create_task(self.bot.rooms.run(), name="sessions")
            tasks.create_task(self.courier.run(), name="courier")
