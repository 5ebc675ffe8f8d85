"""Keeps every card saying what is so: on change only, within Discord's limits, over restarts, each channel by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

import structlog

from modules.discord.card_board import CardBoard, LiveCard
from modules.discord.house import House
from modules.discord.pace import Paces
from modules.discord.posting import Attached, Post, custom_ids, nonce_for, posted_at
from modules.discord.refusals import DISCORD_TROUBLE, RefusalKind, refusal_of
from modules.discord.refused_words import wordless
from modules.discord.views.buttons import Act, custom_id
from modules.discord.views.queue_card import PREVIEW_FILE, CardFace, CardState, queue_card
from modules.discord.voices import Voices
from modules.discord.wording import spec_of
from modules.domain.errors import FulletError
from modules.domain.events import (
    Event,
    JobAccepted,
    JobFinishing,
    JobPreviewed,
    JobProgressed,
    JobRequeued,
    JobSettled,
    JobStarted,
    JobStranded,
    QueueChanged,
    QueuePaused,
    ServerBack,
    ServerLost,
    ServerTrouble,
)
from modules.domain.jobs import ACTIVE_STATES, Job, JobId, JobState
from modules.domain.people import ChannelId, MessageId, UserId
from modules.domain.queue import Place

log = structlog.get_logger(__name__)

#: Edits of messages older than an hour are capped (30046): a card this old is posted anew instead.
CARD_LIFE = timedelta(minutes=55)
#: Places are asked for at most this often; each answer serves all cards.
PLACES_EVERY_S = 1.0
#: The database is the truth: read it this often, whatever events came or were lost.
RECONCILE_EVERY_S = 30.0
#: One call to Discord, with discord.py's own waiting for its rate limits.
PAINT_TIMEOUT_S = 40.0
#: Calls under way at once, over all channels.
PAINTS_AT_ONCE = 24
#: Over jobs whose card may still hang, looked at when we start.
LEFTOVERS = 200
#: A card that was posted just before we died stands in no row. It is looked for at the next start if its job is not older.
UNNOTED_FOR = timedelta(minutes=10)
#: One look for such a card.
LOOK_TIMEOUT_S = 20.0
RETRY_S = 2.0


class CardKeeper:
    """Hangs a card for every accepted job, repaints it as the job goes on, and takes it down when the result is posted."""

    def __init__(
        self,
        house: House,
        post: Post,
        voices: Voices,
        when_ready: Callable[[], Awaitable[None]],
        *,
        has_courier: bool = True,
    ) -> None:
        """`has_courier`: the courier is in this process and takes the card of a failed job over with `release`.

        One in another process cannot: it posts the failure as a message of its own, and the card is taken down.
        """
        self._has_courier = has_courier
        self._house = house
        self._when_ready = when_ready
        self._post = post
        self._voices = voices
        self.board = CardBoard()
        self._paces = Paces()
        self._painters: dict[ChannelId, asyncio.Event] = {}
        self._permits = asyncio.Semaphore(PAINTS_AT_ONCE)
        self._places_moved = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    # --- what others call -----------------------------------------------------------------------------------------------

    async def retire(self, job_id: JobId) -> None:
        """The result is posted: take the card down. Only of a card that is not on the board the job has to be read."""
        card = self.board.get(job_id)
        if card is None:
            job = await self._house.jobs.job(job_id)
            if job is not None and job.card_message_id is not None:
                card = self.board.hang(job, None)
        if card is not None:
            card.is_over, card.is_released = True, False
            self._wake(card.channel_id)

    async def release(self, job: Job) -> MessageId | None:
        """Hand the card's message over to the courier: nothing more is painted once this returns."""
        card = self.board.get(job.id)
        if card is None:
            return job.card_message_id
        card.is_released = True
        async with card.turn:  # an edit that is under way ends first, or it would overwrite what the courier writes
            self.board.drop(job.id)
            return card.message_id

    async def moved(self, user_id: UserId, channel_id: ChannelId) -> None:
        """A person's channel was made anew: their cards hang there from now on."""
        for job in await self._house.jobs.jobs(user_id=user_id, states=ACTIVE_STATES):
            self.board.hang(job, None)
            self._wake(channel_id)

    # --- the service ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the house's events until cancelled."""
        await self._when_ready()
        async with asyncio.TaskGroup() as tasks, self._house.studio.events() as events:
            self._tasks = tasks
            tasks.create_task(self._keep_places(), name="cards-places")
            tasks.create_task(self._keep_true(), name="cards-reconcile")
            tasks.create_task(self._take_unnoted(), name="cards-unnoted")
            try:
                await self._follow(events)
            finally:
                self._tasks = None  # somebody may still be answered while we stop; nothing is painted any more

    async def _follow(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            try:
                await self._note(event)
            except FulletError as error:
                log.warning("card_event_not_followed", event_kind=type(event).__name__, code=error.code.value)

    async def _note(self, event: Event) -> None:
        match event:
            case JobAccepted(job_id=job_id):
                await self._hang(job_id)
            case JobSettled():
                await self._settle(event)
            case QueueChanged() | QueuePaused() | ServerLost() | ServerBack():
                self._places_moved.set()
            case ServerTrouble():
                pass  # for administrators only
            case JobStarted() | JobProgressed() | JobPreviewed() | JobFinishing() | JobRequeued() | JobStranded():
                if isinstance(event, JobStarted) and self.board.get(event.job_id) is None:
                    await self._hang(event.job_id)
                card = self.board.apply(event, self._house.clock.monotonic())
                if card is not None:
                    self._wake(card.channel_id)
                if isinstance(event, JobRequeued):
                    self._places_moved.set()
            case _:
                assert_never(event)

    async def _hang(self, job_id: JobId) -> None:
        job = await self._house.jobs.job(job_id)
        if job is not None and job.state.is_active:
            card = self.board.hang(job, await self._house.studio.place(job))
            self._wake(card.channel_id)

    async def _settle(self, event: JobSettled) -> None:
        card = self.board.get(event.job_id)
        if card is None:
            return
        match event.state:
            case JobState.GENERATED if card.face.state is not CardState.FINISHING:
                card.face = CardFace(state=CardState.FINISHING, preview=card.face.preview)
            case JobState.CANCELLED:
                card.preview = None
                card.face = CardFace(state=CardState.CANCELLED, had_begun=card.has_begun, by_admin=event.by_admin)
                card.is_final = True
            case JobState.DELIVERED | JobState.UNDELIVERABLE:
                card.is_over = True
            case JobState.FAILED if not self._has_courier:
                card.is_over = True
            case _:
                return  # FAILED: the courier writes it, in the card's place
        self._wake(card.channel_id)

    async def _keep_places(self) -> None:
        while True:
            told = self.board.first_moment()
            await _either(self._places_moved, (told - self._house.clock.now()).total_seconds() if told else None)
            self._places_moved.clear()
            try:
                self._show_places(await self._house.studio.places())
            except FulletError as error:
                log.warning("places_not_read", code=error.code.value)
            await asyncio.sleep(PLACES_EVERY_S)

    def _show_places(self, places: Mapping[JobId, Place]) -> None:
        self.board.place_all(places, self._house.clock.now())
        for card in self.board:
            if card.needs_painting:
                self._wake(card.channel_id)

    async def _keep_true(self) -> None:
        """Adopt what an earlier start left, then compare with the database now and then: a lost event loses nothing."""
        is_first = True
        while True:
            try:
                await self._reconcile(is_first=is_first)
                is_first = False
            except FulletError as error:
                log.warning("cards_not_compared", code=error.code.value)
            await asyncio.sleep(RECONCILE_EVERY_S)

    async def _reconcile(self, *, is_first: bool) -> None:
        active = await self._house.jobs.jobs(states=ACTIVE_STATES, limit=10_000, newest_first=False)
        places = await self._house.studio.places()
        for job in active:
            if (card := self.board.get(job.id)) is None or card.job.channel_id != job.channel_id:
                self.board.hang(await self._found_again(job) if is_first else job, places.get(job.id))
        known = {job.id for job in active}
        for card in self.board:
            if card.job.id not in known and not card.is_over and not card.is_final:
                now = await self._house.jobs.job(card.job.id)
                if now is None:
                    self.board.drop(card.job.id)
                elif now.state.is_over:
                    await self._settle(JobSettled(job_id=now.id, state=now.state))
        if is_first:
            await self._take_leftovers()
        self._show_places(places)

    async def _take_leftovers(self) -> None:
        """Cards of jobs that ended while nobody was there to take them down."""
        over = {JobState.GENERATED, JobState.DELIVERED, JobState.UNDELIVERABLE, JobState.CANCELLED}
        if not self._has_courier:
            over.add(JobState.FAILED)
        for job in await self._house.jobs.jobs(states=over, limit=LEFTOVERS):
            if job.card_message_id is not None:
                self.board.hang(job, None)
                await self._settle(JobSettled(job_id=job.id, state=job.state))

    async def _take_unnoted(self) -> None:
        """Cards of jobs that are over by now and that nobody noted: an earlier start died between posting and noting them."""
        since = self._house.clock.now() - UNNOTED_FOR
        left: list[Job] | None = None
        while left is None or left:
            try:
                if left is None:
                    over = await self._house.jobs.jobs(states=set(JobState) - ACTIVE_STATES, limit=LEFTOVERS)
                    left = [job for job in over if job.card_message_id is None and job.accepted_at >= since]
            except FulletError as error:
                log.warning("unnoted_cards_not_looked_for", code=error.code.value)
            left = None if left is None else [job for job in left if not await self._is_unnoted_taken(job)]
            if left is None or left:
                await asyncio.sleep(RETRY_S)  # the database or Discord did not let us look

    async def _is_unnoted_taken(self, job: Job) -> bool:
        """Have such a card taken down where there is one; False where that is not known yet."""
        try:
            found = await self._with_unnoted_card(job)
        except FulletError as error:
            log.info("card_not_noted", job_id=str(job.id), code=error.code.value)
            return False
        except DISCORD_TROUBLE as error:  # a time-out of ours is an OSError
            log.info("card_not_looked_for", job_id=str(job.id), reason=type(error).__name__)
            return refusal_of(error).kind is not RefusalKind.LATER
        if found.card_message_id is not None:
            card = self.board.hang(found, None)
            card.is_over = True
            self._wake(card.channel_id)
        return True

    async def _with_unnoted_card(self, job: Job) -> Job:
        """The job with the card that hangs for it, noted or not. Discord's own check of nonces forgets it after a few minutes.

        Raises `DISCORD_TROUBLE`, TimeoutError, DATABASE_UNAVAILABLE.
        """
        if job.card_message_id is not None:
            return job
        cancel = custom_id(Act.CANCEL, job.id)
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            found = await self._post.find_ours(
                job.channel_id, job.interaction_id, lambda message: cancel in custom_ids(message.components)
            )
        if found is None:
            return job
        await self._house.jobs.set_card(job.id, found)
        return replace(job, card_message_id=found)

    async def _found_again(self, job: Job) -> Job:
        """The same for a job that goes on; where Discord does not let us look, the nonce of a new card has to do."""
        try:
            return await self._with_unnoted_card(job)
        except DISCORD_TROUBLE as error:  # a time-out of ours is an OSError
            log.info("card_not_looked_for", job_id=str(job.id), reason=type(error).__name__)
            return job

    # --- painting -------------------------------------------------------------------------------------------------------

    def _wake(self, channel_id: ChannelId) -> None:
        """Have the channel's painter look again; one is started where none is at work."""
        changed = self._painters.get(channel_id)
        if changed is not None:
            changed.set()
        elif self._tasks is not None:
            self._painters[channel_id] = asyncio.Event()
            self._tasks.create_task(self._paint_channel(channel_id), name=f"cards-{channel_id}")

    async def _paint_channel(self, channel_id: ChannelId) -> None:
        """Paint this channel's cards until none needs it. Only the newest face counts: slow never means a queue of old ones."""
        changed = self._painters[channel_id]
        try:
            while cards := self.board.of_channel(channel_id):
                changed.clear()
                pace = self._paces.of(channel_id, self._house.clock.monotonic())
                # Among those that the pace holds up to the same moment, whoever was due first.
                may_at, _, card = min(
                    ((max(one.due_at(), pace.free_at(is_news=one.is_news)), one.due_at(), one) for one in cards),
                    key=lambda found: found[:2],
                )
                wait_s = may_at - self._house.clock.monotonic()
                if wait_s > 0:
                    await _either(changed, wait_s)
                    continue
                async with self._permits, card.turn:
                    if card.needs_painting:
                        await self._paint(card)
                now = self._house.clock.monotonic()
                self._paces.of(channel_id, now).note(now)
        finally:
            del self._painters[channel_id]

    async def _paint(self, card: LiveCard) -> None:
        try:
            async with asyncio.timeout(PAINT_TIMEOUT_S):
                await self._bring_up_to_date(card)
        except FulletError as error:
            log.warning("card_not_noted", code=error.code.value)
            card.not_before = self._house.clock.monotonic() + RETRY_S
        except DISCORD_TROUBLE as error:
            self._take_refusal(card, error)
        except Exception:  # a card that cannot be drawn must not end the others; seen in the log
            log.exception("card_not_drawn", job_id=str(card.job.id))
            card.shown = card.face

    async def _bring_up_to_date(self, card: LiveCard) -> None:
        if card.is_lost and not card.is_final:
            await self._look_whether_over(card)
        await self._take_replaced(card)
        if card.is_over:
            await self._take_down(card)
            return
        face = card.face
        files = [Attached(name=PREVIEW_FILE, data=card.preview)] if face.preview and card.preview else []
        spec = spec_of(self._house.catalogue.models(), card.job)
        texts = self._voices.speaking(card.job.language)
        view = queue_card(wordless(card.job, texts) if card.is_wordless else card.job, face, spec, texts)
        old = card.message_id
        if old is not None and not card.is_lost and self._is_young(old):
            await self._post.edit(card.channel_id, old, view, files)
        else:
            # The nonce names the message before it: a repeat after a crash is the same message, a new card is a new one.
            # The nonce of a message that was deleted is refused for minutes, so whoever posts after that needs another.
            again = f" {card.reposts}" if card.reposts else ""
            nonce = nonce_for(card.job.id, f"card {old or 0}{again}")
            card.message_id = await self._post.send(card.channel_id, view, files, nonce=nonce)
            card.replaced, card.is_lost = None if card.is_lost else old, False
            await self._house.jobs.set_card(card.job.id, card.message_id)
        self._note_shown(card, face)
        await self._take_replaced(card)
        if card.is_final and card.face.looks_like(face):
            await self._house.jobs.set_card(card.job.id, None)
            self.board.drop(card.job.id)

    async def _look_whether_over(self, card: LiveCard) -> None:
        """Its message is gone. Somebody deleted it, or a courier in another process whose news we have not heard yet."""
        now = await self._house.jobs.job(card.job.id)
        card.is_over = now is None or now.state not in {*ACTIVE_STATES, JobState.GENERATED, JobState.CANCELLED}

    def _note_shown(self, card: LiveCard, face: CardFace) -> None:
        now = self._house.clock.monotonic()
        if card.shown is None or face.preview != card.shown.preview:
            card.preview_painted_at = now
        card.shown, card.painted_at = face, now

    async def _take_replaced(self, card: LiveCard) -> None:
        """The older message goes; where Discord does not take it away now, it stays noted for the next try."""
        if card.replaced is not None:
            await self._post.delete(card.channel_id, card.replaced)
            card.replaced = None

    async def _take_down(self, card: LiveCard) -> None:
        if card.message_id is not None:
            await self._post.delete(card.channel_id, card.message_id)
            await self._house.jobs.set_card(card.job.id, None)
        self.board.drop(card.job.id)

    def _take_refusal(self, card: LiveCard, error: Exception) -> None:
        refusal = refusal_of(error)
        now = self._house.clock.monotonic()
        match refusal.kind:
            case RefusalKind.MESSAGE_GONE:
                card.is_lost = True
                card.reposts += 1
            case RefusalKind.PLACE_GONE:
                log.warning("card_place_gone", job_id=str(card.job.id))
                card.has_no_place = True
                if card.is_over or card.is_final:
                    self.board.drop(card.job.id)
            case RefusalKind.CONTENT_REFUSED if not card.is_wordless:
                log.warning("card_words_refused", job_id=str(card.job.id))
                card.is_wordless = True
            case RefusalKind.WRONG | RefusalKind.TOO_LARGE | RefusalKind.CONTENT_REFUSED | RefusalKind.ANSWERED:
                log.error("card_refused", job_id=str(card.job.id), exc_info=error)
                card.shown = card.face  # the same would be refused again; the next change gets its chance
                card.not_before = now + RETRY_S
            case RefusalKind.LATER:
                card.not_before = now + (refusal.retry_after_s or RETRY_S)

    def _is_young(self, message_id: MessageId) -> bool:
        now: datetime = self._house.clock.now()
        return now - posted_at(message_id) < CARD_LIFE


async def _either(changed: asyncio.Event, wait_s: float | None) -> None:
    """Until something changed or the time is up; without a time, until something changed."""
    try:
        async with asyncio.timeout(wait_s):
            await changed.wait()
    except TimeoutError:
        pass
