"""The cards as we want them and as people see them. Applies events; sends nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from modules.discord.pace import PREVIEW_EVERY_S, STEP_EVERY_S
from modules.discord.views.queue_card import CardFace, CardState, face_of_place
from modules.domain.errors import ErrorCode
from modules.domain.events import JobFinishing, JobPreviewed, JobProgressed, JobRequeued, JobStarted, JobStranded
from modules.domain.jobs import Job, JobId, JobState
from modules.domain.people import ChannelId, MessageId
from modules.domain.queue import Place
from modules.domain.servers import InMemory

#: Reasons of a requeued job that say that its server went away or broke; any other is no news of a server.
SERVER_LOSSES = frozenset(
    {
        ErrorCode.SERVER_UNREACHABLE,
        ErrorCode.SERVER_UNAUTHORISED,
        ErrorCode.SERVER_NOT_COMFYUI,
        ErrorCode.SERVER_BROKEN,
        ErrorCode.GPU_BROKEN,
    }
)
JobEvent = JobStarted | JobProgressed | JobPreviewed | JobFinishing | JobRequeued | JobStranded

WAITING_STATES = frozenset({CardState.WAITING, CardState.NEXT, CardState.PAUSED, CardState.AWAY})
RUNNING_STATES = frozenset({CardState.LOADING, CardState.DRAWING, CardState.FINISHING, CardState.STRANDED})


@dataclass(slots=True)
class LiveCard:
    """One job's card: `face` is what it should say, `shown` what it says; None when nobody has seen it from this process."""

    job: Job
    message_id: MessageId | None
    face: CardFace
    shown: CardFace | None = None
    preview: bytes | None = field(default=None, repr=False)
    started_at: float | None = None  #: monotonic
    painted_at: float = float("-inf")
    preview_painted_at: float = float("-inf")
    not_before: float = float("-inf")  #: Discord asked us to wait
    #: `face.preview` counts the previews; while it is not 0, `preview` holds the newest.
    is_over: bool = False  #: the message is to be removed
    is_final: bool = False  #: this face is the last; then the card is left alone
    is_released: bool = False  #: the courier has taken it over
    is_lost: bool = False  #: somebody deleted the message
    reposts: int = 0  #: times that its message was found deleted: each new one needs a nonce of its own
    is_wordless: bool = False  #: Discord refuses what its person typed
    has_no_place: bool = False  #: its channel is gone; waits to be moved
    replaced: MessageId | None = None  #: an older message of it, which must still be taken away
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def channel_id(self) -> ChannelId:
        """Where it hangs."""
        return self.job.channel_id

    @property
    def needs_painting(self) -> bool:
        """Whether people see something else than they should."""
        if self.is_released or self.has_no_place:
            return False
        if self.is_over or self.is_lost or self.shown is None or self.replaced is not None:
            return True
        return not self.face.looks_like(self.shown)

    @property
    def is_waiting(self) -> bool:
        """Whether its place and moment are what it is about."""
        return self.face.state in WAITING_STATES and not self.is_over and not self.is_final

    @property
    def told_moment(self) -> datetime | None:
        """The moment that people see on it."""
        return self.shown.moment if self.shown else None

    @property
    def has_begun(self) -> bool:
        """Whether a GPU had it, by what was last heard of it."""
        return self.face.state in RUNNING_STATES or self.job.attempt_id is not None

    @property
    def is_news(self) -> bool:
        """Whether more than steps and preview changed since it was painted."""
        return self.is_over or self.is_lost or self.shown is None or not self.face.differs_only_in_progress(self.shown)

    def due_at(self) -> float:
        """The first moment at which it should be painted: news at once, steps and previews at their own pace."""
        if self.is_news or self.shown is None:
            return self.not_before
        at = self.painted_at + STEP_EVERY_S
        if self.face.preview != self.shown.preview:
            at = max(at, self.preview_painted_at + PREVIEW_EVERY_S)
        return max(at, self.not_before)


