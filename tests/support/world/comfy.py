"""A ComfyUI in plain Python, as the `ImageServer` port shows it: a queue, a history, files that survive restarts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Picture
from modules.domain.jobs import Attempt, AttemptId, JobId, ServerName, WorkClass
from modules.domain.ports import Clock
from modules.domain.servers import (
    MergeCapability,
    RunEnded,
    RunEvent,
    RunFailure,
    RunPhase,
    RunProgressed,
    RunReport,
    RunStarted,
    ServerAnswer,
    ServerAnswerError,
    ServerCall,
    ServerFacts,
    SlotSaved,
)
from tests.support.builders import a_picture
from tests.support.world.acts import Acts, AnswerLostError, Process

T = TypeVar("T")

LOAD_S = 4.0
PICTURE_S = 2.0
#: As the real adapter's patience (modules/ai/follower.py).
UNREACHABLE_S = 20.0
UNKNOWN_S = 5.0
DEAD_WORKER_S = 15.0
POLL_S = 5.0
#: Of a server that nobody reaches: no connection comes about.
NOT_CONNECTED = ServerAnswer(call=ServerCall.POST, route="POST /prompt", was_sent=False)
_UNDER_WAY = (RunPhase.PENDING, RunPhase.RUNNING)


@dataclass(slots=True)
class Prompt:
    """One prompt in one life of the server."""

    attempt: Attempt
    alone: bool
    phase: RunPhase = RunPhase.PENDING
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure: RunFailure | None = None
    saved: list[int] = field(default_factory=list)
    is_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class DrawnBy:
    """A picture that was drawn to its end."""

    attempt_id: AttemptId
    job_id: JobId
    slot: int


#: What a test makes of a run: a failure to end with, or None to let it go on. Called as it begins.
Misfortune = Callable[[Prompt], RunFailure | None]


class FakeComfy:
    """One server over all lives of the program, and all lives of its own."""

    def __init__(self, name: str, clock: Clock, *, batch: int = 2, picture_s: float = PICTURE_S) -> None:
        self.name = ServerName(name)
        self.batch = batch
        self.picture_s = picture_s
        self.prompts: dict[AttemptId, Prompt] = {}
        self.files: dict[tuple[AttemptId, int], Picture] = {}
        self.drawn: list[DrawnBy] = []
        self.runs: list[Prompt] = []
        self.lacks: Callable[[WorkClass], tuple[str, ...]] = lambda _: ()
        self.misfortune: Misfortune = lambda _: None
        self.spoil: Callable[[Prompt, int, Picture], Picture | None] = lambda _prompt, _slot, picture: picture
        #: What an UPLOAD, a look at a prompt (FOLLOW) or at its pictures (FETCH) ends with instead of an answer.
        self.trips: Callable[[ServerCall, AttemptId], FulletError | None] = lambda _call, _attempt: None
        self.is_dead_worker = False  #: HTTP answers, nothing runs
        self.is_deaf = False  #: a cancelled prompt does not stop
        self.is_hanging = False  #: nothing moves; a cancel ends it
        self.foreign: list[float] = []  #: seconds of each of somebody else's prompts; they go first
        self.freed = 0
        self.lives = 0  #: restarts so far
        self._clock = clock
        self._away_until = 0.0
        self._loaded: str | None = None
        self._changed = asyncio.Event()

    # --- what happens to it -------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Queue, history and memory are gone; files stay."""
        for prompt in self.prompts.values():
            prompt.is_cancelled = True
        self.prompts.clear()
        self._loaded = None
        self.lives += 1
        self.is_dead_worker = self.is_deaf = self.is_hanging = False
        self.touch()

    def go_away(self, seconds: float) -> None:
        """Nobody reaches it for a while; it works on."""
        self._away_until = max(self._away_until, self._clock.monotonic() + seconds)
        self.touch()

    @property
    def is_away(self) -> bool:
        return self._clock.monotonic() < self._away_until

    def touch(self) -> None:
        """Wake whoever waits for news."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self, seconds: float) -> None:
        """Until something happens here, at most this long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    # --- its worker ---------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Prompts one after the other, for ever."""
        while True:
            waiting = [prompt for prompt in self.prompts.values() if prompt.phase is RunPhase.PENDING]
            if self.foreign and not self.is_dead_worker:
                await asyncio.sleep(self.foreign[0])
                self.foreign.pop(0)
                self._loaded = None  # it loaded what it needed
                self.touch()
            elif waiting and not self.is_dead_worker:
                await self._run(waiting[0])
            else:
                await self._changed.wait()

    async def _run(self, prompt: Prompt) -> None:
        prompt.phase, prompt.started_at = RunPhase.RUNNING, self._clock.now()
        self.runs.append(prompt)
        self.touch()
        heavy = prompt.attempt.jobs[0].work.heavy_key
        if self._loaded != heavy:
            await asyncio.sleep(LOAD_S)
            self._loaded = heavy
        failure = self.misfortune(prompt)
        if failure is not None:
            prompt.failure = failure
            self._end(prompt, RunPhase.FAILED)
            return
        for slot in prompt.attempt.slots:
            await asyncio.sleep(self.picture_s)
            while (self.is_hanging and not prompt.is_cancelled) or (self.is_deaf and self._is_known(prompt)):
                await self._changed.wait()
            if prompt.is_cancelled:
                break
            self._save(prompt, slot.index, slot.job_id)
        self._end(prompt, RunPhase.INTERRUPTED if prompt.is_cancelled else RunPhase.SUCCEEDED)

    def _is_known(self, prompt: Prompt) -> bool:
        return self.prompts.get(prompt.attempt.id) is prompt

    def _save(self, prompt: Prompt, slot: int, job_id: JobId) -> None:
        self.drawn.append(DrawnBy(prompt.attempt.id, job_id, slot))
        picture = self.spoil(prompt, slot, picture_of(job_id, slot))
        if picture is not None:
            self.files[(prompt.attempt.id, slot)] = picture
        prompt.saved.append(slot)
        self.touch()

    def _end(self, prompt: Prompt, phase: RunPhase) -> None:
        prompt.phase, prompt.ended_at = phase, self._clock.now()
        self.touch()

    def draws(self) -> Counter[JobId]:
        """How often each job was drawn completely in one attempt."""
        whole: Counter[JobId] = Counter()
        slots = Counter((one.attempt_id, one.job_id) for one in self.drawn)
        counts = {job.id: job.recipe.count for prompt in self.runs for job in prompt.attempt.jobs}
        for (_, job_id), drawn in slots.items():
            whole[job_id] += drawn >= counts[job_id]
        return whole

    def is_stuck_before(self, prompt: Prompt | None) -> bool:
        """It waits, and nothing runs that it could wait for."""
        runs = bool(self.foreign) or any(one.phase is RunPhase.RUNNING for one in self.prompts.values())
        return prompt is not None and prompt.phase is RunPhase.PENDING and not runs

    def stop_prompt(self, attempt_id: AttemptId) -> None:
        """Cancel by id: a waiting one is gone without a trace, a running one stops at its next picture."""
        prompt = self.prompts.get(attempt_id)
        if prompt is None or prompt.phase not in _UNDER_WAY:
            return
        if prompt.phase is RunPhase.PENDING:
            del self.prompts[attempt_id]
        prompt.is_cancelled = True
        self.touch()


