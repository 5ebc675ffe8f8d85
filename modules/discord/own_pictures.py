"""A person's own jobs and pictures: what waits, what was made, and taking a result away."""

from __future__ import annotations

from dataclasses import replace

import discord

from modules.discord.answers import defer_privately, defer_quietly, show_privately
from modules.discord.drafts import Drafts
from modules.discord.house import House
from modules.discord.posting import Attached, Post
from modules.discord.refused_words import once_more_without_words, wordless
from modules.discord.session_rooms import SessionRooms
from modules.discord.typed_windows import TypedWindows
from modules.discord.views.notices import notice
from modules.discord.views.own_cards import HistoryEntry, history_card, queue_list
from modules.discord.views.recipe_card import recipe_card, recipe_file
from modules.discord.voices import Voices
from modules.discord.wording import channel_link, spec_of
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobSettled
from modules.domain.jobs import ACTIVE_STATES, Job, JobState, short_id
from modules.domain.people import ChannelId, MessageId, UserId

#: Jobs on one page of the history: each shows a small picture, so that a page is quick on a phone.
PAGE = 3
#: `/recall` looks this far back.
RECALL_LIMIT = 2_000


class OwnPictures:
    """`/queue`, `/history` with "send again", `/recall`, and deleting."""

    def __init__(self, house: House, post: Post, rooms: SessionRooms, voices: Voices) -> None:
        self._house = house
        self._post = post
        self._rooms = rooms
        self._voices = voices

    async def show_queue(self, interaction: discord.Interaction) -> None:
        """What of theirs waits and runs, each with Cancel. A press that was deferred quietly changes its own message."""
        await defer_privately(interaction)
        texts = await self._voices.for_person(interaction)
        jobs = await self._house.jobs.jobs(user_id=UserId(interaction.user.id), states=ACTIVE_STATES, newest_first=False)
        all_places = await self._house.studio.places() if any(job.state is JobState.QUEUED for job in jobs) else {}
        places = {job.id: all_places.get(job.id) for job in jobs}

        async def show(with_words: bool) -> None:
            shown = jobs if with_words else [wordless(job, texts) for job in jobs]
            await interaction.edit_original_response(view=queue_list(shown, places, self._house.catalogue.models(), texts))

        await once_more_without_words(show)

    async def show_history(self, interaction: discord.Interaction, argument: str = "") -> None:
        """A page of what they had made, newest first; `argument` is the `seq` to go on from, in base 36."""
        if interaction.type is discord.InteractionType.component:
            await defer_quietly(interaction)
        else:
            await defer_privately(interaction)
        texts = await self._voices.for_person(interaction)
        jobs = await self._house.jobs.jobs(
            user_id=UserId(interaction.user.id),
            states={JobState.GENERATED, JobState.DELIVERED, JobState.UNDELIVERABLE},
            before_seq=int(argument, 36) if argument else None,
            limit=PAGE + 1,
        )
        entries = [await self._entry(job) for job in jobs[:PAGE]]
        older = jobs[PAGE - 1].seq if len(jobs) > PAGE else None

        async def show(with_words: bool) -> None:
            shown = entries if with_words else [replace(entry, job=wordless(entry.job, texts)) for entry in entries]
            view = history_card(shown, older, texts, is_newest=not argument)
            files = [entry.thumbnail.as_file() for entry in entries if entry.thumbnail]
            await interaction.edit_original_response(view=view, attachments=files)

        await once_more_without_words(show)

    async def send_again(self, interaction: discord.Interaction, job: Job) -> None:
        """What could not be delivered, once more, to its person's session. Raises JOB_NOT_YOURS, PICTURE_GONE, and what making a
        channel raises."""
        if interaction.user.id != job.user_id:
            raise FulletError(ErrorCode.JOB_NOT_YOURS, owner=job.display_name)
        await defer_privately(interaction)
        if not await self._house.blobs.of_job(job.id):
            raise FulletError(ErrorCode.PICTURE_GONE)
        spec = spec_of(self._house.catalogue.models(), job)
        is_for_adults = spec is not None and spec.is_age_restricted
        texts = await self._voices.for_person(interaction)
        session = await self._rooms.reopen(job.guild_id, job.user_id, language=texts.language, is_age_restricted=is_for_adults)
        if session is None:
            raise FulletError(ErrorCode.NOT_IN_A_GUILD)
        await self._house.jobs.move_channel(job.user_id, job.guild_id, session.channel_id)
        is_owed_again = await self._house.outbox.send_again(job.id)
        if is_owed_again:
            self._house.events.publish(
                JobSettled(job_id=job.id, state=JobState.GENERATED)
            )  # the courier need not wait for its next look
        key = "history.sending" if is_owed_again else "history.sent_already"
        await show_privately(interaction, notice(texts(key, channel=channel_link(session.channel_id))))

    async def recall(self, interaction: discord.Interaction, wanted: str) -> Job:
        """A job of theirs by the short id under its picture. Raises JOB_UNKNOWN."""
        short = wanted.strip().lower().removeprefix("fullet-")[:8]
        jobs = await self._house.jobs.jobs(user_id=UserId(interaction.user.id), limit=RECALL_LIMIT)
        for job in jobs:
            if short_id(job.id) == short:
                return job
        raise FulletError(ErrorCode.JOB_UNKNOWN)

    async def show_recipe(self, interaction: discord.Interaction, job: Job) -> None:
        """A job's recipe, to read, copy and keep."""
        texts = await self._voices.for_person(interaction)

        async def show(with_words: bool) -> None:
            shown = job if with_words else wordless(job, texts)
            view = recipe_card(shown, spec_of(self._house.catalogue.models(), job), texts)
            await show_privately(interaction, view, [recipe_file(job).as_file()])  # files are not read for words

        await once_more_without_words(show)

    async def erase(self, interaction: discord.Interaction) -> None:
        """Forget this person: what waits is cancelled first, then everything stored goes."""
        await defer_quietly(interaction)
        user_id = UserId(interaction.user.id)
        texts = await self._voices.for_person(interaction)
        for job in await self._house.jobs.jobs(user_id=user_id, states=ACTIVE_STATES):
            await self._house.studio.cancel(job.id)
        await Drafts(self._house.control).drop(user_id)
        await TypedWindows(self._house.control).drop(user_id)
        await self._house.people.erase(user_id)
        await interaction.edit_original_response(view=notice(texts("mydata.erased")))

    async def remove_message(self, channel_id: ChannelId, message_id: MessageId) -> None:
        """Take a result's message away; one that is gone is no error."""
        await self._post.delete(channel_id, message_id)

    async def _entry(self, job: Job) -> HistoryEntry:
        blob_ids = await self._house.blobs.of_job(job.id)
        jpeg = await self._house.thumbnails.of(blob_ids[0]) if blob_ids else None
        thumbnail = None if jpeg is None else Attached(name=f"{short_id(job.id)}.jpg", data=jpeg)
        return HistoryEntry(job=job, spec=spec_of(self._house.catalogue.models(), job), thumbnail=thumbnail)
