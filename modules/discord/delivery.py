"""One delivery: where it goes, what it looks like, and whether it is there already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import aiohttp
import discord
import structlog
from discord import ui

from modules.discord.exports import Exports
from modules.discord.failures import sentence
from modules.discord.house import House
from modules.discord.posting import Attached, Post, is_failure_of, is_refusal_of, is_result_of, nonce_for
from modules.discord.refusals import FOR_GOOD, RefusalKind, refusal_of
from modules.discord.refused_words import once_more_without_words, wordless
from modules.discord.session_rooms import SessionRooms
from modules.discord.upload_sizes import UploadPlace, UploadSizes
from modules.discord.views.result_card import failure_card, refused_card, result_card
from modules.discord.voices import Voices
from modules.discord.wording import spec_of
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Picture
from modules.domain.jobs import Job, JobId, short_id
from modules.domain.people import ChannelId, MessageId, UserId
from modules.domain.records import MessageKind, OutboxItem
from modules.utils.i18n import Texts

log = structlog.get_logger(__name__)

#: Within this time Discord answers a repeated nonce with the message it already has (durability.md).
NONCE_COVERS = timedelta(minutes=2)


class NowhereToSend(Exception):  # noqa: N818 - a fact about the world, not a fault
    """There is no place left to send to, nothing left to send, or Discord refuses it for good; trying again changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message ready to go, and how to know it again."""

    job: Job
    view: Callable[[Sequence[str]], ui.LayoutView]  #: by the names of its files
    is_it: Callable[[discord.Message], bool]
    pictures: Sequence[Picture] = ()
    pings: UserId | None = None
    purpose: str = ""  #: of its nonce; empty for the one message that every job is owed


class Cards(Protocol):
    """What the courier needs of whoever looks after the cards."""

    async def release(self, job: Job) -> MessageId | None:
        """Hand over the card's message: nothing more is painted on it."""
        ...

    async def retire(self, job_id: JobId) -> None:
        """The result is posted: take the card down."""
        ...

    async def moved(self, user_id: UserId, channel_id: ChannelId) -> None:
        """A person's channel was made anew."""
        ...


