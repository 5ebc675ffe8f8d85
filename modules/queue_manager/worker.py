"""One worker per server: owns it by lease, keeps it busy with one batch ahead, and looks after it when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import QueueChanged
from modules.domain.jobs import Attempt, Job, JobId, WorkClass
from modules.domain.ports import ImageServer
from modules.domain.queue import Pick, QueueSnapshot, ServerStatus
from modules.domain.servers import InMemory
from modules.queue_manager.attempt_run import AttemptRun
from modules.queue_manager.crew import Crew, as_waiting
from modules.queue_manager.experience import Experience
from modules.queue_manager.fault_attribution import History
from modules.queue_manager.lease import Lease, LeaseLostError
from modules.queue_manager.open_runs import OpenRuns
from modules.queue_manager.outcomes import RunOutcome
from modules.queue_manager.recovery import move_to_other_servers, prepare_to_resume
from modules.queue_manager.run_tools import RunTools
from modules.queue_manager.scheduler import ServerView, pick
from modules.queue_manager.server_calls import try_call
from modules.queue_manager.vitals import Vitals
from modules.queue_manager.withdrawals import Withdrawals

log = structlog.get_logger(__name__)

#: A worker looks for work every `poll_s` at least; after so many looks that did not come it counts as held up.
LOOKS_MISSED = 2


class Worker:
    """Keeps one server busy until stopped or cancelled; only bugs leave `run`."""

    def __init__(self, server: ImageServer, crew: Crew) -> None:
        self.server = server
        self._crew = crew
        self._log = log.bind(server=server.name)
        self._lease = Lease(server.name, crew)
        self._vitals = Vitals(server, crew)
        self._experience = Experience(server, crew)
        self._runs = OpenRuns(server, crew)
        self._withdrawals = Withdrawals(server, crew, self._runs)
        self._wake = asyncio.Event()
        self._probe_now = asyncio.Event()
        self._is_stopping = False
        self._is_database_away = False
        self._looked_at = crew.clock.monotonic()  #: when it last turned to the queue
        self._has_let_go = asyncio.Event()
        self._has_let_go.set()
        crew.colleagues[server.name] = self
        crew.wakers.append(self.wake)

    # --- what others see --------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Takes work, as far as the server is concerned, and is ours: of one that another process drives only that one knows."""
        is_healthy = self.is_driving and self._vitals.state == "healthy"
        return is_healthy and not self._crew.switches.is_drained(self.server.name)

    @property
    def is_away(self) -> bool:
        """Was asked and does not answer; not so before it was asked, and not for a server that fails what it is given."""
        return self._vitals.state == "away"

    @property
    def is_driving(self) -> bool:
        """Whether the server is ours; else another process drives it, and we stand by."""
        return self._lease.is_ours

    def can_run(self, work: WorkClass) -> bool:
        """Whether the server has what this work needs."""
        return self.server.facts is not None and not self.server.missing(work)

    def lacks(self, work: WorkClass) -> bool | None:
        """Whether the server said that it has not what this work needs."""
        return None if self.server.facts is None else bool(self.server.missing(work))

    def cap(self, work: WorkClass) -> int:
        """Pictures that may share one attempt here."""
        return self._experience.cap(work)

    def refuses(self, job_id: JobId) -> bool:
        """Whether this very job is not to be tried here again."""
        return self._experience.refuses(job_id)

    @property
    def refused(self) -> Collection[JobId]:
        """The jobs not to be tried here again, the newest last."""
        return self._experience.refused.keys()

    def view(self) -> ServerView:
        """The server for the scheduler."""
        loaded = self._experience.loaded if self._runs.is_empty else self._runs.newest_model
        if self._runs.was_used_by_others:
            loaded = None
        return ServerView(
            name=self.server.name,
            loaded=loaded,
            free_in_s=self._runs.free_in_s() + self._silent_s(),
            refused=self._experience.left_to_others(),
        )

    def taken(self) -> Mapping[JobId, float]:
        """The jobs of the running batch and the one ahead, with the seconds until each should be done."""
        return self._runs.ends_in_s()

    def status(self) -> ServerStatus:
        """The server for an operator."""
        facts, state, since = self.server.facts, self._vitals.state, self._vitals.since
        ids = [tuple(job.id for job in run.attempt.jobs) for run in self._runs.occupying()]
        if self._crew.switches.is_drained(self.server.name) and state == "healthy":
            state, since = "drained", self._crew.switches.drained_since(self.server.name) or since
        return ServerStatus(
            name=self.server.name,
            state=state,
            since=since,
            version=facts.version if facts else "",
            merge_protocol=facts.capability.value if facts else "none",
            loaded=self._experience.loaded,
            running=ids[0] if ids else (),
            ahead=ids[1] if len(ids) > 1 else (),
            pictures_per_minute=self._experience.pictures_per_minute,
            last_error=self._vitals.last_error,
            caps=self._experience.caps,
        )

    def forget(self, job_id: JobId) -> None:
        """The job is over: what this server could not do with it matters no more."""
        self._experience.forget(job_id)

    def _silent_s(self) -> float:
        """For how long this worker did not look for work although it should have: it waits for an answer that does not come.

        Nobody may count on a server whose worker hangs, however idle the server is; the longer it does, the less.
        """
        silent_s = self._crew.clock.monotonic() - self._looked_at - LOOKS_MISSED * self._crew.intervals.poll_s
        return max(0.0, silent_s)

    def wake(self) -> None:
        """Something changed: look again now."""
        self._wake.set()

    def offer(self) -> None:
        """Something new waits: look at once if this server could take it, else when the running batch nears its end."""
        if self._may_take():
            self._wake.set()

    def probe_now(self) -> None:
        """An operator says that the server can work again: ask it now instead of at the next probe."""
        self._probe_now.set()

    # --- its life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Own, heal, serve; until `stop` or cancellation."""
        self._has_let_go.clear()
        try:
            while not self._is_stopping:
                try:
                    async with asyncio.TaskGroup() as group:
                        await self._own()
                        keeping = group.create_task(self._lease.keep())
                        await self._work()
                        keeping.cancel()
                except* LeaseLostError:
                    self._log.warning("lease_lost")
                except* FulletError as errors:
                    await self._sit_out(errors)
        finally:
            self._has_let_go.set()

    async def stop(self) -> None:
        """Take nothing more, take back what only waits, leave what runs to be found again, give up the lease."""
        self._is_stopping = True
        self._wake.set()
        self._probe_now.set()
        try:
            async with asyncio.timeout(self._crew.intervals.farewell_s):
                await self._has_let_go.wait()
        except TimeoutError:
            self._log.warning("server_not_let_go")  # whatever is left open is found again at the next start

    async def _own(self) -> None:
        is_ours = await self._lease.take_first()
        while not is_ours and not self._is_stopping:
            await self._rest(self._crew.intervals.lease_renewal_s)
            is_ours = await self._lease.take()

    async def _work(self) -> None:
        while not self._is_stopping:
            if await self._until_healthy():
                await self._serve()
        await self._lease.release()

    async def _sit_out(self, errors: BaseExceptionGroup[FulletError]) -> None:
        """The database is away: nothing is decided until it is back, and nothing is lost by that. Anything else is a bug."""
        if any(error.code is not ErrorCode.DATABASE_UNAVAILABLE for error in _leaves(errors)):
            raise errors
        if not self._is_database_away:
            self._is_database_away = True
            self._log.warning("database_lost", reason=str(_leaves(errors)[0].params.get("reason", "")))
        await self._rest(self._crew.intervals.poll_s)

    # --- health -----------------------------------------------------------------------------------------------------

    async def _until_healthy(self) -> bool:
        """Probe with growing pauses; while the server is away, others may take over its jobs. False: we stop instead."""
        away_since = self._crew.clock.monotonic()
        if not self._vitals.is_usable:
            self._experience.loaded = None
            await self._rest(self._vitals.pause_s())
        while not self._is_stopping:
            await self._vitals.probe()
            if self._vitals.is_usable:
                return True
            if self._crew.clock.monotonic() - away_since >= self._crew.intervals.rehome_after_s:
                await move_to_other_servers(self.server.name, self._crew, self._vitals.was_bystander)
            await self._rest(self._vitals.pause_s())
        return False

    # --- serving ----------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Recover what is open, then claim, post and follow until the server fails or we stop."""
        async with asyncio.TaskGroup() as tasks:
            for attempt in await self._crew.jobs.unfinished_attempts(self.server.name):
                if await prepare_to_resume(attempt, self._crew):
                    self._begin(attempt, tasks, is_found=True)
            while self._vitals.is_usable and not self._is_stopping:
                self._looked_at = self._crew.clock.monotonic()
                await self._crew.switches.keep_fresh()
                self._note_foreign()
                await self._withdrawals.withdraw_cancelled()
                await self._withdrawals.hand_over()
                if self._vitals.is_check_due(is_idle=self._runs.is_empty):
                    await self._check()
                    continue
                attempt_taken = await self._claim() if self._may_take() else None
                self._note_database_back()
                if attempt_taken is not None:
                    self._begin(attempt_taken, tasks)
                else:
                    await self._pause(self._runs.next_look_s())
            await self._let_go()

    async def _check(self) -> None:
        """Ask the server. What it had loaded may have gone with a restart, and a model that is read anew is long silent."""
        if self.server.is_changed:
            self._experience.loaded = None
        await self._vitals.check()

    async def _let_go(self) -> None:
        """What only waits on the server comes back to the queue; what runs is left there, to be found again."""
        await self._withdrawals.withdraw_waiting()
        if not self._is_stopping:
            return
        if coming_back := self._runs.coming_back():
            await asyncio.wait(coming_back, timeout=self._crew.intervals.farewell_s)
        self._runs.cancel()

    def _begin(self, attempt: Attempt, tasks: asyncio.TaskGroup, *, is_found: bool = False) -> None:
        first, rows = as_waiting(attempt.jobs[0]), len(attempt.slots)
        in_memory = InMemory.of(self.view().loaded, first.heavy_key)
        expected_s = self._crew.rates.batch_s(self.server.name, first, rows)
        if in_memory is not InMemory.THIS:
            expected_s += self._crew.rates.switch_s(self.server.name, first.heavy_key)
        run = AttemptRun(
            attempt,
            self.server,
            self._tools(),
            in_memory=in_memory,
            expected_s=expected_s,
            is_suspect=not self._vitals.was_bystander(attempt.id),
        )
        self._log.info("batch_found" if is_found else "batch_claimed", attempt=str(attempt.id), jobs=len(attempt.jobs))
        self._runs.add(run, tasks.create_task(self._drive(run, is_found=is_found)))

    def _tools(self) -> RunTools:
        return RunTools(
            jobs=self._crew.jobs,
            events=self._crew.events,
            clock=self._crew.clock,
            settlement=self._crew.settlement,
            intervals=self._crew.intervals,
            timeout_s=self._crew.timeout_s,
            history=self._history_of,
            changed=self.wake,
        )

    def _history_of(self, job: Job) -> History:
        """What is known of a job for whoever decides whose fault its failure is."""
        return History(
            failed_attempts=job.failed_attempts,
            runs_elsewhere=self._crew.runs_elsewhere(self.server.name, job),
            failed_elsewhere=self._crew.failed_elsewhere(self.server.name, job),
            server_fails_all=self._vitals.is_failing,
        )

    async def _drive(self, run: AttemptRun, *, is_found: bool) -> None:
        try:
            outcome = await self._outcome_of(run, is_found=is_found)
        finally:
            self._runs.remove(run)
            self._wake.set()
        await self._note(run, outcome)
        self._crew.events.publish(QueueChanged())
        self._crew.wake_workers()

    async def _outcome_of(self, run: AttemptRun, *, is_found: bool) -> RunOutcome:
        try:
            return await (run.resume() if is_found else run.start())
        except FulletError:
            raise
        except Exception:  # noqa: BLE001 - the supervisor of every attempt: logged, and every job in it is settled
            # A bug that one job's recipe brings to light must not stop everybody's queue, at every start anew.
            self._log.exception("batch_broke_us", attempt=str(run.attempt.id))
            return await run.give_up(ErrorCode.UNEXPECTED)

    async def _note(self, run: AttemptRun, outcome: RunOutcome) -> None:
        """What this run says about the server; noted before anything is awaited, so that the next claim knows it."""
        self._vitals.note(run, outcome)
        self._experience.note(run, outcome)
        if outcome is RunOutcome.OUT_OF_MEMORY:
            await try_call(self.server.free_memory(), self._log)

    def _note_database_back(self) -> None:
        if self._is_database_away:
            self._is_database_away = False
            self._log.info("database_back")

    # --- taking work ------------------------------------------------------------------------------------------------

    def _may_take(self) -> bool:
        if not self._vitals.is_usable:  # lost since the loop last looked: what it took now would be stranded with it
            return False
        if self._crew.switches.is_paused or self._crew.switches.is_drained(self.server.name):
            return False
        return self._runs.have_room(for_one_ahead=self._vitals.is_proven)

    async def _claim(self) -> Attempt | None:
        classes = await self._crew.waiting_classes()
        keys = [key for key, work in classes.items() if self.can_run(work)]
        if not keys:
            return None
        barred = tuple(self._crew.retries.held_back(self._crew.clock.monotonic()))
        attempt = await self._crew.jobs.claim(self.server.name, self._crew.boot_id, keys, self._decide, barred=barred)
        if attempt is not None:
            self._crew.retries.dispatched([job.id for job in attempt.jobs])
        return attempt

    def _decide(self, snapshot: QueueSnapshot) -> Pick | None:
        """A job refused here is the others'; once none of them could take it, it is tried here again, and then fails honestly."""
        return pick(snapshot, self.view(), self._crew.others(self.server.name), self._crew.rates, self._crew.policy)

    def _note_foreign(self) -> None:
        """What somebody else's prompt leaves in memory, nobody knows."""
        self._runs.look()
        if self._runs.was_used_by_others:
            self._experience.loaded = None

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _pause(self, seconds: float) -> None:
        """Until something changes, at most this long."""
        await _wait_for(self._wake, seconds)

    async def _rest(self, seconds: float) -> None:
        """This long, whatever changes in the queue: only an operator or the end cuts it short."""
        if not self._is_stopping:
            await _wait_for(self._probe_now, seconds)


async def _wait_for(bell: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        pass
    bell.clear()


def _leaves(group: BaseExceptionGroup[FulletError]) -> list[FulletError]:
    """The errors themselves, however deep the groups: a worker's tasks stand in groups within groups."""
    found: list[FulletError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
