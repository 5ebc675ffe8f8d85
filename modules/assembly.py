"""Builds everything behind the Studio port from the settings: stores, servers, engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from uuid import uuid4

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.fleet import read_fleet
from modules.ai.listing import Listings
from modules.ai.server import ComfyServer
from modules.ai.workflows.gain import MergeMode
from modules.ai.workflows.planner import Planner
from modules.ai.workflows.template import load_library
from modules.config import Settings
from modules.discord.endpoint import use_endpoint
from modules.domain.errors import FulletError
from modules.domain.jobs import BootId
from modules.domain.ports import Clock
from modules.domain.records import Limits
from modules.queue_manager.crew import Crew
from modules.queue_manager.engine import Engine
from modules.queue_manager.operations import Operations
from modules.queue_manager.scheduler import Policy
from modules.utils.bus import EventBus
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database, read_database_url
from modules.utils.database.urls import SqliteTarget
from modules.utils.images import PictureWorkshop
from modules.utils.relay import EventRelay
from modules.utils.upload_process import UploadProcess

Role = Literal["all", "gateway", "worker", "courier"]
ROLES: tuple[Role, ...] = get_args(Role)


#: Reasons of DATABASE_UNAVAILABLE that pass by themselves, such as a PostgreSQL that starts more slowly than we do.
_PASSING = frozenset({"unreachable", "locked"})


class CannotStartError(Exception):
    """Said to the operator in one sentence; no traceback."""


class StrictStartError(CannotStartError):
    """STRICT_STARTUP is on and something does not work."""


class NotYetError(CannotStartError):
    """Something we need is away, not wrong: whoever supervises us should start us again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Middle:
    """Everything behind the Studio port."""

    database: Database
    engine: Engine
    operations: Operations
    catalogue: TemplateCatalogue
    workshop: PictureWorkshop
    #: Decodes what people send.
    uploads: UploadProcess
    events: EventBus
    clock: Clock
    #: Carries events between processes; None where there is only one.
    relay: EventRelay | None
    #: The servers of COMFY_URLS; only a worker drives them, a gateway asks them what they have.
    servers: Sequence[ComfyServer]


def use_configured_discord(settings: Settings) -> None:
    """Speak to the stand-in where the settings name one."""
    if settings.fullet_discord_api:
        use_endpoint(settings.fullet_discord_api, settings.fullet_discord_gateway)


@asynccontextmanager
async def open_middle(settings: Settings, role: Role, *, root: Path, is_read_only: bool = False) -> AsyncIterator[Middle]:
    """Stores, servers and engine, open; used by the doctor and the benchmarks as well."""
    clock, events = SystemClock(), EventBus()
    listings = Listings(lambda name: name not in crew.colleagues or crew.colleagues[name].is_up)
    library = await asyncio.to_thread(load_library, root / "flujos")
    planner = Planner(
        library=library, listings=listings, max_batch_size=settings.max_batch_size, mode=MergeMode(settings.merge_mode)
    )
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(_database(settings, root, clock, is_read_only=is_read_only))
        workshop = await stack.enter_async_context(PictureWorkshop())
        uploads = await stack.enter_async_context(UploadProcess())
        fleet = read_fleet(settings.comfy_urls, keys=settings.comfy_api_key, vram_gb=settings.gpu_vram_gb)
        servers = [
            await stack.enter_async_context(
                ComfyServer(spec, planner=planner, blobs=database.blobs, listings=listings, workshop=workshop, clock=clock)
            )
            for spec in (fleet if role in ("all", "worker", "gateway") else ())
        ]
        crew = Crew(
            jobs=database.jobs,
            control=database.control,
            events=events,
            clock=clock,
            boot_id=BootId(uuid4()),
            policy=Policy(),
            timeout_s=settings.generation_timeout_s,
            is_alone=sqlite_file(settings, root) is not None,
        )
        limits = Limits(active_per_person=settings.user_active_limit, queue_length=settings.queue_limit)
        engine = Engine(crew, servers if role in ("all", "worker") else (), limits)
        yield Middle(
            database=database,
            engine=engine,
            operations=Operations(crew, engine),
            catalogue=TemplateCatalogue(library=library, listings=listings),
            workshop=workshop,
            uploads=uploads,
            events=events,
            clock=clock,
            relay=None if crew.is_alone else EventRelay(events, database),
            servers=servers,
        )


@asynccontextmanager
async def _database(settings: Settings, root: Path, clock: Clock, *, is_read_only: bool) -> AsyncIterator[Database]:
    """Open it, or say in words why that is not possible."""
    url = settings.database_url.get_secret_value() or None
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(
                open_database(url, data_dir=root / "database", clock=clock, is_read_only=is_read_only)
            )
        except FulletError as error:
            reason = error.params.get("reason", "no reason given")
            kind = NotYetError if reason in _PASSING else CannotStartError
            raise kind(f"the database cannot be used ({reason})") from error
        yield database


def sqlite_file(settings: Settings, root: Path) -> Path | None:
    """The database file; None for PostgreSQL."""
    target = read_database_url(settings.database_url.get_secret_value(), root / "database")
    return target.path if isinstance(target, SqliteTarget) else None
