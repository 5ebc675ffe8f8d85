"""One worker per server: owns it by lease, keeps it busy with one batch ahead, and looks after it when it fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import QueueChanged, ServerBack, ServerLost
from modules.domain.jobs import IN_FLIGHT_STATES, Attempt, Job, JobId, WorkClass
from modules.domain.ports import ImageServer
from modules.domain.queue import Pick, QueueSnapshot, ServerStatus
from modules.queue_manager.attempt_run import AttemptRun, RunOutcome, RunTools
from modules.queue_manager.crew import Crew, as_waiting
from modules.queue_manager.health import Breaker, BreakerState, LearnedCaps
from modules.queue_manager.scheduler import ServerView, pick
from modules.queue_manager.verdicts import Again

log = structlog.get_logger(__name__)

#: A dead process's server is free for others after this long; renewed three times in between.
LEASE_LIFE = timedelta(seconds=15)
LEASE_RENEWAL_S = 5.0
#: The next batch is posted this long before the running one should end, so that ComfyUI never waits for us.
#: Source: docs/scheduling.md, "Algorithm".
MIN_LEAD_S = 2.0
#: Wake-ups may be lost (PostgreSQL poolers break LISTEN); this often we look by ourselves.
POLL_S = 1.0
#: A server away for longer than this gives its jobs to others, where others can run them.
REHOME_AFTER_S = 60.0


class LeaseLostError(Exception):
    """Another process drives this server now."""


class Worker:
    """Keeps one server busy until cancelled; only bugs leave `run`."""

    def __init__(self, server: ImageServer, crew: Crew) -> None:
        self.server = server
        self._crew = crew
        self._log = log.bind(server=server.name)
        self._breaker = Breaker()
        self._caps = LearnedCaps()
        self._runs: list[AttemptRun] = []
        self._loaded: str | None = None
        self._refused: set[JobId] = set()
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._state = "starting"
        self._since = crew.clock.now()
        self._last_error: str | None = None
        self._pictures: list[float] = []
        crew.colleagues[server.name] = self

    # --- what others see --------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Takes work, as far as the server is concerned."""
        return self._state == "healthy" and not self._crew.switches.is_drained(self.server.name)

    def can_run(self, work: WorkClass) -> bool:
        """Whether the server has what this work needs."""
        return self.server.facts is not None and not self.server.missing(work)

    def cap(self, work: WorkClass) -> int:
        """Pictures that may share one attempt here."""
        return self._caps.limit(work.heavy_key, self.server.max_jobs(work))

    def refuses(self, job: Job) -> bool:
        """Whether this very job is not to be tried here again."""
        return job.id in self._refused

    def view(self) -> ServerView:
        """The server for the scheduler."""
        loaded = self._runs[-1].heavy_key if self._runs else self._loaded
        return ServerView(name=self.server.name, loaded=loaded, free_in_s=sum(self._remaining_s(run) for run in self._runs))

    def status(self) -> ServerStatus:
        """The server for an operator."""
        facts = self.server.facts
        ids = [tuple(job.id for job in run.attempt.jobs) for run in self._runs]
        is_drained = self._crew.switches.is_drained(self.server.name)
        return ServerStatus(
            name=self.server.name,
            state="drained" if is_drained and self._state == "healthy" else self._state,
            since=self._since,
            version=facts.version if facts else "",
            merge_protocol=facts.capability.value if facts else "none",
            loaded=self._loaded,
            running=ids[0] if ids else (),
            ahead=ids[1] if len(ids) > 1 else (),
            pictures_per_minute=self._pictures_per_minute(),
            last_error=self._last_error,
            caps=self._caps.known(),
        )

    def wake(self) -> None:
        """Something changed: look again now."""
        self._wake.set()

    # --- its life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Own, heal, serve; until `stop` or cancellation."""
        while not self._is_stopping:
            await self._own()
            try:
                async with asyncio.TaskGroup() as group:
                    lease = group.create_task(self._keep_lease())
                    await self._work()
                    lease.cancel()
            except* LeaseLostError:
                self._log.warning("lease_lost")
            except* FulletError as errors:
                if not _is_database_trouble(errors):
                    raise
                self._log.exception("worker_paused_by_database")
                await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Take nothing more, take back what only waits, leave what runs to be found again, give up the lease."""
        self._is_stopping = True
        for run in self._runs[1:]:
            await self._take_back(run)
        self._wake.set()

    async def _own(self) -> None:
        while not await self._take_lease(steal=self._crew.is_alone):
            await self._pause(LEASE_RENEWAL_S)

    async def _take_lease(self, *, steal: bool = False) -> bool:
        try:
            return await self._crew.jobs.take_lease(self.server.name, self._crew.boot_id, LEASE_LIFE, steal=steal)
        except FulletError as error:
            if error.code is not ErrorCode.DATABASE_UNAVAILABLE:
                raise
            return False

    async def _keep_lease(self) -> None:
        held_until = self._crew.clock.monotonic() + LEASE_LIFE.total_seconds()
        while True:
            await asyncio.sleep(LEASE_RENEWAL_S)
            if await self._take_lease():
                held_until = self._crew.clock.monotonic() + LEASE_LIFE.total_seconds()
            elif self._crew.clock.monotonic() >= held_until - LEASE_RENEWAL_S:
                raise LeaseLostError

    async def _work(self) -> None:
        while not self._is_stopping:
            if await self._until_healthy():
                await self._serve()
        await self._crew.jobs.release_lease(self.server.name, self._crew.boot_id)

    # --- health -----------------------------------------------------------------------------------------------------

    async def _until_healthy(self) -> bool:
        """Probe with growing pauses; while the server is away, others may take over its jobs. False: we stop instead."""
        away_since = self._crew.clock.monotonic()
        is_rehomed = False
        if self._breaker.state is BreakerState.OPEN:
            await self._pause(self._breaker.probe_in_s(self._crew.rng))
        while not self._is_stopping:
            try:
                facts = await self.server.refresh()
            except FulletError as error:
                self._note_away(error.code)
            else:
                self._note_back(facts.version)
                return True
            if not is_rehomed and self._crew.clock.monotonic() - away_since >= REHOME_AFTER_S:
                is_rehomed = await self._rehome()
            await self._pause(self._breaker.probe_in_s(self._crew.rng))
        return False

    def _note_away(self, code: ErrorCode) -> None:
        self._last_error = code.value
        self._loaded = None
        if self._state == "away":
            return
        self._breaker.failed(self._crew.clock.monotonic(), at_once=True)
        self._become("away")
        self._log.warning("server_lost", error=code.value)
        self._crew.events.publish(ServerLost(server=self.server.name, reason=code.value))
        self._crew.events.publish(QueueChanged())

    def _note_back(self, version: str) -> None:
        was_away = self._state == "away"
        self._breaker.probed()
        self._become("healthy")
        self._log.info("server_ready", version=version)
        if was_away:
            self._last_error = None
            self._crew.events.publish(ServerBack(server=self.server.name))
        self._crew.events.publish(QueueChanged())

    def _become(self, state: str) -> None:
        self._state, self._since = state, self._crew.clock.now()

    async def _rehome(self) -> bool:
        """Give the jobs of this lost server to those that can run them; the attempt stays open and is cleaned up later."""
        moved = 0
        for attempt in await self._crew.jobs.unfinished_attempts(self.server.name):
            jobs = [job for job in attempt.jobs if job.state in IN_FLIGHT_STATES]
            for job in jobs:
                if self._crew.runs_elsewhere(self.server.name, job):
                    moved += len(
                        await self._crew.jobs.requeue(attempt.id, [job.id], ErrorCode.SERVER_UNREACHABLE, server_died=True)
                    )
        if moved:
            self._log.warning("jobs_rehomed", jobs=moved)
            self._crew.events.publish(QueueChanged())
        return moved > 0

    # --- serving ----------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Recover what earlier boots left, then claim, post and follow until the breaker opens or we stop."""
        async with asyncio.TaskGroup() as tasks:
            await self._recover(tasks)
            while self._breaker.state is not BreakerState.OPEN and not self._is_stopping:
                await self._crew.switches.refresh()
                await self._drop_cancelled()
                attempt = await self._claim() if self._may_take() else None
                if attempt is not None:
                    self._begin(attempt, tasks)
                else:
                    await self._pause(self._next_look_s())
            if self._is_stopping:
                for task in tuple(self._tasks):
                    task.cancel()

    async def _recover(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs.clear()
        for attempt in await self._crew.jobs.unfinished_attempts(self.server.name):
            self._begin(attempt, tasks, is_found=True)

    def _begin(self, attempt: Attempt, tasks: asyncio.TaskGroup, *, is_found: bool = False) -> None:
        first = as_waiting(attempt.jobs[0])
        rows = len(attempt.slots)
        loaded = self.view().loaded
        is_loading = loaded != first.heavy_key
        expected_s = self._crew.rates.batch_s(self.server.name, first, rows)
        if is_loading:
            expected_s += self._crew.rates.switch_s(self.server.name, first.heavy_key)
        tools = RunTools(
            jobs=self._crew.jobs,
            events=self._crew.events,
            clock=self._crew.clock,
            timeout_s=self._crew.timeout_s,
            runs_elsewhere=lambda job: self._crew.runs_elsewhere(self.server.name, job),
        )
        run = AttemptRun(attempt, self.server, tools, is_loading=is_loading, expected_s=expected_s)
        self._runs.append(run)
        self._log.info("batch_found" if is_found else "batch_claimed", attempt=str(attempt.id), jobs=len(attempt.jobs))
        task = tasks.create_task(self._drive(run, is_found=is_found))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, run: AttemptRun, *, is_found: bool) -> None:
        try:
            outcome = await (run.resume() if is_found else run.start())
        finally:
            self._runs.remove(run)
            self._wake.set()
        self._note(run, outcome)
        self._crew.events.publish(QueueChanged())

    def _note(self, run: AttemptRun, outcome: RunOutcome) -> None:
        """What this run says about the server."""
        self._refused |= run.refused_here
        heavy_key, rows = run.heavy_key, len(run.attempt.slots)
        match outcome:
            case RunOutcome.CLEAN:
                self._breaker.succeeded()
                self._caps.ran_clean(heavy_key)
                self._learn(run)
                self._loaded = heavy_key
            case RunOutcome.REFUSED:
                self._loaded = heavy_key if run.is_started else self._loaded
            case RunOutcome.RESTARTED:
                self._loaded = None
            case RunOutcome.OUT_OF_MEMORY:
                self._loaded = None
                self._log.warning("out_of_memory", pictures=rows, cap=self._caps.ran_out_of_memory(heavy_key, rows))
            case RunOutcome.LOST:
                self._note_away(ErrorCode.SERVER_UNREACHABLE)
            case RunOutcome.STUCK:
                self._note_away(ErrorCode.GPU_BROKEN)

    def _learn(self, run: AttemptRun) -> None:
        worked_s = run.report.worked_s if run.report else None
        if worked_s is None:
            return
        self._pictures.extend(self._crew.clock.monotonic() for _ in run.attempt.slots)
        self._crew.rates.learn(
            self.server.name,
            job=as_waiting(run.attempt.jobs[0]),
            rows=len(run.attempt.slots),
            worked_s=worked_s,
            was_loaded=not run.is_loading,
            reference_s=sum(job.work.cost_s for job in run.attempt.jobs),
        )

    def _pictures_per_minute(self) -> float:
        since = self._crew.clock.monotonic() - 60.0
        self._pictures = [at for at in self._pictures if at > since]
        return float(len(self._pictures))

    # --- taking work ------------------------------------------------------------------------------------------------

    def _may_take(self) -> bool:
        if self._crew.switches.is_paused or self._crew.switches.is_drained(self.server.name):
            return False
        busy = self._occupying()
        if not busy:
            return True
        is_proven = self._breaker.state is BreakerState.CLOSED
        return is_proven and len(busy) == 1 and busy[0].is_started and self._lead_in_s(busy[0]) <= 0

    def _occupying(self) -> list[AttemptRun]:
        """The running batch and the one ahead; not those that are only being looked for."""
        return [run for run in self._runs if run.is_occupying]

    def _lead_in_s(self, run: AttemptRun) -> float:
        """Seconds until the next batch should be posted behind the running one."""
        return self._remaining_s(run) - max(MIN_LEAD_S, self._crew.rates.lead_s(self.server.name))

    def _remaining_s(self, run: AttemptRun) -> float:
        if run.started_monotonic is None:
            return run.expected_s
        return max(0.0, run.started_monotonic + run.expected_s - self._crew.clock.monotonic())

    def _next_look_s(self) -> float:
        """Seconds until this worker must look again by itself: at the lead, and every now and then in case a hint was lost."""
        busy = self._occupying()
        if len(busy) != 1 or not busy[0].is_started:
            return POLL_S
        lead_in_s = self._lead_in_s(busy[0])
        return min(POLL_S, lead_in_s) if lead_in_s > 0 else POLL_S

    async def _claim(self) -> Attempt | None:
        classes = await self._crew.waiting_classes()
        keys = [key for key, work in classes.items() if self.can_run(work)]
        if not keys:
            return None
        return await self._crew.jobs.claim(self.server.name, self._crew.boot_id, keys, self._decide)

    def _decide(self, snapshot: QueueSnapshot) -> Pick | None:
        allowed = tuple(job for job in snapshot.jobs if job.id not in self._refused)
        return pick(
            replace(snapshot, jobs=allowed),
            self.view(),
            self._crew.others(self.server.name),
            self._crew.rates,
            self._crew.policy,
        )

    async def _drop_cancelled(self) -> None:
        """A batch in which nobody is left is stopped; one that only waits is taken back when somebody left it."""
        for run in tuple(self._runs):
            attempt = await self._crew.jobs.attempt(run.attempt.id)
            if attempt is None:
                continue
            left = [job for job in attempt.jobs if job.state in IN_FLIGHT_STATES]
            is_touched = len(left) < len(run.attempt.jobs)
            try:
                if not left and not run.has_results:
                    await self.server.cancel(run.attempt.id)
                elif is_touched and not run.is_started and not run.has_results:
                    await self._take_back(run)
            except FulletError as error:
                self._log.info("cancel_not_passed_on", error=error.code.value)

    async def _take_back(self, run: AttemptRun) -> None:
        """Remove a batch that ComfyUI has not begun; its jobs keep their place."""
        run.is_taken_back = not run.is_started  # said first: its disappearance must not look like a lost server
        if not run.is_taken_back:
            return
        run.is_taken_back = await self.server.take_back(run.attempt.id)
        if not run.is_taken_back:
            return
        for job in run.attempt.jobs:
            await run.send_back(Again(job_id=job.id, reason=ErrorCode.INTERRUPTED, counts=False))

    async def _pause(self, seconds: float) -> None:
        """Until something changes, at most this long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()


def _is_database_trouble(errors: BaseExceptionGroup[FulletError]) -> bool:
    codes = [error.code for error in errors.exceptions if isinstance(error, FulletError)]
    return bool(codes) and all(code is ErrorCode.DATABASE_UNAVAILABLE for code in codes)
