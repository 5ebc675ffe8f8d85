"""The people's side with real parts around it: the bot on the Discord stand-in, real stores, and a studio that tests steer.

`SteeredStudio` is the engine without servers: it accepts jobs into the real store, and a test says what becomes of them.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from PIL import Image
from yarl import URL

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings
from modules.discord.bot import FulletBot
from modules.discord.courier import Courier
from modules.discord.courier_client import CourierClient
from modules.discord.delivery import Delivery
from modules.discord.endpoint import use_endpoint
from modules.discord.exports import Exports
from modules.discord.house import DiscordOptions, House
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import (
    Event,
    JobAccepted,
    JobFinishing,
    JobPreviewed,
    JobProgressed,
    JobRequeued,
    JobSettled,
    JobStarted,
    QueueChanged,
    QueuePaused,
)
from modules.domain.images import Dimensions, Picture, PictureFormat
from modules.domain.jobs import Attempt, BootId, Job, JobId, JobRequest, JobState, ServerName
from modules.domain.people import GuildId, UserId
from modules.domain.ports import Clock
from modules.domain.queue import Pick, Place, QueueSnapshot, QueueStatus, ServerStatus
from modules.domain.records import Limits
from modules.domain.servers import InMemory, RunPhase, RunReport, ServerFacts
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.journal import Entry
from modules.utils.bus import EventBus
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from modules.utils.images import PictureWorkshop
from modules.utils.intake import UploadIntake
from modules.utils.thumbnails import Thumbnails
from modules.utils.upload_process import UploadProcess
from tests.support.comfy_side import the_library
from tests.support.split_roles import Part, a_part, in_touch

SERVER = ServerName("gpu-1")
LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class SteeredTicket:
    """As the engine answers."""

    job: Job
    place: Place
    active: int
    limit: int


@dataclass(slots=True)
class SteeredStudio:
    """Implements `Studio` and `StudioAdmin` over the real store; nothing happens to a job until the test says so."""

    database: Database
    bus: EventBus
    clock: Clock
    limits: Limits = field(default_factory=lambda: Limits(active_per_person=2, queue_length=1_000))
    turn: timedelta = timedelta(seconds=30)  #: between two that wait
    looks: int = 0  #: how often the queue was read for places
    is_paused: bool = False
    is_away: bool = False
    refusal: FulletError | None = None  #: what `submit` raises, such as a dark database
    boot_id: BootId = field(default_factory=lambda: BootId(uuid4()))
    gpu: Part | None = None  #: the worker's process, where that is another one
    acts: list[tuple[str, str]] = field(default_factory=list)

    # --- Studio ---------------------------------------------------------------------------------------------------------

    async def check_may_ask(self, user_id: UserId) -> None:
        if self.refusal is not None:
            raise self.refusal
        await self.database.jobs.check_may_ask(user_id, self.limits)

    async def submit(self, request: JobRequest) -> SteeredTicket:
        if self.refusal is not None:
            raise self.refusal
        job, is_new = await self.database.jobs.accept(request, self.limits)
        if is_new:
            self.bus.publish(JobAccepted(job_id=job.id))
            self.bus.publish(QueueChanged())
        place = await self.place(job)
        assert place is not None
        active = await self.database.jobs.active_count(job.user_id)
        return SteeredTicket(job=job, place=place, active=active, limit=self.limits.active_per_person)

    async def cancel(self, job_id: JobId, *, by_admin: bool = False) -> Job:
        done = await self.database.jobs.cancel(job_id)
        if done is None:
            raise FulletError(ErrorCode.JOB_OVER)
        self.bus.publish(JobSettled(job_id=job_id, state=JobState.CANCELLED, by_admin=by_admin))
        self.bus.publish(QueueChanged())
        return done[0]

    async def place(self, job: Job) -> Place | None:
        return (await self.places()).get(job.id)

    async def places(self) -> Mapping[JobId, Place]:
        self.looks += 1
        waiting = await self.database.jobs.jobs(states={JobState.QUEUED}, newest_first=False)
        now = self.clock.now()
        if self.is_paused or self.is_away:
            return {job.id: Place(position=1, starts_at=None, ends_at=None, is_paused=self.is_paused) for job in waiting}
        return {job.id: self._place(number, now) for number, job in enumerate(waiting, start=1)}

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        return self.bus.subscribe()

    def _place(self, position: int, now: datetime) -> Place:
        starts = now + self.turn * position
        return Place(position=position, starts_at=starts, ends_at=starts + self.turn)

    # --- StudioAdmin ----------------------------------------------------------------------------------------------------

    async def status(self) -> QueueStatus:
        waiting = await self.database.jobs.jobs(states={JobState.QUEUED})
        server = ServerStatus(name=SERVER, state="healthy", since=self.clock.now(), version="0.33", merge_protocol="full")
        return QueueStatus(servers=(server,), waiting=len(waiting), running=0, longest_wait_s=12.0, is_paused=self.is_paused)

    async def pause(self, actor: UserId) -> None:
        self.acts.append(("pause", str(actor)))
        self.is_paused = True
        self.bus.publish(QueuePaused(is_paused=True))

    async def resume(self, actor: UserId) -> None:
        self.acts.append(("resume", str(actor)))
        self.is_paused = False
        self.bus.publish(QueuePaused(is_paused=False))

    async def drain(self, server: ServerName, actor: UserId) -> None:
        self.acts.append(("drain", server))

    async def enable(self, server: ServerName, actor: UserId) -> None:
        self.acts.append(("enable", server))

    async def cancel_for(self, job_id: JobId, actor: UserId) -> Job:
        self.acts.append(("cancel_for", str(job_id)))
        return await self.cancel(job_id, by_admin=True)

    async def requeue(self, job_id: JobId, actor: UserId) -> Job:
        self.acts.append(("requeue", str(job_id)))
        return await self.job(job_id)

    async def refresh(self, actor: UserId) -> Sequence[ServerFacts]:
        self.acts.append(("refresh", ""))
        return []

    # --- what the test says ---------------------------------------------------------------------------------------------

    async def job(self, job_id: JobId) -> Job:
        """As stored."""
        job = await self.database.jobs.job(job_id)
        assert job is not None
        return job

    async def only_job(self, user_id: int | None = None) -> Job:
        """The newest job (of somebody)."""
        jobs = await self.database.jobs.jobs(user_id=UserId(user_id) if user_id else None, limit=1)
        assert jobs, "no job was accepted"
        return jobs[0]

    async def start(self, job: Job, *, shared_by: int = 1, in_memory: InMemory = InMemory.THIS) -> Attempt:
        """A server takes exactly this job."""

        def pick(snapshot: QueueSnapshot) -> Pick:
            charges = {job.user_id: snapshot.accounts[job.user_id].vt + job.work.cost_s}
            return Pick(job_ids=(job.id,), exact_key=job.work.exact_key, heavy_key=job.work.heavy_key, charges=charges)

        worker = self._worker
        attempt = await worker.database.jobs.claim(SERVER, self.boot_id, [job.work.exact_key], pick)
        assert attempt is not None, "the job could not be claimed"
        await worker.database.jobs.mark_submitted(attempt.id)
        worker.bus.publish(JobStarted(job_id=job.id, server=SERVER, shared_by=shared_by, in_memory=in_memory))
        worker.bus.publish(QueueChanged())
        return attempt

    def changed(self) -> None:
        """Places may have moved."""
        self.bus.publish(QueueChanged())

    def switched(self) -> None:
        """Somebody else paused the queue."""
        self.changed()

    async def refresh_own(self) -> None:
        """Somebody else asked for it."""

    def progress(self, job: Job, step: int, steps: int = 8) -> None:
        """A sampling step is done."""
        self._worker.bus.publish(JobProgressed(job_id=job.id, step=step, steps=steps))

    def preview(self, job: Job, jpeg: bytes) -> None:
        """A preview of this job's picture."""
        self._worker.bus.publish(JobPreviewed(job_id=job.id, picture_index=0, jpeg=jpeg))

    async def finish(self, job: Job, attempt: Attempt, pictures: Sequence[Picture] | None = None) -> None:
        """The pictures are there."""
        worker = self._worker
        worker.bus.publish(JobFinishing(job_id=job.id))
        now = self.clock.now()
        report = RunReport(phase=RunPhase.SUCCEEDED, started_at=now - timedelta(seconds=3.4), ended_at=now)
        drawn = pictures or [a_png(index) for index in range(job.recipe.count)]
        assert await worker.database.jobs.settle_generated(attempt.id, job.id, drawn, report)
        await worker.database.jobs.end_attempt(attempt.id, report)
        worker.bus.publish(JobSettled(job_id=job.id, state=JobState.GENERATED))

    async def draw(self, job: Job, pictures: Sequence[Picture] | None = None) -> None:
        """Start and finish."""
        await self.finish(job, await self.start(job), pictures)

    async def fail(self, job: Job, code: ErrorCode, **params: str | int | float) -> None:
        """It did not work out."""
        assert await self._worker.database.jobs.settle_failed(job.id, code, params)
        self._worker.bus.publish(JobSettled(job_id=job.id, state=JobState.FAILED))

    async def requeued(self, job: Job, attempt: Attempt, reason: ErrorCode = ErrorCode.SERVER_UNREACHABLE) -> None:
        """The server went away under it."""
        worker = self._worker
        await worker.database.jobs.requeue(attempt.id, [job.id], ErrorCode.SERVER_UNREACHABLE, server_died=True)
        worker.bus.publish(JobRequeued(job_id=job.id, reason=reason.value))
        worker.bus.publish(QueueChanged())

    @property
    def _worker(self) -> Part:
        return self.gpu or Part(self.database, self.bus)


