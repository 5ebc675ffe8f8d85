"""The world: the outside that lives on, and one life of the program after the other."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, select

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings
from modules.discord.courier import Courier
from modules.discord.delivery import Delivery
from modules.discord.exports import Exports
from modules.discord.house import House
from modules.discord.voices import Voices
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import Event
from modules.domain.images import Picture
from modules.domain.jobs import Job, JobId, JobRequest, JobState, WorkClass, short_id
from modules.domain.people import InteractionId
from modules.domain.records import Limits
from modules.queue_manager.crew import Crew
from modules.queue_manager.engine import Engine
from modules.queue_manager.intervals import Intervals
from modules.queue_manager.operations import Operations
from modules.queue_manager.scheduler import Policy
from modules.utils.bus import EventBus
from modules.utils.database import Database
from modules.utils.database.codecs import job_of
from modules.utils.database.tables import account, job
from modules.utils.i18n import Phrasebook
from tests.support.builders import a_boot_id, a_person, a_recipe, a_request, a_work_class
from tests.support.comfy_side import the_library
from tests.support.world.acts import Acts, Process, ProcessDied, Trouble
from tests.support.world.comfy import ComfyPort, FakeComfy, picture_of
from tests.support.world.mail import FakeDiscord, NoCards, NoGuilds, OpenRooms, PostPort
from tests.support.world.store import Disk, InlineEngine
from tests.support.world.virtual_time import VirtualClock, run_virtually

#: How long an outage lasts, and how long the supervisor takes to start the program again.
OUTAGE_S = 40.0
RESTART_S = 3.0
#: Nothing takes this long; who waits longer waits for ever.
LONG_S = 4 * 3600.0
TIMEOUT_S = 300.0
#: How often a waiting test looks.
LOOK_S = 0.5
OVER = frozenset({JobState.DELIVERED, JobState.UNDELIVERABLE, JobState.FAILED, JobState.CANCELLED})


class NeverCameError(AssertionError):
    """A fact that was waited for stayed away for longer than anything takes."""


_disks: list[Disk] = []


def the_disk() -> Disk:
    """The one that all worlds of this process share."""
    if not _disks:
        _disks.append(Disk())
    return _disks[0]


def use_disk(path: Path) -> None:
    """Keep it in a file from now on."""
    _disks[:] = [Disk(path)]


@cache
def the_phrases() -> Phrasebook:
    return Phrasebook.load()


@dataclass(slots=True)
class Life:
    """One start of the program: engine, courier, and their ends of the ports."""

    process: Process
    store: InlineEngine
    database: Database
    crew: Crew
    engine: Engine
    operations: Operations
    courier: Courier
    runs_engine: bool = True
    runs_courier: bool = True
    seen: list[Event] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            if self.runs_engine:
                group.create_task(self.engine.run())
            if self.runs_courier:
                group.create_task(self.courier.run())

    async def _watch(self) -> None:
        async with self.engine.events() as events:
            async for event in events:
                self.seen.append(event)


class World:
    """What stays while the program comes and goes. Use through `in_world`."""

    def __init__(
        self,
        *,
        plan: Mapping[int, Sequence[Trouble]] | None = None,
        servers: int = 1,
        batch: int = 2,
        limits: Limits | None = None,
        intervals: Intervals | None = None,
        is_alone: bool = True,
        is_split: bool = False,
        restart_s: float = RESTART_S,
        outage_s: float = OUTAGE_S,
        long_s: float = LONG_S,
    ) -> None:
        """`is_split`: the courier is a process of its own, so that each of the two dies alone."""
        self.clock = VirtualClock()
        self.acts = Acts(plan or {}, cause=self._cause)
        self.comfys = [FakeComfy(f"gpu-{number}", self.clock, batch=batch) for number in range(1, servers + 1)]
        self.discord = FakeDiscord(self.clock)
        self.lives: list[Life] = []
        self.answered: dict[InteractionId, JobId] = {}
        self.bugs: list[BaseException] = []
        self._limits = limits or Limits(active_per_person=50, queue_length=1_000)
        self._intervals = intervals or Intervals()
        self._is_alone = is_alone and not is_split
        self._is_split = is_split
        self.couriers: list[Life] = []  #: the lives of the courier's process, where it has one
        self.restart_s, self._outage_s, self._long_s = restart_s, outage_s, long_s
        self._next_interaction = 1_000

    @property
    def comfy(self) -> FakeComfy:
        """The only server, or the first."""
        return self.comfys[0]

    @property
    def life(self) -> Life:
        """The program as it now runs."""
        return self.lives[-1]

    # --- the program ----------------------------------------------------------------------------------------------------

    def begin(self, *, servers: Sequence[FakeComfy] | None = None) -> Life:
        """Start the program (once more); with split roles the gateway's process, and at first the courier's too."""
        life = self._live(self.lives, self.comfys if servers is None else servers, runs_courier=not self._is_split)
        if self._is_split and not self.couriers:
            self.begin_courier()
        return life

    def begin_courier(self) -> Life:
        """Start the courier's own process (once more)."""
        return self._live(self.couriers, [], runs_engine=False)

    def _live(
        self, lives: list[Life], servers: Sequence[FakeComfy], *, runs_engine: bool = True, runs_courier: bool = True
    ) -> Life:
        process = Process(on_death=lambda: None)
        store = InlineEngine(the_disk(), self.acts, process)
        database = Database(store, self.clock)
        crew = Crew(
            jobs=database.jobs,
            control=database.control,
            events=EventBus(),
            clock=self.clock,
            boot_id=a_boot_id(),
            policy=Policy(),
            timeout_s=TIMEOUT_S,
            is_alone=self._is_alone,
            intervals=self._intervals,
            rng=random.Random(len(lives)),
        )
        ports = [ComfyPort(comfy, self.acts, process) for comfy in servers]
        engine = Engine(crew, ports, self._limits)
        operations = Operations(crew, engine)
        life = Life(
            process,
            store,
            database,
            crew,
            engine,
            operations,
            self._courier(database, crew, engine, operations, process),
            runs_engine,
            runs_courier,
        )
        process.on_death = lambda: self._end(life)
        lives.append(life)
        life.task = asyncio.get_running_loop().create_task(life.run())
        life.task.add_done_callback(lambda task: self._bury(life, task))
        return life

    def _courier(self, database: Database, crew: Crew, engine: Engine, operations: Operations, process: Process) -> Courier:
        async def as_it_is(picture: Picture, _max_bytes: int) -> Picture:
            return picture

        async def at_once() -> None:
            return

        house = House(
            studio=engine,
            admin=operations,
            catalogue=TemplateCatalogue(library=the_library(), listings=Listings()),
            intake=cast(Any, None),  # nothing is uploaded here
            jobs=database.jobs,
            blobs=database.blobs,
            outbox=database.outbox,
            sessions=database.sessions,
            people=database.people,
            control=database.control,
            events=crew.events,
            clock=self.clock,
            fit=as_it_is,
            thumbnails=cast(Any, None),  # nobody looks at pages here
        )
        delivery = Delivery(
            cast(Any, NoGuilds()),
            house,
            cast(Any, PostPort(self.discord, self.acts, process)),
            cast(Any, OpenRooms(self.discord)),
            NoCards(),
            Voices(the_phrases(), database.people),
            Exports(None),
        )
        return Courier(house, delivery, at_once, is_alone=self._is_alone)

    def kill(self, life: Life | None = None) -> None:
        """kill -9, now."""
        with suppress(ProcessDied):
            (life or self.life).process.die()

    def _end(self, life: Life) -> None:
        if life.task is not None:
            life.task.cancel()

    def _bury(self, life: Life, task: asyncio.Task[None]) -> None:
        """A program that ends by itself has a bug."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not life.process.is_dead:
            self.bugs.append(error)
            life.process.is_dead = True

    async def supervise(self) -> None:
        """Start the program again whenever it died, as systemd does."""
        await self._supervise(self.lives, self.begin)

    async def supervise_courier(self) -> None:
        """The same for the courier's process."""
        await self._supervise(self.couriers, self.begin_courier)

    async def _supervise(self, lives: list[Life], begin: Callable[[], Life]) -> None:
        while True:
            life = lives[-1]
            assert life.task is not None
            await asyncio.wait([life.task])
            await asyncio.sleep(self.restart_s)
            if lives[-1] is life:
                begin()

    def _cause(self, trouble: Trouble) -> None:
        match trouble:
            case Trouble.COMFY_RESTARTS:
                for comfy in self.comfys:
                    comfy.restart()
            case Trouble.COMFY_AWAY:
                for comfy in self.comfys:
                    comfy.go_away(self._outage_s)
            case Trouble.DISCORD_AWAY:
                self.discord.go_away(self._outage_s)
            case Trouble.GUILD_GONE:
                self.discord.lose_guild(self._outage_s)
            case Trouble.DATABASE_AWAY:
                self.lose_database(self._outage_s)
            case Trouble.DIES_BEFORE | Trouble.DIES_AFTER | Trouble.ANSWER_LOST:
                pass  # the act itself sees to it

    def lose_database(self, seconds: float) -> None:
        """For those who live now, for a while."""
        stores = [lives[-1].store for lives in (self.lives, self.couriers) if lives]
        for store in stores:
            store.is_away = True

        def back() -> None:
            for store in stores:
                store.is_away = False

        asyncio.get_running_loop().call_later(seconds, back)

    # --- people ---------------------------------------------------------------------------------------------------------

    async def ask(
        self, user: int, *, work: WorkClass | None = None, count: int = 1, weight: float = 1.0, prompt: str = "a lighthouse"
    ) -> JobId:
        """What a person does: ask, and where no answer came, be asked again by Discord (a RESUME replays the interaction).

        Raises what the engine refuses with.
        """
        self._next_interaction += 1
        interaction = InteractionId(self._next_interaction)
        self.discord.asked_at[interaction] = self.clock.now()
        request = a_request(
            a_person(user, weight=weight),
            recipe=a_recipe(prompt, count=count),
            work=work or a_work_class(cost_s=2.0 * count),
            interaction_id=interaction,
            channel_id=user,
        )
        job_id = await self._submit(request)
        self.answered[interaction] = job_id
        return job_id

    async def _submit(self, request: JobRequest) -> JobId:
        while True:
            life = self.life
            try:
                life.process.check()
                return (await life.engine.submit(request)).job.id
            except ProcessDied:
                await asyncio.sleep(self.restart_s + 1.0)
            except FulletError as refusal:
                if refusal.code is not ErrorCode.DATABASE_UNAVAILABLE:
                    raise
                await asyncio.sleep(5.0)  # they were told, and try again a little later

    async def replay(self) -> None:
        """Discord repeats every interaction it has; each must lead to the job it led to before."""
        for interaction, job_id in tuple(self.answered.items()):
            stored = self.job(job_id)
            person = a_person(int(stored.user_id))
            again = await self._submit(a_request(person, interaction_id=interaction, channel_id=int(stored.channel_id)))
            assert again == job_id, "an interaction that was repeated made another job"

    # --- looking --------------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """All, oldest first, as committed."""
        return the_disk().read(_all_jobs)

    def job(self, job_id: JobId) -> Job:
        return next(one for one in self.jobs() if one.id == job_id)

    def states(self) -> list[JobState]:
        return [one.state for one in self.jobs()]

    def vt(self, user: int) -> float:
        """Somebody's account, as committed."""
        received: float = the_disk().read(
            lambda connection: connection.execute(select(account.c.vt).where(account.c.user_id == user)).scalar_one()
        )
        return received

    def is_settled(self) -> bool:
        """Everything over, nothing owed, no attempt open."""
        return the_disk().read(_is_settled)

    async def until(self, is_so: Callable[[], bool], what: str = "it") -> None:
        """Wait for a fact; time costs nothing here."""
        deadline = self.clock.monotonic() + self._long_s
        while not is_so():
            if self.bugs:
                raise AssertionError(f"the program ended by itself: {self.bugs[0]!r}") from self.bugs[0]
            if self.clock.monotonic() > deadline:
                states = [(short_id(one.id), one.state.value) for one in self.jobs()]
                raise NeverCameError(f"{what} never came: {states}")
            await asyncio.sleep(LOOK_S)

    async def until_over(self, *job_ids: JobId) -> list[Job]:
        """These jobs, or all there are."""
        await self.until(
            lambda: self.is_settled() if not job_ids else all(self.job(one).state in OVER for one in job_ids), "the end"
        )
        return [self.job(one) for one in job_ids] if job_ids else self.jobs()

    async def until_all_over(self) -> None:
        """Everything there is, without looking at each job."""
        await self.until(self.is_settled, "the end")

    def forget(self) -> None:
        """What only tests look at: for runs of very many jobs."""
        self.answered.clear()
        self.acts.names.clear()
        self.discord.channels.clear()
        for comfy in self.comfys:
            comfy.files.clear()
            comfy.drawn.clear()
            comfy.runs.clear()
        for life in self.lives:
            life.seen.clear()

    def wrongs(self, *, needless: bool = True) -> Counter[str]:
        """What must never be, counted."""
        found: Counter[str] = Counter()
        jobs = {one.id: one for one in self.jobs()}
        by_short = {short_id(one): one for one in jobs}
        posts: Counter[JobId] = Counter()
        for channel_id, message in self.discord.messages():
            for number, file in enumerate(message.files):
                job_id = by_short[file.name.split("-")[1]]
                posts[job_id] += number == 0
                found["in the wrong channel"] += channel_id != jobs[job_id].channel_id
                found["somebody else's picture"] += file.data not in _own_pictures(jobs[job_id])
        for one in jobs.values():
            found["lost"] += one.state not in OVER
            found["delivered, not posted"] += one.state is JobState.DELIVERED and not posts[one.id]
            found["posted, not delivered"] += one.state is not JobState.DELIVERED and posts[one.id] > 0
            found["posted twice"] += posts[one.id] > 1
        found["answered, not stored"] += len(set(self.answered.values()) - set(jobs))
        if needless:
            draws: Counter[JobId] = Counter()
            for comfy in self.comfys:
                draws += comfy.draws()
            found["drawn needlessly"] += sum(times - 1 for times in draws.values() if times > 1)
        return +found


