"""The `/gen` form at work: every press reads the draft, changes it, keeps it, and shows the form anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import discord

from modules.discord.answers import defer_privately, defer_quietly, open_window
from modules.discord.asking import Asking
from modules.discord.drafts import (
    MAX_LORAS,
    Draft,
    Drafts,
    defaults_of,
    faults_of,
    first_draft,
    form_models,
    wish_of,
    with_model,
)
from modules.discord.failures import Failures
from modules.discord.house import House
from modules.discord.refused_words import once_more_without_words
from modules.discord.views.answer import accepted
from modules.discord.views.buttons import Act
from modules.discord.views.forms import FormName, Submission, find_form, strength_field, strengths_form, words_form
from modules.discord.views.generation_form import generation_form
from modules.discord.views.selects import Chosen, Field, Look, named, value_of
from modules.discord.voices import Voices
from modules.discord.wording import plain
from modules.domain.catalogue import ModelSpec
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Origin
from modules.domain.people import GuildId, UserId
from modules.domain.recipes import ModelName
from modules.domain.records import FormDefaults
from modules.utils.i18n import Texts

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
        await defer_privately(interaction)
        await self._drafts.sweep(self._house.clock.now())
        await self._show(interaction, await self._change(interaction, lambda kept: draft or kept))

    async def choose(self, interaction: Interaction, chosen: Chosen) -> None:
        """Something was chosen in a select, or another part of its list was asked for."""
        known = self._names(chosen.field)
        if chosen.wants_window:
            if chosen.picks:
                await self._choose(interaction, chosen, known)
            texts = await self._voices.for_person(interaction)
            await open_window(interaction, find_form(chosen.field, chosen.look.query, texts), texts)
            return
        await defer_quietly(interaction)
        note = await self._note_on(interaction)
        draft = await self._choose(interaction, chosen, known)
        if chosen.field == Field.LORAS and len(chosen.picks) > MAX_LORAS:
            note = "gen.too_many_loras"
        look = chosen.next_look
        await self._show(interaction, draft, looks={chosen.field: look} if look else {}, note=note)

    async def press(self, interaction: Interaction, act: Act) -> None:
        """One of the form's buttons."""
        if act not in {Act.FORM_WORDS, Act.FORM_STRENGTHS}:
            await defer_quietly(interaction)
        draft = await self._draft(interaction)
        texts = await self._voices.for_person(interaction)
        match act:
            case Act.FORM_WORDS:
                await open_window(interaction, words_form({name: getattr(draft, name) for name in _WORDS}, texts), texts)
            case Act.FORM_STRENGTHS:
                strengths = [draft.strength_of(index) for index in range(len(draft.loras))]
                await open_window(interaction, strengths_form(draft.loras, strengths, texts), texts)
            case Act.FORM_DEFAULT:
                await self._save_as_default(interaction, draft)
            case _:
                await self._generate(interaction, draft)

    async def submit(self, interaction: Interaction, submission: Submission) -> None:
        """A modal of the form came back: everything typed is kept, right or wrong."""
        await defer_quietly(interaction)
        if submission.form is FormName.FIND:
            await self._find(interaction, submission.argument, submission.text("query").strip())
            return
        note = await self._note_on(interaction)
        before: list[Draft] = []

        def typed(kept: Draft) -> Draft:
            before[:] = [kept]
            return _typed(kept, submission)

        after = await self._change(interaction, typed)
        if set(submission.answers) - set(_fields(before[0], submission.form)):
            note = note or "gen.not_all_taken"
        await self._show(interaction, after, note=note)

    async def _find(self, interaction: Interaction, field: str, query: str) -> None:
        """Take what is meant when only one entry can be; else show those that contain it."""
        read = self._read_names(field)
        found = [name for name, label in read.items() if query.casefold() in label.casefold()]
        exact = [name for name, label in read.items() if query.casefold() in {name.casefold(), label.casefold()}]
        if field == Field.SIZE:
            exact = [query] if query else []
        if picked := exact or (found if query and len(found) == 1 else []):
            chosen = Chosen(field=field, values=[value_of(picked[0])], on_page=(), look=Look())
            await self._show(interaction, await self._choose(interaction, chosen, picked))
            return
        note = "gen.nothing_found" if query and not found else ""
        look = Look(query=query) if found else Look()
        await self._show(interaction, await self._draft(interaction), looks={field: look}, note=note)

    async def _generate(self, interaction: Interaction, draft: Draft) -> None:
        spec = self._spec(draft)
        note = await self._note_on(interaction)
        if draft.model and spec.name != draft.model:  # never draw with a model that nobody chose
            draft = await self._change(interaction, lambda kept: with_model(kept, spec.name, {}))
            note = note or "gen.model_gone"
        if note or faults_of(draft, spec, self._house.catalogue):
            await self._show(interaction, draft, note=note)  # it lay too long, or the world changed since it was shown
            return
        done = await self._asking.ask(interaction, wish_of(draft, spec), Origin.FORM)
        await self._drafts.drop(UserId(interaction.user.id))
        texts = self._voices.speaking(done.language)
        guild_id = GuildId(interaction.guild_id or 0)
        await interaction.edit_original_response(view=accepted(done.ticket, done.session.channel_id, guild_id, texts))

    async def _save_as_default(self, interaction: Interaction, draft: Draft) -> None:
        spec = self._spec(draft)
        note = await self._note_on(interaction)
        trial = replace(draft, prompt="a trial", seed="")
        if note or faults_of(trial, spec, self._house.catalogue):  # saved, every form from now on would begin with a fault
            await self._show(interaction, draft, note=note or "gen.not_saved")
            return
        count = wish_of(trial, spec).count if draft.count else None
        defaults = defaults_of(draft)
        await self._house.people.change_settings(
            UserId(interaction.user.id),
            lambda settings: replace(
                settings,
                model=spec.name,
                size=draft.size or settings.size,
                count=count or settings.count,
                forms={**settings.forms, spec.name: defaults},
            ),
        )
        await self._show(interaction, draft, note="gen.saved")

    async def _choose(self, interaction: Interaction, chosen: Chosen, known: Sequence[str]) -> Draft:
        forms = (await self._house.people.settings(UserId(interaction.user.id))).forms if chosen.field == Field.MODEL else {}
        return await self._change(interaction, lambda kept: _chosen(kept, chosen, known, forms))

    async def _change(self, interaction: Interaction, change: Callable[[Draft], Draft]) -> Draft:
        """Read, change, keep. Two quick presses of one person take turns here, or one would undo the other."""
        user_id = UserId(interaction.user.id)
        async with self._turns.setdefault(user_id, asyncio.Lock()):
            draft = change(await self._draft(interaction))
            await self._drafts.save(user_id, draft, self._house.clock.now())
        return draft

    async def _note_on(self, interaction: Interaction) -> str:
        """What must be said of a form whose draft is gone; nothing while it is there."""
        kept = await self._drafts.load(UserId(interaction.user.id), self._house.clock.now())
        return "" if kept else "gen.expired"

    async def _draft(self, interaction: Interaction) -> Draft:
        user_id = UserId(interaction.user.id)
        draft = await self._drafts.load(user_id, self._house.clock.now())
        if draft is None:
            settings = await self._house.people.settings(user_id)
            draft = first_draft(form_models(self._house.catalogue), settings)
        return draft

    async def _show(
        self, interaction: Interaction, draft: Draft, *, looks: Mapping[str, Look] | None = None, note: str = ""
    ) -> None:
        texts = await self._voices.for_person(interaction)
        models = form_models(self._house.catalogue)
        spec = self._spec(draft)
        faults = [self._worded(typed, fault, texts) for typed, fault in faults_of(draft, spec, self._house.catalogue)]
        said = texts(note) if note else ""

        async def show(with_words: bool) -> None:
            shown = draft if with_words else replace(draft, prompt=texts("card.words_refused"), negative_prompt="")
            view = generation_form(shown, spec, models, self._house.catalogue, texts, faults=faults, note=said, looks=looks)
            await interaction.edit_original_response(view=view)

        await once_more_without_words(show)
        newest = await self._drafts.load(UserId(interaction.user.id), self._house.clock.now())
        if newest is not None and newest != draft:
            await self._show(interaction, newest, looks=looks, note=note)  # a quicker press overtook this one

    def _worded(self, typed: str, fault: FulletError, texts: Texts) -> str:
        words = self._failures.sentence(fault, texts)
        return f"“{plain(typed, 20)}” · {words}" if typed else words

    def _read_names(self, field: str) -> Mapping[str, str]:
        """The same, each with what people read in its place."""
        if field == Field.MODEL:
            return {spec.name: spec.label for spec in form_models(self._house.catalogue)}
        return {name: name for name in self._names(field)}

    def _names(self, field: str) -> Sequence[str]:
        """Everything a field's list has right now."""
        choices = self._house.catalogue.choices()
        match field:
            case Field.CHECKPOINT:
                return choices.checkpoints
            case Field.SAMPLER:
                return choices.samplers
            case Field.SCHEDULER:
                return choices.schedulers
            case Field.LORAS:
                return choices.loras
            case _:
                return [spec.name for spec in form_models(self._house.catalogue)]

    def _spec(self, draft: Draft) -> ModelSpec:
        """The draft's model, also while no server could run it: that is then said. The first on offer where it is unknown."""
        models = form_models(self._house.catalogue)
        if not models:
            raise FulletError(ErrorCode.MODEL_UNAVAILABLE, model="/gen", alternative="")
        chosen = (spec for spec in self._house.catalogue.models() if spec.name == draft.model and spec.draws_from_words)
        return next(chosen, models[0])