class Delivery:
    """Delivers one item at a time; safe to call for several items at once."""

    def __init__(
        self,
        client: discord.Client,
        house: House,
        post: Post,
        rooms: SessionRooms,
        cards: Cards,
        voices: Voices,
        exports: Exports,
    ) -> None:
        self._client = client
        self._house = house
        self._post = post
        self._rooms = rooms
        self._cards = cards
        self._voices = voices
        self._exports = exports
        self._started_at = house.clock.now()
        self._sizes = UploadSizes()

    async def deliver(self, item: OutboxItem) -> MessageId | None:
        """Send it, or find it sent. Raises NowhereToSend, `DISCORD_TROUBLE` (worth another try), FulletError (our stores)."""
        job = await self._house.jobs.job(item.job_id)
        if job is None:
            raise NowhereToSend
        must_search = needs_search(item, self._house.clock.now(), self._started_at)
        match item.kind:
            case MessageKind.RESULT:
                return await self._result(job, item, must_search=must_search)
            case MessageKind.FAILURE:
                return await self._failure(job, item, must_search=must_search)

    async def tidy(self, item: OutboxItem) -> None:
        """After the delivery is noted: take the card down, or forget that the failed one was a card."""
        if item.kind is MessageKind.RESULT:
            await self._cards.retire(item.job_id)
            return
        job = await self._house.jobs.job(item.job_id)
        if job is not None and job.card_message_id is not None:
            await self._house.jobs.set_card(job.id, None)

    async def _result(self, job: Job, item: OutboxItem, *, must_search: bool) -> MessageId | None:
        blob_ids = await self._house.blobs.of_job(job.id)
        pictures = [picture for blob_id in blob_ids if (picture := await self._house.blobs.get(blob_id)) is not None]
        if not pictures:
            raise NowhereToSend
        settings = await self._house.people.settings(job.user_id)
        texts = self._voices.speaking(job.language)
        models = self._house.catalogue.models()
        spec, offers = spec_of(models, job), {kind for model in models for kind in model.workflows}

        async def send(with_words: bool) -> MessageId | None:
            shown = job if with_words else wordless(job, texts)
            letter = Letter(
                job=job,
                view=lambda names: result_card(shown, names, spec, texts, is_spoiler=settings.is_spoiler, offers=offers),
                pictures=pictures,
                pings=None if settings.is_quiet else job.user_id,
                is_it=lambda message: is_result_of(message, job.id),
            )
            return await self._send(letter, must_search=must_search)

        try:
            message_id = await once_more_without_words(send)
        except discord.HTTPException as error:
            if refusal_of(error).kind not in FOR_GOOD | {RefusalKind.TOO_LARGE}:
                raise
            log.warning("result_refused", status=error.status, code=error.code)
            await self._tell_refused(job, must_search=must_search)
            raise NowhereToSend from error
        await self._exports.keep(job, pictures)
        return message_id

    async def _tell_refused(self, job: Job, *, must_search: bool) -> None:
        """Discord takes this result in no form: its person is told at once, and the pictures stay in `/history`."""
        texts = self._voices.speaking(job.language)
        letter = Letter(
            job=job,
            view=lambda _: refused_card(job, texts),
            pings=job.user_id,
            is_it=lambda message: is_refusal_of(message, job.id),
            purpose="refused",
        )
        try:
            await self._send(letter, must_search=must_search)
        except discord.HTTPException as error:
            if refusal_of(error).kind not in FOR_GOOD:
                raise
            log.exception("refusal_not_told")  # nothing of the person's is in it: a bug

    async def _failure(self, job: Job, item: OutboxItem, *, must_search: bool) -> MessageId | None:
        texts = self._voices.speaking(job.language)
        spec = spec_of(self._house.catalogue.models(), job)
        card_id = await self._cards.release(job)

        async def show(with_words: bool) -> MessageId | None:
            shown, why = (job, _reason(job, texts)) if with_words else (wordless(job, texts), texts("error.unknown"))
            if card_id is not None:
                try:
                    await self._post.edit(job.channel_id, card_id, failure_card(shown, why, spec, texts, with_mention=False))
                except discord.HTTPException as error:
                    if refusal_of(error).kind not in {RefusalKind.MESSAGE_GONE, RefusalKind.PLACE_GONE}:
                        raise
                else:
                    return card_id
            letter = Letter(
                job=job,
                view=lambda _: failure_card(shown, why, spec, texts, with_mention=True),
                pings=job.user_id,
                is_it=lambda message: is_failure_of(message, job.id),
            )
            return await self._send(letter, must_search=must_search)

        try:
            return await once_more_without_words(show)
        except discord.HTTPException as error:
            if refusal_of(error).kind not in FOR_GOOD:
                raise
            log.exception("failure_refused")  # nothing of the person's is in it: a bug
            raise NowhereToSend from error

    async def _send(self, letter: Letter, *, must_search: bool) -> MessageId | None:
        """To the session; where that cannot be had, to a new one, once; else to the person directly."""
        job = letter.job
        channel_id: ChannelId | None = job.channel_id
        is_for_adults = bool(letter.pictures) and self._is_for_adults(job)
        is_suitable = not is_for_adults or await self._rooms.is_age_restricted(job.guild_id, job.channel_id)
        if not is_suitable or await self._rooms.is_private(job.guild_id, job.channel_id) is not True:
            channel_id = await self._another_room(job, unusable=None)
        for is_second in (False, True):
            if channel_id is None:
                break
            try:
                return await self._send_to(channel_id, letter, must_search=must_search)
            except discord.HTTPException as error:
                if refusal_of(error).kind is not RefusalKind.PLACE_GONE:
                    raise
                log.warning("session_unusable", channel_id=channel_id, code=error.code)
                channel_id = None if is_second else await self._another_room(job, unusable=channel_id)
        if is_for_adults:
            raise NowhereToSend  # direct messages cannot ask for anybody's age
        try:
            direct = await self._post.direct_channel(job.user_id)
            return await self._send_to(direct, letter, must_search=must_search, is_direct=True)
        except discord.HTTPException as error:
            if refusal_of(error).kind is RefusalKind.PLACE_GONE:
                raise NowhereToSend from error
            raise

    async def _another_room(self, job: Job, *, unusable: ChannelId | None) -> ChannelId | None:
        """The person's session, mended or made anew; None where that is not possible."""
        try:
            session = await self._rooms.reopen(
                job.guild_id,
                job.user_id,
                language=job.language,
                unusable=unusable,
                is_age_restricted=self._is_for_adults(job),
            )
        except FulletError as error:
            if error.code is ErrorCode.DATABASE_UNAVAILABLE:
                raise
            return None
        except discord.HTTPException as error:
            if refusal_of(error).kind is not RefusalKind.PLACE_GONE:
                raise
            return None
        if session is None:
            return None
        if session.channel_id != job.channel_id:
            await self._cards.moved(job.user_id, session.channel_id)
        return session.channel_id

    async def _send_to(
        self, channel_id: ChannelId, letter: Letter, *, must_search: bool, is_direct: bool = False
    ) -> MessageId | None:
        """The message's id; None where Discord says that it was posted before and deleted since: then it is not posted again."""
        if must_search:
            found = await self._post.find_ours(channel_id, letter.job.interaction_id, letter.is_it)
            if found is not None:
                log.info("delivery_found")
                return found
        try:
            return await self._upload(channel_id, letter, self._upload_place(letter.job, is_direct=is_direct))
        except discord.HTTPException as error:
            if refusal_of(error).kind is RefusalKind.MESSAGE_GONE:  # a nonce whose message was deleted (docs/durability.md)
                log.info("delivery_deleted_since")
                return None
            raise

    async def _upload(self, channel_id: ChannelId, letter: Letter, place: UploadPlace) -> MessageId:
        """Post it, with smaller pictures each time that Discord finds them too large."""
        count = len(letter.pictures)
        limit = self._sizes.limit(place, count, letter.job.id)
        while True:
            fitted = [await self._house.fit(picture, limit) for picture in letter.pictures]
            try:
                message_id = await self._post_once(channel_id, letter, fitted)
            except discord.HTTPException as error:
                if refusal_of(error).kind is not RefusalKind.TOO_LARGE or not count:
                    raise
                smaller = self._sizes.was_refused(place, [len(picture.data) for picture in fitted])
                if smaller is None:
                    raise
                limit = smaller
            except (asyncio.CancelledError, aiohttp.ClientError, OSError):
                if count:
                    self._sizes.was_cut(letter.job.id)
                raise
            else:
                self._sizes.is_done(letter.job.id)
                return message_id

    async def _post_once(self, channel_id: ChannelId, letter: Letter, fitted: Sequence[Picture]) -> MessageId:
        names = [file_name(letter.job, number, picture) for number, picture in enumerate(fitted, start=1)]
        files = [Attached(name=name, data=picture.data) for name, picture in zip(names, fitted, strict=True)]
        nonce = nonce_for(letter.job.id, letter.purpose)
        return await self._post.send(channel_id, letter.view(names), files, nonce=nonce, pings=letter.pings)

    def _is_for_adults(self, job: Job) -> bool:
        spec = spec_of(self._house.catalogue.models(), job)
        return spec is not None and spec.is_age_restricted

    def _upload_place(self, job: Job, *, is_direct: bool) -> UploadPlace:
        guild = None if is_direct else self._client.get_guild(job.guild_id)
        limit = guild.filesize_limit if guild else discord.utils.DEFAULT_FILE_SIZE_LIMIT_BYTES
        return UploadPlace(guild_id=None if is_direct else job.guild_id, file_bytes=limit)


def _reason(job: Job, texts: Texts) -> str:
    return sentence(job.error_code or ErrorCode.UNEXPECTED.value, (job.error_params or {}).items(), texts)


def needs_search(item: OutboxItem, now: datetime, started_at: datetime) -> bool:
    """Whether a message may exist that Discord's own check of nonces no longer covers: look before sending."""
    if item.first_try_at is None:
        return False
    is_clock_set_back = now < item.first_try_at  # then nobody knows how long ago that was
    return is_clock_set_back or item.first_try_at < started_at or now - item.first_try_at > NONCE_COVERS


def file_name(job: Job, number: int, picture: Picture) -> str:
    """Carries the short job id, by which people recall the recipe."""
    return f"fullet-{short_id(job.id)}-{number}.{picture.format.extension}"
