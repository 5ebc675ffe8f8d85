"""A person's own things: `/queue`, `/history`, `/recall`, `/settings`, `/mydata`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import discord
from discord import app_commands, ui
from discord.ext import commands

from modules.discord.answers import defer_privately, show_privately
from modules.discord.data_export import parts_of
from modules.discord.drafts import Drafts
from modules.discord.posting import Attached
from modules.discord.suggestions import MAX_SUGGESTIONS, default_model, default_models, model_choices, size_choices
from modules.discord.translator import phrase as _
from modules.discord.typed_windows import TypedWindows
from modules.discord.views.buttons import Act, button
from modules.discord.views.layout import Accent, card
from modules.discord.views.notices import notice
from modules.discord.views.settings_card import settings_card
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions
from modules.domain.people import Language, UserId
from modules.domain.recipes import MAX_PICTURES_PER_JOB
from modules.domain.records import PersonSettings

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

Count = app_commands.Range[int, 1, MAX_PICTURES_PER_JOB]
_LANGUAGE_NAMES = {Language.ENGLISH: "English", Language.SPANISH: "Español"}


class MyPictures(commands.Cog):
    """Private answers about one's own jobs, pictures and settings."""

    mydata = app_commands.Group(name="mydata", description=_("command.mydata.description"))

    def __init__(self, bot: FulletBot) -> None:
        self.bot = bot

    @app_commands.command(name="queue", description=_("command.queue.description"))
    async def queue(self, interaction: discord.Interaction) -> None:
        """What of mine waits and runs."""
        await self.bot.own.show_queue(interaction)

    @app_commands.command(name="history", description=_("command.history.description"))
    async def history(self, interaction: discord.Interaction) -> None:
        """My last pictures."""
        await self.bot.own.show_history(interaction)

    @app_commands.command(name="recall", description=_("command.recall.description"))
    @app_commands.describe(id=_("command.recall.id"), file=_("command.recall.file"))
    async def recall(
        self,
        interaction: discord.Interaction,
        id: str = "",
        file: discord.Attachment | None = None,
    ) -> None:
        """A recipe by the id under its picture, or out of the picture's own file."""
        await defer_privately(interaction)
        if file is None:
            await self.bot.own.show_recipe(interaction, await self.bot.own.recall(interaction, id))
            return
        await self.bot.recalls.show(interaction, file)

    @app_commands.command(name="settings", description=_("command.settings.description"))
    @app_commands.describe(
        model=_("command.settings.model"),
        size=_("command.settings.size"),
        count=_("command.settings.count"),
        language=_("command.settings.language"),
        quiet=_("command.settings.quiet"),
        spoiler=_("command.settings.spoiler"),
        reset=_("command.settings.reset"),
    )
    @app_commands.choices(
        language=[app_commands.Choice(name=name, value=language.value) for language, name in _LANGUAGE_NAMES.items()]
    )
    async def settings(
        self,
        interaction: discord.Interaction,
        model: str | None = None,
        size: str | None = None,
        count: Count | None = None,
        language: str | None = None,
        quiet: bool | None = None,
        spoiler: bool | None = None,
        reset: bool = False,
    ) -> None:
        """Change what is given, show all."""
        await defer_privately(interaction)
        user_id = UserId(interaction.user.id)
        default = default_model(self.bot.house.catalogue, model) if model else None
        checked = _checked_size(size) if size else None

        def changed(stored: PersonSettings) -> PersonSettings:
            mine = PersonSettings(user_id=user_id, is_banned=stored.is_banned) if reset else stored
            return replace(
                mine,
                model=default or mine.model,
                size=checked or mine.size,
                count=count or mine.count,
                language=language or mine.language,
                is_quiet=mine.is_quiet if quiet is None else quiet,
                is_spoiler=mine.is_spoiler if spoiler is None else spoiler,
                forms={name: replace(kept, size="") for name, kept in mine.forms.items()} if size else mine.forms,
            )

        wanted = await self.bot.house.people.change_settings(user_id, changed)
        texts = await self.bot.voices.for_person(interaction)
        await show_privately(interaction, settings_card(wanted, self.bot.house.catalogue.models(), texts))

    @settings.autocomplete("model")
    async def suggest_model(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """Those that draw from words, by what people read."""
        return model_choices(default_models(self.bot.house.catalogue), typed)[:MAX_SUGGESTIONS]

    @settings.autocomplete("size")
    async def suggest_size(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """Presets; anything else may be typed."""
        return size_choices(self.bot.house.catalogue, getattr(interaction.namespace, "model", None), typed)

    @mydata.command(name="export", description=_("command.mydata.export"))
    async def export(self, interaction: discord.Interaction) -> None:
        """Everything stored about the person, as files only they get: one, or for a long past one message after the other."""
        await defer_privately(interaction)
        texts = await self.bot.voices.for_person(interaction)
        user_id, now = UserId(interaction.user.id), self.bot.house.clock.now()
        draft = await Drafts(self.bot.house.control).load(user_id, now)
        notes = {
            "draft": asdict(draft) if draft else None,
            "typed": await TypedWindows(self.bot.house.control).all_of(user_id, now),
        }
        async for part in parts_of(user_id, self.bot.house.people.export(user_id), notes):
            file = Attached(name=part.name, data=part.data)
            said = texts("mydata.exported") if part.is_last else ""
            if not part.is_last or part.number > 1:
                said = f"{texts('mydata.part', number=part.number)} {said}".rstrip()
            view = card(Accent.GREY, said, ui.File(f"attachment://{file.name}"))
            if part.number == 1:
                await show_privately(interaction, view, [file.as_file()])
            else:
                await interaction.followup.send(view=view, file=file.as_file(), ephemeral=True)

    @mydata.command(name="erase", description=_("command.mydata.erase"))
    async def erase(self, interaction: discord.Interaction) -> None:
        """Asks first: it cannot be undone."""
        await defer_privately(interaction)
        texts = await self.bot.voices.for_person(interaction)
        yes = button(Act.ERASE_ME, texts("button.erase_me"), style=discord.ButtonStyle.danger)
        await show_privately(interaction, notice(texts("mydata.question"), yes, accent=Accent.RED))


def _checked_size(typed: str) -> str:
    size = Dimensions.parse(typed)
    if size is None:
        raise FulletError(ErrorCode.SIZE_INVALID, text=typed, example="1024x1024")
    return str(size)