def _own_pictures(one: Job) -> list[bytes]:
    return [picture_of(one.id, slot).data for slot in range(16)]


def _all_jobs(connection: Connection) -> list[Job]:
    return [job_of(row) for row in connection.execute(select(job).order_by(job.c.seq))]


def _is_settled(connection: Connection) -> bool:
    """In plain SQL: it is asked more often than anything else."""
    busy = """
        SELECT EXISTS (SELECT 1 FROM job WHERE state IN ('queued', 'submitting', 'submitted', 'generated'))
            OR EXISTS (SELECT 1 FROM attempt WHERE ended_at IS NULL) OR EXISTS (SELECT 1 FROM outbox WHERE is_owed)"""
    return not connection.exec_driver_sql(busy).scalar_one()


def in_world(play: Callable[[World], Awaitable[None]], world: Callable[[], World] = World) -> None:
    """Run a play in a fresh world: the program is started and, whenever it dies, started again."""

    async def perform() -> None:
        the_disk().wipe()
        stage = world()
        stage.begin()
        loop = asyncio.get_running_loop()
        helpers = [loop.create_task(comfy.work()) for comfy in stage.comfys]
        helpers.append(loop.create_task(stage.supervise()))
        if stage.couriers:
            helpers.append(loop.create_task(stage.supervise_courier()))
        try:
            await play(stage)
        finally:
            for task in helpers:
                task.cancel()
            lives = [*stage.lives, *stage.couriers]
            for life in lives:
                stage.kill(life)
            tasks = [life.task for life in lives if life.task is not None]
            _, left = await asyncio.wait([*helpers, *tasks], timeout=60)
            if left:
                raise AssertionError(f"the program cannot be stopped: {left}")
        if stage.bugs:
            raise AssertionError(f"the program ended by itself: {stage.bugs[0]!r}") from stage.bugs[0]

    run_virtually(perform())


def played(**options: Any) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[], None]]:
    """Make a test of a play: `@played(servers=2)` over `async def test_...(world: World)`."""

    def as_test(play: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
        def test() -> None:
            in_world(play, lambda: World(**options))

        test.__name__, test.__doc__, test.__module__ = play.__name__, play.__doc__, play.__module__
        return test

    return as_test