def _typed(draft: Draft, submission: Submission) -> Draft:
    """The draft with what was typed. A field that the window did not have, since another version made it, stays as it is."""
    answers = submission.answers
    if submission.form is FormName.STRENGTHS:
        fields = _fields(draft, submission.form)
        return replace(draft, strengths=tuple(answers.get(field, draft.strength_of(index)) for index, field in enumerate(fields)))
    return replace(
        draft,
        prompt=answers.get("prompt", draft.prompt),
        negative_prompt=answers.get("negative_prompt", draft.negative_prompt),
        steps=answers.get("steps", draft.steps),
        cfg=answers.get("cfg", draft.cfg),
        seed=answers.get("seed", draft.seed),
    )


def _fields(draft: Draft, form: FormName) -> Sequence[str]:
    """What the draft has to be typed in such a window, in its order."""
    return [strength_field(name) for name in draft.loras] if form is FormName.STRENGTHS else _WORDS


def _chosen(draft: Draft, chosen: Chosen, known: Sequence[str], forms: Mapping[ModelName, FormDefaults]) -> Draft:
    first = named(chosen.picks[0], known) if chosen.picks else ""
    match chosen.field:
        case _ if not chosen.picks and chosen.next_look is not None:
            return draft  # only another part of the list was asked for
        case Field.MODEL if first and first != draft.model:
            return with_model(draft, first, forms)
        case Field.LORAS:
            return draft.with_loras(chosen.merged(draft.loras, known))
        case Field.SIZE:
            return replace(draft, size=first)
        case Field.CHECKPOINT:
            return replace(draft, checkpoint=first)
        case Field.SAMPLER:
            return replace(draft, sampler=first)
        case Field.SCHEDULER:
            return replace(draft, scheduler=first)
        case _:
            return draft
