"""Going on from recipes that are no longer in our store: out of a file, or out of the message that once showed the picture."""

from __future__ import annotations

import re
from dataclasses import replace

import discord

from modules.discord.answers import defer_privately, show_privately
from modules.discord.asking import Asking
from modules.discord.checks import check_addressee
from modules.discord.drafts import Draft, form_models, wish_of
from modules.discord.form import GenerationForm
from modules.discord.house import House
from modules.discord.message_files import MessageFile, files_of
from modules.discord.posting import Attached, texts_of
from modules.discord.refusals import DISCORD_TROUBLE, RefusalKind, refusal_of
from modules.discord.refused_words import once_more_without_words
from modules.discord.views.answer import accepted
from modules.discord.views.buttons import Act, Press
from modules.discord.views.notices import notice
from modules.discord.views.recipe_card import RECIPE_FILE, written_card
from modules.discord.voices import Voices
from modules.discord.written_recipes import WrittenRecipe, read_written
from modules.domain.catalogue import ModelSpec
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Origin
from modules.domain.people import GuildId

Interaction = discord.Interaction[discord.Client]
_QUOTE = re.compile(r"^> (?!-# )(.+)$", re.MULTILINE)
_ESCAPED = re.compile(r"\\(.)")


class Recalls:
    """`/recall` with a file, the menu entry "Recipe", and what their buttons do. Keeps nothing: the answer carries the recipe."""

    def __init__(self, house: House, asking: Asking, form: GenerationForm, voices: Voices) -> None:
        self._house = house
        self._asking = asking
        self._form = form
        self._voices = voices

    async def show(self, interaction: Interaction, attachment: discord.Attachment | MessageFile) -> None:
        """The recipe in a file, with what can be done with it; or that there is none. Raises PICTURE_*."""
        texts = await self._voices.for_person(interaction)
        recipe = await self._read(interaction, attachment)
        if recipe is None:
            await show_privately(interaction, notice(texts("recall.none")))
            return
        file = Attached(name=RECIPE_FILE, data=recipe.text.encode("utf-8", "replace"))

        async def show(with_words: bool) -> None:
            bare = replace(recipe.draft, prompt=texts("card.words_refused"), negative_prompt="")
            shown = recipe if with_words else replace(recipe, draft=bare)
            await show_privately(interaction, written_card(shown, self._spec(recipe.draft), texts), [file.as_file()])

        await once_more_without_words(show)

    async def press(self, interaction: Interaction, press: Press) -> None:
        """One of the buttons under such a recipe, or "start from its prompt" under a picture whose job is gone."""
        await defer_privately(interaction)
        if press.act is Act.START_OVER:
            await self._form.open(interaction, await self._draft_of_message(interaction, press.argument))
            return
        shown = files_of(interaction.message) if interaction.message else []
        recipe = await self._read(interaction, shown[0]) if shown else None
        if recipe is None:
            raise FulletError(ErrorCode.RECIPE_GONE)
        spec = self._spec(recipe.draft)
        if press.act is Act.RECALL_FORM or spec is None:
            await self._form.open(interaction, recipe.draft)
            return
        done = await self._asking.ask(interaction, wish_of(recipe.draft, spec), Origin.REMIX)
        texts = await self._voices.for_person(interaction)
        await show_privately(
            interaction, accepted(done.ticket, done.session.channel_id, GuildId(interaction.guild_id or 0), texts)
        )

    async def _draft_of_message(self, interaction: Interaction, argument: str) -> Draft | None:
        """From the files of the message, else from the words on it; None when it has neither, is gone or may not be read.

        Discord's own trouble passes through.
        """
        channel = interaction.channel
        if not isinstance(channel, discord.abc.Messageable):
            return None
        try:
            message = await channel.fetch_message(int(argument or "0", 36))
        except DISCORD_TROUBLE as error:
            if refusal_of(error).kind is RefusalKind.LATER:
                raise
            return None
        check_addressee(message, interaction)
        for file in files_of(message):
            try:
                recipe = await self._read(interaction, file)
            except FulletError:
                continue
            if recipe is not None:
                return recipe.draft
        quoted = _QUOTE.search("\n".join(texts_of(message.components)))
        return Draft(prompt=_ESCAPED.sub(r"\1", quoted[1]).removesuffix("…")) if quoted else None

    async def _read(self, interaction: Interaction, attachment: discord.Attachment | MessageFile) -> WrittenRecipe | None:
        text = await self._asking.recipe_in(interaction, attachment)
        return read_written(text) if text is not None else None

    def _spec(self, draft: Draft) -> ModelSpec | None:
        """The recipe's model, while it is on offer."""
        return next((spec for spec in form_models(self._house.catalogue) if spec.name == draft.model), None)