def a_png(seed: int = 0, side_px: int = 64, height_px: int | None = None) -> Picture:
    """A small picture in a colour of its own; a square one, unless it is told how high."""
    buffer = io.BytesIO()
    size = Dimensions(side_px, height_px or side_px)
    Image.new("RGB", (size.width_px, size.height_px), ((seed * 80) % 256, 120, 200)).save(buffer, "PNG")
    return Picture(data=buffer.getvalue(), format=PictureFormat.PNG, size=size)


def a_jpeg(shade: int = 0) -> bytes:
    """A preview."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (shade % 256, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass(slots=True)
class Front:
    """One start of the people's side."""

    bot: FulletBot
    courier: Courier
    studio: SteeredStudio
    database: Database
    sandbox: DiscordSandbox
    house: House
    serving: asyncio.Task[None] | None = None
    courier_client: CourierClient | None = None  #: where the courier is a process of its own

    async def serve(self) -> None:
        """What the program runs of the people's side."""
        async with asyncio.TaskGroup() as group:
            if self.courier_client is not None:
                group.create_task(self.courier_client.run_with(self.sandbox.bot_token))
            group.create_task(self.bot.run_with(self.sandbox.bot_token))
            group.create_task(self.bot.cards.run())
            group.create_task(self.bot.rooms.run())
            group.create_task(self.bot.server_notes.run())
            group.create_task(self.courier.run())

    async def when_ready(self) -> None:
        """Discord has told every part of us what there is."""
        await self.bot.when_ready()
        if self.courier_client is not None:
            await self.courier_client.when_ready()

    async def until_ended(self) -> None:
        """Wait until it stopped by itself; why is raised when the door closes."""
        assert self.serving is not None
        async with asyncio.timeout(LIMIT_S):
            await asyncio.wait({self.serving})

    async def until_state(self, job_id: JobId, state: JobState) -> Job:
        """Wait until the store says so."""
        return await self.until_job(job_id, lambda job: job.state is state)

    async def until_job(self, job_id: JobId, is_so: Callable[[Job], bool]) -> Job:
        """Wait until the stored job is as wanted."""
        job = await self.studio.job(job_id)
        try:
            async with asyncio.timeout(LIMIT_S):
                while not is_so(job):
                    await asyncio.sleep(0.02)  # the store has no bell for tests; the fact is asked for
                    job = await self.studio.job(job_id)
        except TimeoutError:
            raise AssertionError(f"the job stayed as it is: {job}") from None
        return job


