"""Builds the program from its parts and owns its one TaskGroup. Imported by app.py alone."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from modules.assembly import (
    CannotStartError,
    Middle,
    NotYetError,
    Role,
    StrictStartError,
    open_middle,
    sqlite_file,
    use_configured_discord,
)
from modules.config import Settings
from modules.diagnosis import check_at_start
from modules.discord.bot import FulletBot, GatewayGone
from modules.discord.courier import Courier
from modules.discord.courier_client import CourierClient
from modules.discord.delivery import Delivery
from modules.discord.endpoint import why_not_let_in
from modules.discord.exports import Exports
from modules.discord.house import DiscordOptions, House
from modules.domain.errors import FulletError
from modules.domain.people import GuildId
from modules.domain.stores import BlobStore
from modules.queue_manager.crew import SWITCH_PREFIXES
from modules.queue_manager.operations import REFRESH_KEY
from modules.queue_manager.tidying import Tidying
from modules.utils.database import Database, Topic
from modules.utils.intake import UploadIntake
from modules.utils.lag import LoopLag
from modules.utils.relay import TOPIC as EVENT_TOPIC
from modules.utils.relay import EventRelay
from modules.utils.thumbnails import Thumbnails

log = structlog.get_logger(__name__)


#: After SIGTERM: what is drawn is still delivered, at most this long. Source: docs/durability.md, "Faults".
FINISH_S = 20.0
TIDY_EVERY_MINUTES = 60
#: Jobs that are over leave the queue's table so long after they were accepted. Discord's interactions live for a quarter of an
#: hour and a card that an earlier start left behind is taken down at the next one; history and buttons find archived jobs, too.
ARCHIVE_AFTER = timedelta(days=3)
LISTINGS_EVERY_S = 60.0
EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2


Services = dict[str, Coroutine[object, object, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleSide:
    """What speaks to Discord in this process."""

    services: Services
    courier: Courier | None = None


async def run_program(settings: Settings, role: Role, *, root: Path) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    try:
        with _only_one(settings, role, root):
            await _serve(settings, role, root)
    except CannotStartError as error:
        return _refuse(error)
    except BaseExceptionGroup as group:
        return _explain(group)
    return 0


def _refuse(reason: CannotStartError | str) -> int:
    print(f"FuLLet cannot start: {reason}", file=sys.stderr)
    return EXIT_FAILED if isinstance(reason, (NotYetError, StrictStartError)) else EXIT_MISCONFIGURED


def _explain(group: BaseExceptionGroup[BaseException]) -> int:
    """What the operator can mend in one sentence; anything else is a bug and keeps its traceback."""
    for error in _leaves(group):
        reason = error if isinstance(error, CannotStartError) else why_not_let_in(error)
        if reason is not None:
            return _refuse(reason)
        if isinstance(error, GatewayGone):
            log.error("gateway_gone", reason=str(error))
            return EXIT_FAILED
    raise group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _serve(settings: Settings, role: Role, root: Path) -> None:
    """Run until asked to stop. Before everything is started there is nothing to finish: then stopping is immediate."""
    stop, is_started = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        working = group.create_task(_work(settings, role, root, stop, is_started), name="program")
        asked = group.create_task(stop.wait(), name="asked-to-stop")
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set() and not is_started.is_set():
            log.info("stopped_while_starting")
            working.cancel()
        asked.cancel()


async def _work(settings: Settings, role: Role, root: Path, stop: asyncio.Event, is_started: asyncio.Event) -> None:
    async with open_middle(settings, role, root=root) as middle:
        if middle.servers:
            await check_at_start(middle, settings)
        people = _people_side(settings, middle, role)
        _set_aside_what_stays()
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(service, name=name)
                for name, service in {**_middle_services(settings, middle, role), **people.services}.items()
            ]
            is_started.set()
            log.info("started", role=role)
            await stop.wait()
            log.info("stopping")
            await middle.engine.stop()
            if people.courier is not None:
                await people.courier.finish(FINISH_S)
            for task in running:
                task.cancel()
    log.info("stopped")


def _set_aside_what_stays() -> None:
    """What is loaded at start lives as long as the program. The garbage collector need not walk through it each time it looks
    at everything: with all our modules that held the loop for 40 to 80 ms (measured with 50 live cards), without for 10."""
    gc.collect()
    gc.freeze()


def _middle_services(settings: Settings, middle: Middle, role: Role) -> Services:
    wakeups = relay_wakeups(middle.database, middle.relay, middle.engine, middle.operations)
    services: Services = {"engine": middle.engine.run(), "wakeups": wakeups, "lag": LoopLag().run()}
    if middle.relay is not None:
        services["relay"] = middle.relay.send()
        if role in ("all", "gateway"):
            services["previews"] = middle.relay.sweep()
    if middle.engine.workers:
        files = {server.name: server.files for server in middle.servers}
        services["tidying"] = Tidying(middle.engine.workers, files, middle.database.jobs).run()
    if role == "gateway":
        services["listings"] = _keep_listings(middle)
    if role in ("all", "gateway"):
        services["tidy"] = _keep_tidy(middle, settings)
    return services


def _people_side(settings: Settings, middle: Middle, role: Role) -> PeopleSide:
    if role == "worker":
        return PeopleSide(services={})
    use_configured_discord(settings)
    house, options = _house(middle), _discord_options(settings)
    token, exports = settings.discord_token.get_secret_value(), Exports(settings.export_path)
    if role == "courier":
        client = CourierClient(house, options)
        delivery = Delivery(client, house, client.post, client.rooms, client.cards, client.voices, exports)
        courier = Courier(house, delivery, client.when_ready)
        return PeopleSide(services={"discord": client.run_with(token), "courier": courier.run()}, courier=courier)
    bot = FulletBot(house, replace(options, has_courier=role != "gateway"))
    services: Services = {
        "discord": bot.run_with(token),
        "cards": bot.cards.run(),
        "sessions": bot.rooms.run(),
        "server-notes": bot.server_notes.run(),
    }
    if role == "gateway":
        return PeopleSide(services=services)
    delivery = Delivery(bot, house, bot.post, bot.rooms, bot.cards, bot.voices, exports)
    courier = Courier(house, delivery, bot.when_ready, is_alone=middle.relay is None)
    return PeopleSide(services={**services, "courier": courier.run()}, courier=courier)


def _house(middle: Middle) -> House:
    database = middle.database
    return House(
        studio=middle.engine,
        admin=middle.operations,
        catalogue=middle.catalogue,
        intake=UploadIntake(middle.uploads, database.blobs),
        jobs=database.jobs,
        blobs=database.blobs,
        outbox=database.outbox,
        sessions=database.sessions,
        people=database.people,
        control=database.control,
        events=middle.events,
        clock=middle.clock,
        fit=middle.workshop.fit_under,
        thumbnails=Thumbnails(database.blobs, middle.workshop),
    )


def _discord_options(settings: Settings) -> DiscordOptions:
    options = DiscordOptions(
        allowed_guild_id=GuildId(settings.allowed_guild_id),
        session_idle_minutes=settings.session_idle_minutes,
        active_limit=settings.user_active_limit,
        role_weights=settings.role_weights,
        default_language=settings.default_locale,
        export_path=settings.export_path,
        version=program_version(),
    )
    stand_in = urlsplit(settings.fullet_discord_api).hostname
    return replace(options, cdn_hosts=frozenset({stand_in})) if stand_in else options


class Woken(Protocol):
    """What hints of other processes wake: the engine."""

    def changed(self) -> None:
        """The queue changed."""
        ...

    def switched(self) -> None:
        """The queue was paused or a server taken out of service, or the reverse."""
        ...


class Refreshing(Protocol):
    """Asks the servers of this process again what they have."""

    async def refresh_own(self) -> object: ...


async def relay_wakeups(database: Database, relay: EventRelay | None, engine: Woken, operations: Refreshing) -> None:
    """What another process did to the queue, this one sees at once."""
    async with asyncio.TaskGroup() as tasks:
        with database.wakeups() as wakeups:
            async for wakeup in wakeups:
                if wakeup.is_own:
                    continue
                if wakeup.topic == EVENT_TOPIC and relay is not None:
                    await relay.heard(wakeup.payload)
                elif wakeup.topic == Topic.CONTROL and wakeup.payload == REFRESH_KEY:
                    tasks.create_task(operations.refresh_own())  # asks servers: nobody else waits for their answers
                elif wakeup.topic == Topic.CONTROL and wakeup.payload.startswith(SWITCH_PREFIXES):
                    engine.switched()
                elif wakeup.topic == Topic.QUEUE:
                    engine.changed()


async def _keep_listings(middle: Middle) -> None:
    """A gateway drives no server, but must know what they offer."""
    while True:
        for server in middle.servers:
            try:
                await server.refresh()
            except FulletError as error:
                log.debug("server_not_listed", server=server.name, error=error.code.value)
        await asyncio.sleep(LISTINGS_EVERY_S)


async def _keep_tidy(middle: Middle, settings: Settings) -> None:
    """Forget pictures the operator does not want to keep, which makes room; finish erasures that were begun; archive old jobs."""
    database, keep = middle.database, timedelta(days=settings.keep_pictures_days)
    keep_bytes = int(settings.keep_pictures_gb * 1e9)
    while True:
        now = middle.clock.now()
        try:
            if swept := await database.blobs.sweep(now - keep, keep_bytes=keep_bytes):
                log.info("pictures_swept", pictures=swept)
            if erased := await database.people.finish_erasures():
                log.info("erasures_finished", people=erased)
            if archived := await database.jobs.archive(now - ARCHIVE_AFTER):
                log.info("jobs_archived", jobs=archived)
        except FulletError as error:
            log.warning("not_tidied", error=error.code.value, reason=error.params.get("reason"))
        await _until_tidying_is_due(database.blobs)


async def _until_tidying_is_due(blobs: BlobStore) -> None:
    """An hour, or less when the disk becomes short of room."""
    for _ in range(TIDY_EVERY_MINUTES):
        await asyncio.sleep(60)
        try:
            room = await blobs.room()
        except FulletError as error:
            log.warning("room_not_known", error=error.code.value, reason=error.params.get("reason"))
            continue
        if room is not None and room.is_short:
            log.warning("disk_short", free_bytes=room.free_bytes)
            return


@contextmanager
def _only_one(settings: Settings, role: Role, root: Path) -> Iterator[None]:
    """One process per SQLite file: the lock goes with the process, however it dies, so leases of earlier starts are dead."""
    database = sqlite_file(settings, root)
    if database is None:
        yield
        return
    if role != "all":
        raise CannotStartError(f"--role {role} needs PostgreSQL: set DATABASE_URL")
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(database.name + ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStartError("another FuLLet already works with this database; stop it first") from error
        yield


def program_version() -> str:
    """Of the installed package, or of the checkout."""
    try:
        return version("fullet")
    except PackageNotFoundError:
        return "0.1.0"
