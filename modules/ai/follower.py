"""Following one prompt to its end: letters from the socket while it speaks, polling as the truth."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import structlog

from modules.ai.preview_pace import PreviewPace
from modules.ai.runs import LookNow, Note, RawPreview, Run
from modules.ai.socket import EventSocket
from modules.ai.wire import QueueState
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import JobId
from modules.domain.ports import Clock
from modules.domain.servers import RunEnded, RunEvent, RunPhase, RunPreviewed, RunReport, RunStarted, SlotSaved
from modules.utils.images import PictureWorkshop

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long we wait for what, in seconds."""

    poll_live_s: float = 5.0  #: between polls while the socket speaks: a safety net
    poll_blind_s: float = 1.0  #: between polls while it does not
    unreachable_s: float = 20.0  #: polling may fail this long; a restart of ComfyUI took 7 s
    unknown_s: float = 5.0  #: a prompt must be unknown at two looks this far apart
    dead_worker_s: float = 15.0  #: our prompt waits and nothing runs
    socket_s: float = 2.0  #: for the socket to connect after a refresh
    previews_s: float = 2.0  #: between two previews of one job; a status message shows a new one every 3 s at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a follower asks."""

    report: Callable[[], Awaitable[RunReport]]
    queue: Callable[[], Awaitable[QueueState]]
    socket: EventSocket
    clock: Clock
    workshop: PictureWorkshop


class _Since:
    """Since when something has been so without a break."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start: float | None = None

    def clear(self) -> None:
        self._start = None

    def has_lasted(self, seconds: float) -> bool:
        """Note that it is so now; whether it has been for that long."""
        now = self._clock.monotonic()
        if self._start is None:
            self._start = now
        return now - self._start >= seconds


class Follower:
    """One walk beside one run. Several may follow one after the other, not at once: they share its letter box."""

    def __init__(self, run: Run, sources: Sources, patience: Patience) -> None:
        self._run = run
        self._ask = sources
        self._patience = patience
        self._unreachable = _Since(sources.clock)
        self._unknown = _Since(sources.clock)
        self._idle_worker = _Since(sources.clock)
        self._previews = PreviewPace(patience.previews_s)
        self._frames_at_poll = 0
        self._is_silent = False

    async def events(self) -> AsyncGenerator[RunEvent, None]:
        """Until RunEnded; see `ImageServer.follow`."""
        poll_at = self._now() + self._interval()
        while True:
            for note in self._letters():
                if isinstance(note, LookNow):
                    poll_at = self._now()
                elif (event := await self._event(note)) is not None:
                    yield event
                    if isinstance(event, RunEnded):
                        return
            if self._now() >= poll_at:
                for event in await self._poll():
                    yield event
                    if isinstance(event, RunEnded):
                        return
                poll_at = self._now() + self._interval()
            # A socket that went away rings too: from then on the shorter interval counts.
            poll_at = min(poll_at, self._now() + self._interval())
            await self._run.wait(min(poll_at, self._previews.next_at()) - self._now())

    # --- letters --------------------------------------------------------------------------------------------------------

    def _letters(self) -> list[Note]:
        """What is new; previews last, no more often than they are shown, and none of a prompt that is over."""
        notes = self._run.take()
        for note in notes:
            if isinstance(note, RawPreview):
                self._previews.take_in(self._job_of(note.slot), note)
            elif isinstance(note, SlotSaved):
                self._previews.drop(self._job_of(note.slot))
            elif isinstance(note, RunEnded):
                self._previews.clear()
        others = [note for note in notes if not isinstance(note, RawPreview)]
        return [*others, *self._previews.due(self._now())]

    def _job_of(self, slot: int) -> JobId:
        return self._run.attempt.slots[slot].job_id

    async def _event(self, note: Note) -> RunEvent | None:
        if isinstance(note, LookNow):
            return None
        if not isinstance(note, RawPreview):
            return note
        try:
            return RunPreviewed(slot=note.slot, jpeg=await self._ask.workshop.shrink_to_jpeg(note.image))
        except FulletError:
            log.debug("preview_unreadable", slot=note.slot, bytes=len(note.image))
            return None

    # --- polling --------------------------------------------------------------------------------------------------------

    async def _poll(self) -> list[RunEvent]:
        try:
            report = await self._ask.report()
            has_dead_worker = report.phase is RunPhase.PENDING and await self._has_dead_worker()
        except FulletError:
            if self._unreachable.has_lasted(self._patience.unreachable_s):
                raise
            return []
        if has_dead_worker:
            raise FulletError(ErrorCode.SERVER_BROKEN)
        self._unreachable.clear()
        frames, self._frames_at_poll = self._frames_at_poll, self._run.tracker.frames
        self._is_silent = report.phase is not RunPhase.PENDING and self._run.tracker.frames == frames
        return await self._judge(report)

    async def _judge(self, report: RunReport) -> list[RunEvent]:
        tracker = self._run.tracker
        if report.phase is not RunPhase.UNKNOWN:
            self._unknown.clear()
        match report.phase:
            case RunPhase.PENDING:
                return []
            case RunPhase.RUNNING:
                return self._start()
            case RunPhase.UNKNOWN:
                # Between two routes, or late history: only a second look makes it true.
                is_gone = self._unknown.has_lasted(self._patience.unknown_s)
                return [tracker.end(report)] if is_gone else []
            case RunPhase.SUCCEEDED | RunPhase.FAILED | RunPhase.INTERRUPTED:
                if self._is_live() and self._is_silent:
                    await self._ask.socket.renew()  # it is open, yet said nothing since the last look
                started = self._start() if report.started_at is not None else []
                return [*started, tracker.end(report)]

    def _start(self) -> list[RunEvent]:
        if self._run.tracker.has_started:
            return []
        self._run.tracker.has_started = True
        return [RunStarted()]

    async def _has_dead_worker(self) -> bool:
        """Pending for ever while nothing runs: ComfyUI's worker thread is dead, though HTTP answers. Only a restart helps."""
        queue = await self._ask.queue()
        if queue.queue_running or not queue.queue_pending:
            self._idle_worker.clear()
            return False
        return self._idle_worker.has_lasted(self._patience.dead_worker_s)

    def _interval(self) -> float:
        """Short where the socket cannot or does not tell."""
        return self._patience.poll_live_s if self._is_live() and not self._is_silent else self._patience.poll_blind_s

    def _is_live(self) -> bool:
        return self._ask.socket.is_live(self._run.client_id)

    def _now(self) -> float:
        return self._ask.clock.monotonic()