class CardBoard:
    """All live cards of this process."""

    def __init__(self) -> None:
        self._cards: dict[JobId, LiveCard] = {}

    def __iter__(self) -> Iterator[LiveCard]:
        return iter(list(self._cards.values()))

    def __len__(self) -> int:
        return len(self._cards)

    def get(self, job_id: JobId) -> LiveCard | None:
        """The card of a job, if it is on the board."""
        return self._cards.get(job_id)

    def drop(self, job_id: JobId) -> None:
        """Take it off; the message stays as it is."""
        self._cards.pop(job_id, None)

    def of_channel(self, channel_id: ChannelId) -> list[LiveCard]:
        """The cards in one channel that need painting, the oldest job first."""
        cards = [card for card in self._cards.values() if card.channel_id == channel_id and card.needs_painting]
        return sorted(cards, key=lambda card: card.job.seq)

    def hang(self, job: Job, place: Place | None) -> LiveCard:
        """The card of a job as the database tells it; an earlier one keeps what it showed."""
        card = self._cards.get(job.id)
        if card is None:
            face = face_of_place(place) if place else CardFace(state=_state_of(job), shared_by=job.shared_by)
            card = self._cards[job.id] = LiveCard(job=job, message_id=job.card_message_id, face=face)
        elif card.job.channel_id != job.channel_id:
            card.has_no_place, card.is_lost, card.message_id, card.shown, card.replaced = False, False, None, None, None
        card.job = job
        return card

    def place_all(self, places: Mapping[JobId, Place], now: datetime) -> None:
        """New places of everything that waits. A job without a place is no longer waiting; its own event says what it does.

        Where the moment that people see has passed, the next is told however near it is: "ready 1 second ago" would be untrue.
        """
        for job_id, place in places.items():
            card = self._cards.get(job_id)
            if card and card.is_waiting:
                tellings = card.shown.tellings if card.shown else 0
                tellings += card.told_moment is not None and card.told_moment <= now
                card.face = face_of_place(place, before=card.face, tellings=tellings)

    def first_moment(self) -> datetime | None:
        """The first moment that somebody who waits was told."""
        return min((card.told_moment for card in self._cards.values() if card.is_waiting and card.told_moment), default=None)

    def apply(self, event: JobEvent, now: float) -> LiveCard | None:
        """What an event about one running job changes; the card, if it is on the board and still open."""
        card = self._cards.get(event.job_id)
        if card is None or card.is_over or card.is_final:
            return None
        match event:
            case JobStarted(in_memory=in_memory, shared_by=shared_by):
                card.started_at, card.preview = now, None
                state = CardState.DRAWING if in_memory is InMemory.THIS else CardState.LOADING
                card.face = CardFace(state=state, in_memory=in_memory, shared_by=shared_by)
            case JobProgressed(step=step, steps=steps):
                card.started_at = now if card.started_at is None else card.started_at
                card.face = replace(
                    card.face, state=CardState.DRAWING, step=step, steps=steps, elapsed_s=now - card.started_at,
                    position=0, moment=None, was_requeued=False, was_lost=False,
                )  # fmt: skip
            case JobPreviewed(jpeg=jpeg):
                card.preview = jpeg
                card.face = replace(card.face, state=CardState.DRAWING, preview=card.face.preview + 1)
            case JobFinishing():
                card.face = CardFace(state=CardState.FINISHING, preview=card.face.preview)
            case JobRequeued(reason=reason):
                card.preview, card.started_at = None, None
                card.face = CardFace(state=CardState.NEXT, was_requeued=True, was_lost=reason in SERVER_LOSSES)
            case JobStranded():
                card.preview, card.started_at = None, None
                card.face = CardFace(state=CardState.STRANDED)
        return card


def _state_of(job: Job) -> CardState:
    match job.state:
        case JobState.CANCELLED:
            return CardState.CANCELLED
        case JobState.QUEUED | JobState.SUBMITTING | JobState.SUBMITTED:
            return CardState.NEXT  # posted ahead, or found so after a restart: its next event says when it is drawn
        case JobState.GENERATED:
            return CardState.FINISHING
        case _:
            return CardState.DRAWING
