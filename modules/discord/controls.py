"""What buttons and modals do: read the stored job, check who presses, act, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import discord
from discord import ui

from modules.discord import wishes
from modules.discord.answers import defer_privately, defer_quietly, open_window, show_privately
from modules.discord.asking import Accepted, Asking
from modules.discord.checks import check_addressee, check_owner
from modules.discord.drafts import draft_of
from modules.discord.edits import Edits
from modules.discord.failures import sentence
from modules.discord.form import GenerationForm
from modules.discord.house import House
from modules.discord.lineage import Lineage
from modules.discord.message_files import images_of
from modules.discord.numbers import seed_number, whole_number
from modules.discord.own_pictures import OwnPictures
from modules.discord.posting import Attached
from modules.discord.presses import Presses
from modules.discord.recalls import Recalls
from modules.discord.typed_windows import TypedWindows
from modules.discord.views.answer import accepted
from modules.discord.views.buttons import Act, Press, button, to_base36
from modules.discord.views.forms import FormName, Submission, edit_form, remix_form
from modules.discord.views.layout import Accent, card
from modules.discord.views.notices import notice
from modules.discord.voices import Voices
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId
from modules.domain.jobs import Job, JobId, Origin
from modules.domain.people import ChannelId, GuildId, MessageId, UserId
from modules.domain.recipes import MAX_PICTURES_PER_JOB

#: These change the message with the button, and say something only when they fail.
ANSWERED_ON_THE_MESSAGE = frozenset({Act.CANCEL})
#: These take their time after whatever is stored was read; the others answer with what they read, or with a window.
ANSWERED_LATER = frozenset({Act.RETRY, Act.AGAIN, Act.VARY_SUBTLE, Act.VARY_STRONG, Act.UPSCALE, Act.SEND_AGAIN})
FORM_ACTS = (Act.FORM_WORDS, Act.FORM_STRENGTHS, Act.FORM_GENERATE, Act.FORM_DEFAULT)

#: What is wrong with what was typed, so that changing it helps.
ABOUT_WORDS = frozenset(
    {
        ErrorCode.PROMPT_EMPTY,
        ErrorCode.PROMPT_TOO_LONG,
        ErrorCode.PROMPT_BLOCKED,
        ErrorCode.SIZE_INVALID,
        ErrorCode.SIZE_OUT_OF_RANGE,
        ErrorCode.VALUE_OUT_OF_RANGE,
        ErrorCode.VALUE_NOT_A_NUMBER,
    }
)

Interaction = discord.Interaction[discord.Client]
Deed = Callable[[Interaction, Job, Press], Awaitable[None]]


class Controls:
    """Acts on presses and submissions. Raises FulletError; `Failures` words it."""

    def __init__(
        self,
        house: House,
        asking: Asking,
        own: OwnPictures,
        form: GenerationForm,
        recalls: Recalls,
        edits: Edits,
        voices: Voices,
    ) -> None:
        self._house = house
        self._asking = asking
        self._edits = edits
        self._own = own
        self._form = form
        self._recalls = recalls
        self._voices = voices
        self._lineage = Lineage(house)
        self._typed = TypedWindows(house.control)
        self._presses = Presses()
        self._acts: dict[Act, Callable[[Interaction, Press], Awaitable[None]]] = {
            Act.MY_QUEUE: lambda interaction, _: own.show_queue(interaction),
            Act.HISTORY: lambda interaction, press: own.show_history(interaction, press.argument),
            Act.REFERENCE_EDIT: lambda interaction, _: edits.open_last(interaction),
            Act.REFERENCE_DROP: lambda interaction, _: edits.drop(interaction),
            Act.ERASE_ME: lambda interaction, _: own.erase(interaction),
            Act.DELETE: self._ask_to_delete,
            Act.DELETE_NOW: self._delete,
            **dict.fromkeys(FORM_ACTS, self._press_form),
            **dict.fromkeys((Act.START_OVER, Act.RECALL_DRAW, Act.RECALL_FORM), recalls.press),
        }
        #: What is done with a stored job.
        self._deeds: dict[Act, Deed] = {
            Act.CANCEL: self._cancel,
            Act.RETRY: self._again,
            Act.AGAIN: self._again,
            Act.VARY: self._ask_how_far,
            Act.VARY_SUBTLE: self._vary,
            Act.VARY_STRONG: self._vary,
            Act.EDIT: self._open_edit,
            Act.UPSCALE: self._upscale,
            Act.REMIX: self._open_remix,
            Act.RECIPE: self._show_recipe,
            Act.SEND_AGAIN: self._send_again,
        }

    async def press(self, interaction: Interaction, press: Press) -> None:
        """One button pressed. Raises what its act deserves; a button of another version is answered kindly."""
        if self._presses.is_repeated(interaction, press):
            await defer_quietly(interaction)
            return
        if press.act is None:
            await self._pressed_job(interaction, press)
        elif act := self._acts.get(press.act):
            await act(interaction, press)
        else:
            if press.act in ANSWERED_ON_THE_MESSAGE:
                await defer_quietly(interaction)
            elif press.act in ANSWERED_LATER:
                await defer_privately(interaction)
            await self._deeds[press.act](interaction, await self._pressed_job(interaction, press), press)

    async def submit(self, interaction: Interaction, submission: Submission) -> None:
        """One modal sent."""
        self._presses.end(interaction)
        if submission.form in {FormName.WORDS, FormName.STRENGTHS, FormName.FIND}:
            await self._form.submit(interaction, submission)
            return
        await defer_privately(interaction)
        if submission.form in {FormName.EDIT_MESSAGE, FormName.REFERENCE}:
            await self._edit_message(interaction, submission)
            return
        stored = await self._house.jobs.job(submission.job_id) if submission.job_id else None
        job = check_owner(stored, interaction)
        match submission.form:
            case FormName.EDIT:
                index = _index(submission.argument or submission.text("picture"))
                source = await self._picture(job.id, index)
                done = await self._edits.ask(interaction, source, submission.text("prompt"), parent=job)
                await self._show_place(interaction, done, job.guild_id)
            case _:
                await self._remix(interaction, job, submission)

    async def give_back(self, interaction: Interaction, typed: Mapping[str, str]) -> None:
        """A window or control of another version, which nobody understands: say so, and hand back what was typed."""
        await defer_privately(interaction)
        texts = await self._voices.for_person(interaction)
        words = "\n\n".join(f"{field}:\n{text}" for field, text in typed.items() if text.strip())
        if not words:
            await show_privately(interaction, notice(texts("form.of_another_version")))
            return
        file = Attached(name="typed.txt", data=words.encode("utf-8", "replace"))
        said = f"{texts('form.of_another_version')} {texts('form.given_back')}"
        await show_privately(interaction, card(Accent.GREY, said, ui.File(f"attachment://{file.name}")), [file.as_file()])

    async def _remix(self, interaction: Interaction, job: Job, submission: Submission) -> None:
        """What was typed is kept until it is right: the button opens the window with it."""
        user_id = UserId(interaction.user.id)
        await self._typed.keep(user_id, job.id, submission.answers, self._house.clock.now())
        try:
            wish = self._remixed(job, submission)
            done = await self._asking.ask(interaction, wish, Origin.REMIX, guild_id=job.guild_id, parent_id=job.id)
        except FulletError as error:
            if error.code not in ABOUT_WORDS:
                raise
            texts = await self._voices.for_person(interaction)
            reopen = button(Act.REMIX, texts("button.change"), job.id, emoji="✏️")
            fault = sentence(error.code.value, error.params.items(), texts)
            await show_privately(interaction, notice(f"{fault} {texts('form.kept')}", reopen, accent=Accent.RED))
            return
        await self._typed.drop(user_id)
        await self._show_place(interaction, done, job.guild_id)

    async def _edit_message(self, interaction: Interaction, submission: Submission) -> None:
        """Edit the picture of a message, or the session's last one."""
        await self._edits.check(interaction, submission.text("prompt"))
        if submission.form is FormName.EDIT_MESSAGE:
            source = await self._asking.picture_in(interaction, int(submission.argument, 36))
        else:
            source = await self._asking.picture_for_edit(interaction, None)
        done = await self._edits.ask(interaction, source, submission.text("prompt"))
        await self._show_place(interaction, done, GuildId(interaction.guild_id or 0))

    async def _press_form(self, interaction: Interaction, press: Press) -> None:
        assert press.act is not None
        await self._form.press(interaction, press.act)

    # --- deeds ----------------------------------------------------------------------------------------------------------

    async def _cancel(self, interaction: Interaction, job: Job, press: Press) -> None:
        if interaction.user.id == job.user_id:  # the card shows it
            await self._house.studio.cancel(job.id)
        else:
            await self._house.admin.cancel_for(job.id, UserId(interaction.user.id))
        if interaction.message is not None and interaction.message.flags.ephemeral:
            await self._own.show_queue(interaction)

    async def _again(self, interaction: Interaction, job: Job, press: Press) -> None:
        make = wishes.same if press.act is Act.RETRY else wishes.again
        await self._ask(interaction, job, make(job.recipe, self._lineage.spec(job)), Origin.AGAIN)

    async def _ask_how_far(self, interaction: Interaction, job: Job, press: Press) -> None:
        await self._lineage.drawn(interaction, job)
        texts = await self._voices.for_person(interaction)
        picture = press.argument or "0"
        question = notice(
            texts("vary.question"),
            button(Act.VARY_SUBTLE, texts("button.vary_s"), job.id, picture, emoji="🌱"),
            button(Act.VARY_STRONG, texts("button.vary_x"), job.id, picture, emoji="🌪️"),
        )
        await show_privately(interaction, question)

    async def _vary(self, interaction: Interaction, job: Job, press: Press) -> None:
        index = _index(press.argument)
        is_strong = press.act is Act.VARY_STRONG
        drawn, spec = await self._lineage.drawn(interaction, job)
        source = await self._picture(job.id, index)
        picture = await self._house.blobs.info(source)
        if picture is None:
            raise FulletError(ErrorCode.PICTURE_GONE)
        wish = wishes.vary(drawn.recipe, spec, source, picture.size, index, is_strong=is_strong)
        await self._ask(interaction, job, wish, Origin.VARY)

    async def _upscale(self, interaction: Interaction, job: Job, press: Press) -> None:
        source = await self._picture(job.id, _index(press.argument))
        models = wishes.able_to(WorkflowKind.UPSCALE, self._house.catalogue)
        await self._ask(interaction, job, wishes.upscale(job.recipe, models, source), Origin.UPSCALE)

    async def _open_edit(self, interaction: Interaction, job: Job, press: Press) -> None:
        texts = await self._voices.for_person(interaction)
        index = _index(press.argument) if press.argument else None
        has_reference = await self._edits.has_reference(interaction)
        await open_window(interaction, edit_form(job, index, texts, has_reference=has_reference), texts)

    async def _open_remix(self, interaction: Interaction, job: Job, press: Press) -> None:
        texts = await self._voices.for_person(interaction)
        drawn, spec = await self._lineage.drawn(interaction, job)
        if wishes.kind_of(drawn.recipe, spec) is WorkflowKind.FORM:
            await self._form.open(interaction, draft_of(drawn))
            return
        typed = await self._typed.of(UserId(interaction.user.id), drawn.id, self._house.clock.now())
        await open_window(interaction, remix_form(drawn, spec, texts, typed), texts)

    async def _show_recipe(self, interaction: Interaction, job: Job, press: Press) -> None:
        await self._own.show_recipe(interaction, job)

    async def _send_again(self, interaction: Interaction, job: Job, press: Press) -> None:
        await self._own.send_again(interaction, job)

    async def _ask_to_delete(self, interaction: Interaction, press: Press) -> None:
        """Also where everything but the message was erased before."""
        texts, message = await self._voices.for_person(interaction), interaction.message
        job = await self._stored_job(interaction, press)
        count = job.recipe.count if job else len(images_of(message)) if message else 1
        asked_on = to_base36(message.id) if message else ""
        yes = button(Act.DELETE_NOW, texts("button.delete_now"), press.job_id, asked_on, style=discord.ButtonStyle.danger)
        await show_privately(interaction, notice(texts("delete.question", count=count), yes, accent=Accent.RED))

    async def _delete(self, interaction: Interaction, press: Press) -> None:
        """Asked privately, so whoever presses is who was asked."""
        await defer_quietly(interaction)
        texts = await self._voices.for_person(interaction)
        stored = await self._house.jobs.job(press.job_id) if press.job_id else None
        job = check_owner(stored, interaction) if stored else None
        if job is not None:
            await self._house.blobs.erase_job(job.id)
        if press.argument and interaction.channel_id is not None:
            # The very message it was asked on: the store learns its id a moment after people see it.
            await self._own.remove_message(ChannelId(interaction.channel_id), MessageId(int(press.argument, 36)))
        elif job is not None and job.result_message_id is not None:
            await self._own.remove_message(job.channel_id, job.result_message_id)
        await interaction.edit_original_response(view=notice(texts("delete.done", count=job.recipe.count if job else 1)))

    # --- shared ---------------------------------------------------------------------------------------------------------

    async def _ask(self, interaction: Interaction, parent: Job, wish: Wish, origin: Origin) -> None:
        """Submit for whoever pressed, and say the place."""
        done = await self._asking.ask(interaction, wish, origin, guild_id=parent.guild_id, parent_id=parent.id)
        await self._show_place(interaction, done, parent.guild_id)

    async def _show_place(self, interaction: Interaction, done: Accepted, guild_id: GuildId) -> None:
        texts = self._voices.speaking(done.language)
        await show_privately(interaction, accepted(done.ticket, done.session.channel_id, guild_id, texts))

    def _remixed(self, job: Job, submission: Submission) -> Wish:
        spec = self._lineage.spec(job)
        wish = wishes.same(job.recipe, spec)
        if "prompt" in submission.answers:
            wish = replace(wish, prompt=submission.text("prompt"))
        if "negative_prompt" in submission.answers:
            wish = replace(wish, negative_prompt=submission.text("negative_prompt"))
        if "seed" in submission.answers:
            wish = replace(wish, seed=seed_number(submission.text("seed")))
        if "size" in submission.answers:
            wish = replace(wish, size=submission.text("size").strip() or None)
        if "steps" in submission.answers:
            low, high = round(spec.steps.low), round(spec.steps.high)
            wish = replace(wish, steps=whole_number(submission.text("steps"), "steps", low, high))
        if "count" in submission.answers:
            wish = replace(wish, count=whole_number(submission.text("count"), "count", 1, MAX_PICTURES_PER_JOB) or 1)
        return wish

    async def _pressed_job(self, interaction: Interaction, press: Press) -> Job:
        """The job of a button, for whoever may act on it. Raises RECIPE_GONE where only its message is left, JOB_*."""
        job = await self._stored_job(interaction, press)
        if job is None:
            raise FulletError(ErrorCode.RECIPE_GONE)
        return job

    async def _stored_job(self, interaction: Interaction, press: Press) -> Job | None:
        """The same; None where only its message is left, which is then the presser's. Raises JOB_*."""
        job = await self._house.jobs.job(press.job_id) if press.job_id else None
        job = None if job is not None and job.is_erased else job
        message = interaction.message
        if job is None and message is not None and not message.flags.ephemeral:
            check_addressee(message, interaction)
            return None
        return check_owner(job, interaction)

    async def _picture(self, job_id: JobId, index: int) -> BlobId:
        blob_ids = await self._house.blobs.of_job(job_id)
        if index >= len(blob_ids):
            raise FulletError(ErrorCode.PICTURE_GONE)
        return blob_ids[index]


def _index(text: str) -> int:
    """Which picture; the first where nothing is said."""
    return int(text) if text.isascii() and text.isdigit() and int(text) < MAX_PICTURES_PER_JOB else 0
