"""Entries of a message's context menu: edit its picture, use it as a reference, read its recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from modules.discord.answers import defer_privately, open_window
from modules.discord.checks import check_owner
from modules.discord.message_files import first_image
from modules.discord.posting import job_id_of
from modules.discord.translator import phrase as _
from modules.discord.views.buttons import Act, Press
from modules.discord.views.forms import FormName, picture_form

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot


class MessageMenus(commands.Cog):
    """A result of ours is known by its buttons; any other message by the first picture it shows."""

    def __init__(self, bot: FulletBot) -> None:
        self.bot = bot
        self._menus = [
            app_commands.ContextMenu(name=_("menu.edit"), callback=self.edit),
            app_commands.ContextMenu(name=_("menu.reference"), callback=self.reference),
            app_commands.ContextMenu(name=_("menu.recipe"), callback=self.recipe),
        ]
        for menu in self._menus:
            bot.tree.add_command(menu)

    async def cog_unload(self) -> None:
        """Discord's menus live in the tree, not in the cog."""
        for menu in self._menus:
            self.bot.tree.remove_command(menu.name, type=menu.type)

    async def edit(self, interaction: discord.Interaction, message: discord.Message) -> None:
        """Change this picture by words."""
        job_id = job_id_of(message)
        if job_id is not None:
            await self.bot.controls.press(interaction, Press(act=Act.EDIT, job_id=job_id))
            return
        self.bot.asking.remember_picture(interaction, message.id, first_image(message))
        texts = await self.bot.voices.for_person(interaction)
        has_reference = await self.bot.edits.has_reference(interaction)
        form = picture_form(FormName.EDIT_MESSAGE, message.id, texts, has_reference=has_reference)
        await open_window(interaction, form, texts)

    async def reference(self, interaction: discord.Interaction, message: discord.Message) -> None:
        """The next edit looks at this picture too."""
        await defer_privately(interaction)
        await self.bot.edits.keep(interaction, first_image(message), job_id_of(message))

    async def recipe(self, interaction: discord.Interaction, message: discord.Message) -> None:
        """How it was made: from our store, else from the file itself."""
        await defer_privately(interaction)
        job_id = job_id_of(message)
        job = await self.bot.house.jobs.job(job_id) if job_id else None
        if job is not None:
            await self.bot.own.show_recipe(interaction, check_owner(job, interaction))
            return
        await self.bot.recalls.show(interaction, first_image(message))