class _For:
    """Since when something has been so without a break, and whether that is long enough."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def has_been(self, is_so: bool, now: float) -> bool:
        if not is_so:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= self._seconds


class ComfyPort:
    """Implements `ImageServer` for one life of the program."""

    def __init__(self, comfy: FakeComfy, acts: Acts, process: Process) -> None:
        self._comfy = comfy
        self._acts = acts
        self._process = process
        self._facts: ServerFacts | None = None
        self._life_read = 0
        self._gone: set[AttemptId] = set()  #: removed by us while they waited, which leaves no trace on the server

    @property
    def name(self) -> ServerName:
        return self._comfy.name

    @property
    def facts(self) -> ServerFacts | None:
        return self._facts

    def missing(self, work: WorkClass) -> tuple[str, ...]:
        return self._comfy.lacks(work)

    def max_jobs(self, work: WorkClass) -> int:
        return self._comfy.batch if work.is_mergeable else 1

    async def refresh(self) -> ServerFacts:
        await self._call("refresh", lambda: None)
        self._life_read = self._comfy.lives
        self._facts = ServerFacts(name=self.name, version="0", device="none", vram_bytes=1 << 34, capability=MergeCapability.FULL)
        return self._facts

    @property
    def is_changed(self) -> bool:
        return not self._comfy.is_away and self._comfy.lives != self._life_read

    @property
    def foreign_prompts(self) -> int:
        return 0 if self._comfy.is_away else len(self._comfy.foreign)

    async def check(self) -> None:
        if self.is_changed:
            await self.refresh()
        else:
            await self._call("check", lambda: None)

    async def is_well(self) -> bool:
        await self._look(0.0)
        return not self._comfy.is_away

    async def post(self, attempt: Attempt, *, alone: bool = False) -> None:
        def queue() -> None:
            self._trip(ServerCall.UPLOAD, attempt.id)
            assert attempt.id not in self._comfy.prompts, "the same prompt was posted twice"
            self._comfy.prompts[attempt.id] = Prompt(attempt, alone)
            self._comfy.touch()

        try:
            await self._call("post", queue)
        except ServerAnswerError:
            raise
        except FulletError as error:
            if not self._comfy.is_away:
                raise  # what was asked may have arrived
            raise ServerAnswerError(error.code, NOT_CONNECTED) from error

    async def follow(self, attempt: Attempt) -> AsyncGenerator[RunEvent, None]:
        """News as they come, and a look every few seconds, as the real follower does."""
        away, unknown, idle = _For(UNREACHABLE_S), _For(UNKNOWN_S), _For(DEAD_WORKER_S)
        told, has_started = 0, False
        while True:
            now, prompt = asyncio.get_running_loop().time(), self._comfy.prompts.get(attempt.id)
            if attempt.id in self._gone:
                yield RunEnded(report=RunReport(phase=RunPhase.INTERRUPTED))
                return
            if away.has_been(self._comfy.is_away, now):
                raise FulletError(ErrorCode.SERVER_UNREACHABLE)
            if idle.has_been(not self._comfy.is_away and self._comfy.is_stuck_before(prompt), now):
                raise FulletError(ErrorCode.SERVER_BROKEN)
            if unknown.has_been(not self._comfy.is_away and prompt is None, now):
                yield RunEnded(report=RunReport(phase=RunPhase.UNKNOWN))
                return
            if prompt is not None and not self._comfy.is_away:
                if prompt.phase is not RunPhase.PENDING and not has_started:
                    has_started = True
                    yield RunStarted()
                for slot in prompt.saved[told:]:
                    yield RunProgressed(job_ids=(attempt.slots[slot].job_id,), step=1, steps=1)
                    yield SlotSaved(slot=slot)
                told = len(prompt.saved)
                if prompt.phase not in _UNDER_WAY:
                    yield RunEnded(report=_report_of(prompt))
                    return
            await self._look(POLL_S if prompt is not None and not self._comfy.is_away else 1.0)

    async def report(self, attempt_id: AttemptId) -> RunReport:
        await self._look(0.0)
        self._check_there()
        self._trip(ServerCall.FOLLOW, attempt_id)
        prompt = self._comfy.prompts.get(attempt_id)
        return RunReport(phase=RunPhase.UNKNOWN) if prompt is None else _report_of(prompt)

    async def fetch(self, attempt: Attempt, slots: Collection[int]) -> Mapping[int, Picture]:
        def look() -> Mapping[int, Picture]:
            self._trip(ServerCall.FETCH, attempt.id)
            found = {slot: self._comfy.files.get((attempt.id, slot)) for slot in slots}
            return {slot: picture for slot, picture in found.items() if picture is not None}

        return await self._call("fetch", look)

    async def cancel(self, attempt_id: AttemptId) -> None:
        def stop() -> None:
            self._comfy.stop_prompt(attempt_id)
            self._note_gone(attempt_id)

        await self._call("cancel", stop)

    async def take_back(self, attempt_id: AttemptId) -> bool:
        def delete() -> bool:
            prompt = self._comfy.prompts.get(attempt_id)
            if prompt is not None and prompt.phase is not RunPhase.PENDING:
                return False
            self._comfy.stop_prompt(attempt_id)
            self._note_gone(attempt_id)
            return True

        return await self._call("take back", delete)

    def _note_gone(self, attempt_id: AttemptId) -> None:
        if attempt_id not in self._comfy.prompts:
            self._gone.add(attempt_id)

    async def forget(self, attempt_id: AttemptId) -> None:
        await self._call("forget", lambda: self._comfy.prompts.pop(attempt_id, None))

    async def free_memory(self) -> None:
        def free() -> None:
            self._comfy.freed += 1

        await self._call("free", free)

    async def _call(self, name: str, effect: Callable[[], T]) -> T:
        await asyncio.sleep(0)

        def on_the_wire() -> T:
            self._check_there()
            return effect()

        try:
            return self._acts.perform(self._process, f"comfy {name}", on_the_wire, may_lose_answer=True)
        except AnswerLostError as error:
            raise FulletError(ErrorCode.SERVER_UNREACHABLE) from error

    async def _look(self, seconds: float) -> None:
        self._process.check()
        await (self._comfy.news(seconds) if seconds else asyncio.sleep(0))
        self._process.check()

    def _check_there(self) -> None:
        if self._comfy.is_away:
            raise FulletError(ErrorCode.SERVER_UNREACHABLE)

    def _trip(self, call: ServerCall, attempt_id: AttemptId) -> None:
        if (error := self._comfy.trips(call, attempt_id)) is not None:
            raise error


def _report_of(prompt: Prompt) -> RunReport:
    return RunReport(phase=prompt.phase, started_at=prompt.started_at, ended_at=prompt.ended_at, failure=prompt.failure)


def picture_of(job_id: JobId, slot: int) -> Picture:
    """One that belongs to this job and place alone."""
    return a_picture(job_id.int % 60_000 + slot)
