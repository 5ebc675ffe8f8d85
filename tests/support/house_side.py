"""The middle of the house with real parts around it: an engine over SQLite, real ComfyUI adapters, stand-in GPUs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.fleet import ServerSpec
from modules.ai.listing import Listings
from modules.ai.server import ComfyServer
from modules.ai.workflows.gain import MergeMode
from modules.ai.workflows.planner import Planner
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.events import Event
from modules.domain.images import BlobId
from modules.domain.jobs import BootId, Job, JobId, JobRequest, JobState, Origin, ServerName, WorkClass
from modules.domain.people import ChannelId, InteractionId, Language, Person, UserId
from modules.domain.recipes import ModelName, Recipe
from modules.domain.records import Limits
from modules.queue_manager.crew import Crew
from modules.queue_manager.engine import Accepted, Engine
from modules.queue_manager.intervals import Intervals
from modules.queue_manager.operations import Operations
from modules.queue_manager.scheduler import Policy
from modules.sandbox.comfy_server import ComfySandbox
from modules.utils.bus import EventBus
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from modules.utils.images import PictureWorkshop
from tests.support.builders import THE_GUILD, a_snowflake
from tests.support.comfy_side import QUICK, the_library

LIMIT_S = 30.0
#: What takes seconds in the house takes tenths here.
BRISK = Intervals(poll_s=0.5, lead_s=0.2, look_again_s=0.3, stopping_s=3.0, stopping_poll_s=0.05)
OVER = frozenset({JobState.GENERATED, JobState.FAILED, JobState.CANCELLED, JobState.DELIVERED, JobState.UNDELIVERABLE})


@dataclass(slots=True, kw_only=True)
class HouseSide:
    """Everything behind the Studio port, running."""

    database: Database
    engine: Engine
    operations: Operations
    catalogue: TemplateCatalogue
    crew: Crew
    servers: Sequence[ComfyServer]
    seen: list[Event] = field(default_factory=list)

    async def ask(
        self,
        user: int,
        prompt: str = "a lighthouse",
        *,
        model: str = "z-image",
        size: str = "512x512",
        count: int = 1,
        weight: float = 1.0,
    ) -> Accepted:
        """What `/imagine` does, without Discord."""
        wish = Wish(kind=WorkflowKind.IMAGINE, model=ModelName(model), prompt=prompt, size=size, count=count)
        return await self.submit(user, *self.catalogue.resolve(wish), weight=weight)

    async def submit(self, user: int, recipe: Recipe, work: WorkClass, *, weight: float = 1.0) -> Accepted:
        """A recipe that is resolved already."""
        return await self.engine.submit(_a_request(UserId(user), recipe, work, weight))

    async def ask_edit(self, user: int, source: BlobId, prompt: str = "make it snow", *, model: str = "flux") -> Accepted:
        """What `/edit` does with a picture that is stored already."""
        wish = Wish(kind=WorkflowKind.EDIT, model=ModelName(model), prompt=prompt, source=source)
        recipe, work = self.catalogue.resolve(wish)
        return await self.engine.submit(_a_request(UserId(user), recipe, work, 1.0))

    async def ask_again(self, job: Job) -> Accepted:
        """The very same recipe once more."""
        return await self.engine.submit(_a_request(job.user_id, job.recipe, job.work, 1.0))

    async def until(self, job_id: JobId, states: Collection[JobState] = OVER, *, within_s: float = LIMIT_S) -> Job:
        """Wait for the fact, not for time; says what it saw instead."""
        job = await self.database.jobs.job(job_id)
        try:
            async with asyncio.timeout(within_s):
                while job is None or job.state not in states:
                    await asyncio.sleep(0.02)
                    job = await self.database.jobs.job(job_id)
        except TimeoutError:
            raise AssertionError(f"wanted {sorted(states)}, the job is {job and job.state}; {self.statuses()}") from None
        return job

    async def until_all_over(self, jobs: Collection[JobId], *, within_s: float = LIMIT_S) -> list[Job]:
        return [await self.until(job_id, within_s=within_s) for job_id in jobs]

    async def until_seen(self, kind: type[Event], *, within_s: float = LIMIT_S) -> None:
        """Wait until an event of this kind was published."""
        async with asyncio.timeout(within_s):
            while not any(isinstance(event, kind) for event in self.seen):  # noqa: ASYNC110 (the list is the fact)
                await asyncio.sleep(0.02)

    async def until_state(self, server: str, state: str, *, within_s: float = LIMIT_S) -> None:
        """Wait until an operator would read this of the server."""
        worker = self.engine.workers[ServerName(server)]
        try:
            async with asyncio.timeout(within_s):
                while worker.status().state != state:  # noqa: ASYNC110 (the state is the fact)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"wanted {state}; {self.statuses()}") from None

    def statuses(self) -> str:
        return str([worker.status() for worker in self.engine.workers.values()])


def _a_request(user: UserId, recipe: Recipe, work: WorkClass, weight: float) -> JobRequest:
    return JobRequest(
        interaction_id=InteractionId(a_snowflake()),
        person=Person(user_id=user, guild_id=THE_GUILD, display_name=f"person {user}", language=Language.ENGLISH, weight=weight),
        recipe=recipe,
        work=work,
        origin=Origin.IMAGINE,
        channel_id=ChannelId(user),
    )


@asynccontextmanager
async def house_side(
    folder: Path,
    sandboxes: Sequence[ComfySandbox],
    *,
    limits: Limits | None = None,
    mode: MergeMode = MergeMode.AUTO,
    max_batch_size: int = 4,
    timeout_s: float = 60.0,
) -> AsyncIterator[HouseSide]:
    """Start it; leaving the block stops it the clean way. A crash is tested by killing the real program instead."""
    clock, listings = SystemClock(), Listings()
    planner = Planner(library=the_library(), listings=listings, mode=mode, max_batch_size=max_batch_size)
    async with AsyncExitStack() as stack:
        await _put_empty_database(folder)
        database = await stack.enter_async_context(open_database(None, data_dir=folder, clock=clock))
        workshop = await stack.enter_async_context(PictureWorkshop())
        servers = [
            await stack.enter_async_context(
                ComfyServer(
                    ServerSpec(name=ServerName(sandbox.name), url=sandbox.url),
                    planner=planner,
                    blobs=database.blobs,
                    listings=listings,
                    workshop=workshop,
                    clock=clock,
                    patience=QUICK,
                )
            )
            for sandbox in sandboxes
        ]
        crew = Crew(
            jobs=database.jobs,
            control=database.control,
            events=EventBus(),
            clock=clock,
            boot_id=BootId(uuid4()),
            policy=Policy(),
            timeout_s=timeout_s,
            is_alone=True,
            intervals=BRISK,
            rng=random.Random(1),
        )
        engine = Engine(crew, servers, limits or Limits(active_per_person=50, queue_length=1_000))
        side = HouseSide(
            database=database,
            engine=engine,
            operations=Operations(crew, engine),
            catalogue=TemplateCatalogue(library=the_library(), listings=listings),
            crew=crew,
            servers=servers,
        )
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(side))
            running = group.create_task(engine.run())
            try:
                yield side
            finally:
                await engine.stop()
                async with asyncio.timeout(10):
                    await asyncio.wait([running])
                watching.cancel()


_migrated: list[bytes] = []


async def _put_empty_database(folder: Path) -> None:
    """Migrating takes half a second, so the tests of one process do it once and copy."""
    file = folder / "bot_data.db"
    if not _migrated:
        async with open_database(None, data_dir=folder, clock=SystemClock()):
            pass
        _migrated.append(await asyncio.to_thread(file.read_bytes))
    elif not await asyncio.to_thread(file.exists):
        await asyncio.to_thread(file.write_bytes, _migrated[0])


async def _watch(side: HouseSide) -> None:
    async with side.engine.events() as events:
        async for event in events:
            side.seen.append(event)
