"""The `/gen` form at work: every press reads the draft, changes it, keeps it, and shows the form anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import discord

from modules.discord.asking import Asking
from modules.discord.drafts import Draft, Drafts, fault_of, first_draft, form_models, wish_of
from modules.discord.failures import Failures, show_privately
from modules.discord.house import House
from modules.discord.views.answer import accepted
from modules.discord.views.buttons import Act
from modules.discord.views.forms import Submission, strengths_form, words_form
from modules.discord.views.generation_form import generation_form
from modules.discord.views.notices import notice
from modules.discord.views.selects import Field, merged, turned_to
from modules.discord.voices import Voices
from modules.domain.catalogue import ModelSpec
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Origin
from modules.domain.people import GuildId, UserId

Interaction = discord.Interaction[discord.Client]
_WORDS = ("prompt", "negative_prompt", "steps", "cfg", "seed")


class GenerationForm:
    """Implements the form's acts. Raises FulletError where there is no form to show; a wrong field is shown in the form."""

    def __init__(self, house: House, asking: Asking, voices: Voices, failures: Failures) -> None:
        self._house = house
        self._asking = asking
        self._voices = voices
        self._failures = failures
        self._drafts = Drafts(house.control)
        self._turns: WeakValueDictionary[UserId, asyncio.Lock] = WeakValueDictionary()

    async def open(self, interaction: Interaction, draft: Draft | None = None) -> None:
        """`/gen`: the draft that is still warm, else an empty one with the person's defaults. `draft`: to go on from another."""
        if not interaction.response.is_done():
            await interaction.response.defer(ephemeral=True, thinking=True)
        await self._show(interaction, await self._change(interaction, lambda kept: draft or kept))

    async def choose(self, interaction: Interaction, field: str, values: Sequence[str], on_page: Sequence[str]) -> None:
        """Something was chosen in a select, or another page of it was asked for."""
        await interaction.response.defer()
        page = turned_to(values)
        if page is not None:
            await self._show(interaction, await self._draft(interaction), pages={field: page})
            return
        await self._show(interaction, await self._change(interaction, lambda kept: _chosen(kept, field, values, on_page)))

    async def press(self, interaction: Interaction, act: Act) -> None:
        """One of the form's buttons."""
        draft = await self._draft(interaction)
        texts = await self._voices.for_person(interaction)
        match act:
            case Act.FORM_WORDS:
                await interaction.response.send_modal(words_form({name: getattr(draft, name) for name in _WORDS}, texts))
            case Act.FORM_STRENGTHS:
                strengths = [draft.strength_of(index) for index in range(len(draft.loras))]
                await interaction.response.send_modal(strengths_form(draft.loras, strengths, texts))
            case Act.FORM_DEFAULT:
                await self._save_as_default(interaction, draft)
            case _:
                await self._generate(interaction, draft)

    async def submit(self, interaction: Interaction, submission: Submission) -> None:
        """A modal of the form came back: everything typed is kept, right or wrong."""
        await interaction.response.defer()
        await self._show(interaction, await self._change(interaction, lambda kept: _typed(kept, submission)))

    async def _generate(self, interaction: Interaction, draft: Draft) -> None:
        await interaction.response.defer()
        spec = self._spec(draft)
        if fault_of(draft, spec, self._house.catalogue) is not None:
            await self._show(interaction, draft)  # the world changed since it was shown, such as a LoRA that vanished
            return
        done = await self._asking.ask(interaction, wish_of(draft, spec), Origin.FORM)
        await self._drafts.drop(UserId(interaction.user.id))
        texts = await self._voices.for_person(interaction)
        guild_id = GuildId(interaction.guild_id or 0)
        await interaction.edit_original_response(view=accepted(done.ticket, done.session.channel_id, guild_id, texts))

    async def _save_as_default(self, interaction: Interaction, draft: Draft) -> None:
        await interaction.response.defer()
        settings = await self._house.people.settings(UserId(interaction.user.id))
        spec = self._spec(draft)
        count = int(draft.count) if draft.count.isascii() and draft.count.isdigit() else settings.count
        wanted = replace(settings, model=spec.name, size=draft.size or settings.size, count=count)
        await self._house.people.save_settings(wanted)
        await self._show(interaction, draft, note="gen.saved")

    async def _change(self, interaction: Interaction, change: Callable[[Draft], Draft]) -> Draft:
        """Read, change, keep. Two quick presses of one person take turns here, or one would undo the other."""
        user_id = UserId(interaction.user.id)
        async with self._turns.setdefault(user_id, asyncio.Lock()):
            draft = change(await self._draft(interaction))
            await self._drafts.save(user_id, draft, self._house.clock.now())
        return draft

    async def _draft(self, interaction: Interaction) -> Draft:
        user_id = UserId(interaction.user.id)
        draft = await self._drafts.load(user_id, self._house.clock.now())
        if draft is None:
            settings = await self._house.people.settings(user_id)
            draft = first_draft(form_models(self._house.catalogue), settings.model, settings.size, settings.count)
        return draft

    async def _show(
        self, interaction: Interaction, draft: Draft, *, pages: Mapping[str, int] | None = None, note: str = ""
    ) -> None:
        texts = await self._voices.for_person(interaction)
        models = form_models(self._house.catalogue)
        spec = self._spec(draft)
        fault = fault_of(draft, spec, self._house.catalogue)
        words = "" if fault is None else self._failures.sentence(fault, texts)
        view = generation_form(draft, spec, models, self._house.catalogue, texts, fault=words, pages=pages)
        await interaction.edit_original_response(view=view)
        newest = await self._drafts.load(UserId(interaction.user.id), self._house.clock.now())
        if newest is not None and newest != draft and not note:
            await self._show(interaction, newest)  # a quicker press overtook this one
        if note:
            await show_privately(interaction, notice(texts(note)))

    def _spec(self, draft: Draft) -> ModelSpec:
        models = form_models(self._house.catalogue)
        if not models:
            raise FulletError(ErrorCode.MODEL_UNAVAILABLE, model="/gen", alternative="")
        return next((spec for spec in models if spec.name == draft.model), models[0])


def _typed(draft: Draft, submission: Submission) -> Draft:
    typed = submission.text
    if "strength_0" in submission.answers:
        return replace(draft, strengths=tuple(typed(f"strength_{at}") for at in range(len(draft.loras))))
    return replace(
        draft,
        prompt=typed("prompt"),
        negative_prompt=typed("negative_prompt"),
        steps=typed("steps"),
        cfg=typed("cfg"),
        seed=typed("seed"),
    )


def _chosen(draft: Draft, field: str, values: Sequence[str], on_page: Sequence[str]) -> Draft:
    match field:
        case Field.MODEL:
            # Sizes, samplers and LoRAs belong to a model; what was typed does not.
            return replace(draft, model=values[0], size="", checkpoint="", sampler="", scheduler="", loras=(), strengths=())
        case Field.LORAS:
            return draft.with_loras(merged(draft.loras, values, on_page))
        case Field.SIZE:
            return replace(draft, size=values[0])
        case Field.CHECKPOINT:
            return replace(draft, checkpoint=values[0])
        case Field.SAMPLER:
            return replace(draft, sampler=values[0])
        case Field.SCHEDULER:
            return replace(draft, scheduler=values[0])
        case _:
            return draft
