"""A ComfyServer of ours in front of a stand-in, with the real templates and planner, and attempts to give it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

from modules.ai.fleet import ServerSpec
from modules.ai.follower import Patience
from modules.ai.listing import Listings
from modules.ai.server import ComfyServer
from modules.ai.workflows.gain import MergeMode
from modules.ai.workflows.planner import Planner
from modules.ai.workflows.template import Library, load_library
from modules.domain.images import BlobId, Dimensions, Picture
from modules.domain.jobs import Attempt, AttemptId, BootId, Job, JobId, JobState, Origin, ServerName, WorkClass
from modules.domain.people import ChannelId, GuildId, InteractionId, UserId
from modules.domain.recipes import ModelName, Recipe, Seed, WorkflowName
from modules.domain.servers import RunEnded, RunEvent, RunReport, RunStarted
from modules.sandbox.comfy_server import ComfySandbox
from modules.utils.clock import SystemClock
from modules.utils.images import PictureWorkshop

FLUJOS = Path(__file__).parents[2] / "flujos"
SMALL = Dimensions(512, 512)
SERVER = ServerName("gpu-1")
#: What takes seconds in the house takes tenths here.
QUICK = Patience(poll_live_s=1.0, poll_blind_s=0.05, unreachable_s=3.0, unknown_s=0.4, dead_worker_s=0.3, socket_s=2.0)
LIMIT_S = 20.0


class BlobsInMemory:
    """Input pictures by name."""

    def __init__(self) -> None:
        self.pictures: dict[BlobId, Picture] = {}

    async def put(self, picture: Picture) -> BlobId:
        blob_id = BlobId(str(uuid4()))
        self.pictures[blob_id] = picture
        return blob_id

    async def get(self, blob_id: BlobId) -> Picture | None:
        return self.pictures.get(blob_id)


@cache
def the_library() -> Library:
    return load_library(FLUJOS)


@dataclass(frozen=True, slots=True)
class ComfySide:
    """Ours and theirs, both running."""

    ours: ComfyServer
    sandbox: ComfySandbox
    blobs: BlobsInMemory
    workshop: PictureWorkshop

    async def run(self, attempt: Attempt) -> list[RunEvent]:
        """Post it and follow it to its end."""
        await self.ours.post(attempt)
        return await events_of(self.ours, attempt)


@asynccontextmanager
async def comfy_side(
    sandbox: ComfySandbox,
    *,
    key: str | None = None,
    mode: MergeMode = MergeMode.AUTO,
    patience: Patience = QUICK,
    library: Library | None = None,
) -> AsyncIterator[ComfySide]:
    """Connect to a running stand-in, met once."""
    listings, blobs = Listings(), BlobsInMemory()
    planner = Planner(library=library or the_library(), listings=listings, mode=mode)
    async with (
        PictureWorkshop() as workshop,
        ComfyServer(
            ServerSpec(name=SERVER, url=sandbox.url, key=key),
            planner=planner,
            blobs=blobs,
            listings=listings,
            workshop=workshop,
            clock=SystemClock(),
            patience=patience,
        ) as ours,
    ):
        await ours.refresh()
        yield ComfySide(ours, sandbox, blobs, workshop)


def a_recipe(
    prompt: str = "a red fox in the snow",
    *,
    workflow: str = "sdxl_image",
    size: Dimensions | None = SMALL,
    seed: int = 7,
    steps: int = 4,
    count: int = 1,
    source: BlobId | None = None,
) -> Recipe:
    return Recipe(
        workflow=WorkflowName(workflow),
        model=ModelName("sdxl"),
        prompt=prompt,
        size=size,
        seed=Seed(seed),
        steps=steps,
        cfg=7.0,
        count=count,
        source=source,
    )


def an_attempt(*recipes: Recipe) -> Attempt:
    """One job of another person for each recipe."""
    jobs = tuple(_job(number, recipe) for number, recipe in enumerate(recipes or (a_recipe(),), start=1))
    return Attempt(id=AttemptId(uuid4()), server=SERVER, boot_id=BootId(UUID(int=1)), jobs=jobs, claimed_at=datetime.now(UTC))


async def events_of(server: ComfyServer, attempt: Attempt) -> list[RunEvent]:
    """Follow to the end."""
    async with asyncio.timeout(LIMIT_S):
        return [event async for event in server.follow(attempt)]


async def started(server: ComfyServer, attempt: Attempt) -> None:
    """Wait until the server works on it."""
    async with asyncio.timeout(LIMIT_S), aclosing(server.follow(attempt)) as events:
        async for event in events:
            if isinstance(event, RunStarted):
                return


def report_in(events: Sequence[RunEvent]) -> RunReport:
    """The report at the end."""
    last = events[-1]
    assert isinstance(last, RunEnded)
    return last.report


def _job(number: int, recipe: Recipe) -> Job:
    work = WorkClass(exact_key="key", heavy_key="sdxl", needs=frozenset(), is_mergeable=True, cost_s=6.0)
    return Job(
        id=JobId(uuid4()),
        seq=number,
        interaction_id=InteractionId(number),
        user_id=UserId(number),
        guild_id=GuildId(1),
        display_name=f"person {number}",
        language="en",
        recipe=recipe,
        work=work,
        origin=Origin.IMAGINE,
        state=JobState.SUBMITTING,
        channel_id=ChannelId(number),
        accepted_at=datetime.now(UTC),
    )