class FrontDoor:
    """The world around the bot: it stays while the bot is started, stopped and started again."""

    def __init__(
        self,
        sandbox: DiscordSandbox,
        database: Database,
        workshop: PictureWorkshop,
        uploads: UploadProcess,
        clock: Clock,
        *,
        split_on: str | None = None,
    ) -> None:
        """`split_on`: the PostgreSQL that gateway, worker and courier share; without it all are one process."""
        self.sandbox = sandbox
        self.database = database
        self.split_on = split_on
        self.workshop = workshop
        self.uploads = uploads
        self.clock = clock
        self.library = the_library()
        self.listings = Listings()  #: what the servers have; empty: no server was ever reached

    @property
    def guild_id(self) -> GuildId:
        """The community's."""
        return GuildId(next(iter(self.sandbox.world.guilds)))

    def spoil(self, route: str, **fault: object) -> None:
        """Something goes wrong with the bot's next call whose `METHOD /path` fits; see the stand-in's `faults.py`."""
        self.sandbox.context.faults.add({"route": route} | fault)

    def calls(self, pattern: str) -> list[Entry]:
        """The bot's REST calls so far whose `METHOD /path` fits."""
        return [entry for entry in self.sandbox.context.journal.entries if re.search(pattern, f"{entry.method} {entry.path}")]

    def against_the_rules(self) -> list[str]:
        """What the bot (not the stand-in) did against Discord's description or limits."""
        return [str(found.shape()) for found in self.sandbox.context.journal.violations() if found.kind != "reply"]

    @asynccontextmanager
    async def open(self, **options: object) -> AsyncIterator[Front]:
        """Start the bot and its services; leaving the block stops them as SIGTERM would, without finishing anything."""
        chosen: dict[str, object] = {
            "allowed_guild_id": self.guild_id,
            "guild_patience_s": 0.1,
            "cdn_hosts": frozenset({URL(self.sandbox.page_url).host or ""}),
        } | options
        settings = DiscordOptions(**chosen)  # type: ignore[arg-type] # a test names what it is about
        async with AsyncExitStack() as stack:
            front = await (self._split(stack, settings) if self.split_on else self._whole(settings))
            async with self._served(front):
                yield front

    async def _whole(self, settings: DiscordOptions) -> Front:
        """`--role all`."""
        studio = SteeredStudio(database=self.database, bus=EventBus(), clock=self.clock)
        house = self._house(studio)
        bot = FulletBot(house, settings)
        delivery = Delivery(bot, house, bot.post, bot.rooms, bot.cards, bot.voices, Exports(settings.export_path))
        return Front(bot, Courier(house, delivery, bot.when_ready), studio, self.database, self.sandbox, house)

    async def _split(self, stack: AsyncExitStack, settings: DiscordOptions) -> Front:
        """`--role gateway`, `--role worker` and `--role courier`, as the program joins them."""
        assert self.split_on is not None
        gpu = await stack.enter_async_context(a_part(self.split_on, self.clock, Path()))
        sender = await stack.enter_async_context(a_part(self.split_on, self.clock, Path()))
        studio = SteeredStudio(database=self.database, bus=EventBus(), clock=self.clock, gpu=gpu)
        await stack.enter_async_context(in_touch(Part(self.database, studio.bus), studio, studio))
        house = self._house(studio)
        bot = FulletBot(house, replace(settings, has_courier=False))
        its_house = self._house(SteeredStudio(database=sender.database, bus=sender.bus, clock=self.clock))
        client = CourierClient(its_house, settings)
        exports = Exports(settings.export_path)
        delivery = Delivery(client, its_house, client.post, client.rooms, client.cards, client.voices, exports)
        courier = Courier(its_house, delivery, client.when_ready)
        return Front(bot, courier, studio, self.database, self.sandbox, house, courier_client=client)

    def _house(self, studio: SteeredStudio) -> House:
        database = studio.database
        return House(
            studio=studio,
            admin=studio,
            catalogue=TemplateCatalogue(library=self.library, listings=self.listings),
            intake=UploadIntake(self.uploads, database.blobs),
            jobs=database.jobs,
            blobs=database.blobs,
            outbox=database.outbox,
            sessions=database.sessions,
            people=database.people,
            control=database.control,
            events=studio.bus,
            clock=self.clock,
            fit=self.workshop.fit_under,
            thumbnails=Thumbnails(database.blobs, self.workshop),
        )

    @asynccontextmanager
    async def _served(self, front: Front) -> AsyncIterator[None]:
        serving = front.serving = asyncio.create_task(front.serve())
        ready = asyncio.create_task(front.when_ready())
        try:
            async with asyncio.timeout(LIMIT_S):
                await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            yield
        finally:
            ready.cancel()
            serving.cancel()
            await asyncio.wait({serving})
            if not serving.cancelled() and (error := serving.exception()) is not None:
                raise error


@asynccontextmanager
async def front_door(folder: Path, *, split_on: str | None = None, **sandbox_options: object) -> AsyncIterator[FrontDoor]:
    """A Discord on loopback and an empty database: a file, or the PostgreSQL that split roles share."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(DiscordSandbox(**sandbox_options))  # type: ignore[arg-type] # passed through
        database = await stack.enter_async_context(open_database(split_on, data_dir=folder, clock=clock))
        workshop = await stack.enter_async_context(PictureWorkshop())
        uploads = await stack.enter_async_context(UploadProcess())
        use_endpoint(sandbox.api_base, sandbox.gateway_url)
        yield FrontDoor(sandbox, database, workshop, uploads, clock, split_on=split_on)
