"""`/imagine`, `/edit` and `/gen`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from modules.discord.answers import defer_privately
from modules.discord.asking import Accepted
from modules.discord.numbers import seed_number
from modules.discord.suggestions import model_choices, prompt_choices, size_choices
from modules.discord.translator import phrase as _
from modules.discord.views.answer import accepted
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.jobs import Origin
from modules.domain.people import GuildId, UserId
from modules.domain.recipes import MAX_PICTURES_PER_JOB, ModelName

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

#: Discord offers at most this many choices of an option.
MAX_CHOICES = 25

Prompt = app_commands.Range[str, 1, 6000]  # longer than we allow: our own answer says so better than Discord's red line
Count = app_commands.Range[int, 1, MAX_PICTURES_PER_JOB]
Steps = app_commands.Range[int, 1, 150]


class ImageCommands(commands.Cog):
    """From words to pictures."""

    def __init__(self, bot: FulletBot) -> None:
        self.bot = bot
        models = model_choices(bot.house.catalogue.models(WorkflowKind.IMAGINE))
        if len(models) <= MAX_CHOICES:
            app_commands.choices(model=models)(self.imagine)
        else:
            self.imagine.autocomplete("model")(self.suggest_model)

    @app_commands.command(name="imagine", description=_("command.imagine.description"))
    @app_commands.describe(
        model=_("command.imagine.model"),
        prompt=_("command.imagine.prompt"),
        negative_prompt=_("command.imagine.negative_prompt"),
        size=_("command.imagine.size"),
        seed=_("command.imagine.seed"),
        steps=_("command.imagine.steps"),
        count=_("command.imagine.count"),
    )
    async def imagine(
        self,
        interaction: discord.Interaction,
        model: str,
        prompt: Prompt,
        negative_prompt: str = "",
        size: str | None = None,
        seed: str | None = None,
        steps: Steps | None = None,
        count: Count | None = None,
    ) -> None:
        """A picture from words."""
        await defer_privately(interaction)
        mine = await self.bot.house.people.settings(UserId(interaction.user.id))
        wish = Wish(
            kind=WorkflowKind.IMAGINE,
            model=ModelName(model),
            prompt=prompt,
            negative_prompt=negative_prompt,
            size=size or mine.size,
            seed=seed_number(seed or ""),
            steps=steps,
            count=count or mine.count or 1,
        )
        await self._show_place(interaction, await self.bot.asking.ask(interaction, wish, Origin.IMAGINE, settings=mine))

    @app_commands.command(name="edit", description=_("command.edit.description"))
    @app_commands.describe(
        prompt=_("command.edit.prompt"),
        image=_("command.edit.image"),
        reference=_("command.edit.reference"),
        seed=_("command.edit.seed"),
    )
    async def edit(
        self,
        interaction: discord.Interaction,
        prompt: Prompt,
        image: discord.Attachment | None = None,
        reference: discord.Attachment | None = None,
        seed: str | None = None,
    ) -> None:
        """Change a picture by words, looking at a second one if there is one."""
        await defer_privately(interaction)
        chosen_seed = seed_number(seed or "")
        await self.bot.edits.check(interaction, prompt, has_reference=reference is not None)
        source = await self.bot.asking.picture_for_edit(interaction, image)
        beside = await self.bot.asking.upload(UserId(interaction.user.id), reference) if reference else None
        done = await self.bot.edits.ask(interaction, source, prompt, reference=beside, seed=chosen_seed)
        await self._show_place(interaction, done)

    @app_commands.command(name="gen", description=_("command.gen.description"))
    async def gen(self, interaction: discord.Interaction) -> None:
        """The form with every setting."""
        await self.bot.form.open(interaction)

    @imagine.autocomplete("prompt")
    @edit.autocomplete("prompt")
    async def suggest_prompt(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """The person's own prompts first, then ideas."""
        return await prompt_choices(interaction, typed, self.bot.house.people, self.bot.voices.of_client(interaction))

    @imagine.autocomplete("size")
    async def suggest_size(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """The presets of the chosen model; anything else may be typed."""
        return size_choices(self.bot.house.catalogue, getattr(interaction.namespace, "model", None), typed)

    async def suggest_model(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """More models than Discord has choices for: by what is typed."""
        return model_choices(self.bot.house.catalogue.models(WorkflowKind.IMAGINE), typed)[:MAX_CHOICES]

    async def _show_place(self, interaction: discord.Interaction, done: Accepted) -> None:
        texts = self.bot.voices.speaking(done.language)
        guild_id = GuildId(interaction.guild_id or 0)
        await interaction.edit_original_response(view=accepted(done.ticket, done.session.channel_id, guild_id, texts))
