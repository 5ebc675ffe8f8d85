"""A storm over the real program: it is killed again and again, ComfyUI crashes, Discord refuses and hangs up, people ask on.

Proxies before the GPUs refuse, cut and delay single answers, and one GPU's disk is full for a while. The first GPU never crashes:
whatever happens to single requests there, nobody may be told that it is away. Afterwards everything that was accepted must have
come to its end: a picture posted once, in its owner's channel only, the very picture that its slot on the GPU became; or an
honest failure. Used by tests/acceptance/test_chaos.py and tools/soak.py.
"""

from __future__ import annotations

import asyncio
import io
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from PIL import Image, ImageChops

from modules.discord.views.buttons import Act
from modules.domain.jobs import JobId, base36, short_id
from modules.sandbox.comfy_server import ComfySandbox, FaultKind, Match
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.availability import OutageEvent
from modules.sandbox.discord_server.demo import demo_world
from modules.sandbox.discord_server.world import Attachment, Message
from tests.support.chaos_checks import FOUND_OUT_WITHIN_S, Interval, called_away_while_there, idle_beside_work
from tests.support.person import People, Person, Refused
from tests.support.person_views import walk
from tests.support.program import WholeHouse, whole_house

MODELS = ("z-image", "flux", "sdxl")
#: Where Discord stumbles: messages (results and cards), answers to interactions, new channels.
ROUTES = (
    r"^POST /channels/\d+/messages$",
    r"^(PATCH|DELETE) /channels/\d+/messages",
    r"^GET /channels/\d+/messages",
    r"^POST /guilds/\d+/channels$",
)
STUMBLES: tuple[Mapping[str, object], ...] = (
    {"status": 500},
    {"status": 502},
    {"status": 503},
    {"reset": True},
    {"status": 429, "retry_after": 0.3},
    {"status": 429, "retry_after": 0.3, "via": False},
    {"reset": True, "after": True},
    {"status": 503, "after": True},
    # These say nothing of the channel, so nothing may be taken for undeliverable because of them.
    {"code": 40333},
    {"code": 400001},
    {"code": 20028, "retry_after": 0.4},
    {"code": 20029, "retry_after": 0.4},
    {"status": 404, "body": {"message": "404: Not Found", "code": 0}},
    {"status": 403, "body": "<html><body>Attention Required! | Cloudflare</body></html>"},
)
#: First answers that count and whose confirmation is lost.
LOST_ANSWERS: tuple[Mapping[str, object], ...] = ({"status": 503, "after": True}, {"reset": True, "after": True})
CALLBACKS = r"^POST /interactions/\d+/.+/callback$"
OUTAGE_EVENTS: tuple[OutageEvent, ...] = ("GUILD_DELETE", "GUILD_CREATE")
#: From READY to GUILD_CREATE, in seconds.
GUILD_DELAYS_S = (0.0, 0.0, 0.5, 4.0)
#: What proxies, and ComfyUI behind them, do to single requests: kind, route, details. Its health is never touched: it is well.
PROXY_TROUBLES: tuple[tuple[str, str, Mapping[str, object]], ...] = (
    ("413", "/prompt", {"limit_bytes": 100}),
    ("403", "/prompt", {}),
    ("500", "", {}),
    ("302", "/prompt", {}),
    ("5xx", "/prompt", {"status": 502}),
    ("5xx", "/view", {"status": 504}),
    ("403", "/view", {}),
    ("404", "/view", {}),
    ("truncated_answer", "/view", {}),
    ("truncated_answer", "/view", {"silently": True}),
    ("slow_answer", "/view", {"seconds": 1.0}),
    ("huge_answer", "/queue", {"bytes": 100 * 1024 * 1024, "gzip": True}),
    ("403", "/api/jobs", {}),
    ("ws_flap", "/ws", {"after_status": True}),
)
#: From its acceptance until a server first took it a job may be drawn by anybody; later it may have to wait for its turn to be
#: tried again.
WAITS_OF_NEW_JOBS = """
    SELECT job.accepted_at, min(attempt.claimed_at) FROM job
    JOIN attempt_job ON attempt_job.job_id = job.id JOIN attempt ON attempt.id = attempt_job.attempt_id GROUP BY job.id"""
#: After a kill: until the new life has found its servers.
FOUND_AGAIN_S = 3.0
#: Longer than this no GPU may be idle while it could draw something that waits.
LONGEST_IDLE_S = 5.0
#: A card may hang for as long as Discord makes us wait, and until we next compare it with the database.
CARDS_GONE_WITHIN_S = 40.0
#: Only the answer to an accepted wish leads to the session.
SESSION_LINK = re.compile(r"<#\d+>|/channels/\d+/\d+")
#: Somebody whose command was not answered in this time asks for something else.
UNANSWERED_S = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """How bad it gets. Seconds between troubles are means; every choice comes from the seed."""

    seed: int
    jobs: int = 300
    people: int = 30
    kills: int = 7
    kill_every_s: float = 6.0
    gpu_crash_every_s: float = 6.0
    stumble_every_s: float = 0.5
    hang_up_every_s: float = 5.0
    lost_answer_every_s: float = 4.0
    guild_away_every_s: float = 8.0
    proxy_trouble_every_s: float = 1.0
    disk_full_s: float = 10.0  #: of the second GPU, once
    gpus: int = 3
    time_scale: float = 0.02
    calm_within_s: float = 120.0  #: after the last trouble everything must be settled in this time


@dataclass(slots=True)
class Toll:
    """What the storm did, and what is wrong afterwards."""

    kills: int = 0
    gpu_crashes: int = 0
    stumbles: int = 0
    hang_ups: int = 0
    lost_answers: int = 0
    outages: int = 0
    proxy_troubles: int = 0
    longest_idle_s: float = 0.0
    program_down: list[Interval] = field(default_factory=list)
    gpu_crashed: dict[str, list[float]] = field(default_factory=dict)  #: by name
    disk_full_since: float | None = None
    unanswered: int = 0
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return self.states.total()

    def __str__(self) -> str:
        outcomes = ", ".join(f"{state} {count}" for state, count in sorted(self.states.items()))
        return (
            f"{self.kills} kills, {self.gpu_crashes} ComfyUI crashes, {self.stumbles} refusals and resets by Discord, "
            f"{self.hang_ups} gateway drops, {self.lost_answers} lost answers, {self.outages} outages of the guild, "
            f"{self.proxy_troubles} troubles of proxies in {self.seconds:.0f} s; "
            f"longest idle beside work {self.longest_idle_s:.1f} s; {self.accepted} jobs accepted: {outcomes}"
            f"{f' ({dict(self.reasons)})' if self.reasons else ''}; {len(self.wrongs)} wrong"
        )


async def ride_out(folder: Path, storm: Storm) -> Toll:
    """Let it pass over a whole house; everything comes from the storm's seed but the timing of the machine."""
    toll, began = Toll(), time.monotonic()
    discord = DiscordSandbox(world=demo_world(guests=storm.people))
    gpus = [
        ComfySandbox(name=f"gpu-{number}", time_scale=storm.time_scale, speed=1.0 + number / 2, data=folder / f"gpu-{number}")
        for number in range(storm.gpus)
    ]
    settings = {"USER_ACTIVE_LIMIT": "20", "QUEUE_LIMIT": "5000", "LOG_LEVEL": "INFO"}
    async with whole_house(folder, discord=discord, gpus=gpus, settings=settings) as house:
        asking_began = time.time()
        answered = await _people_and_weather(house, storm, toll)
        asked_until = time.time()
        discord.context.faults.clear()
        for gpu in gpus:
            gpu.faults.clear()
            await gpu.wait_until_up()
        await house.until_online()
        await _until_settled(folder, storm.calm_within_s, toll)
        await _judge(house, folder, answered, toll)
        _judge_gpus(house, folder, (asking_began, asked_until), toll)
    toll.seconds = time.monotonic() - began
    return toll


# --- people and weather ---------------------------------------------------------------------------------------------------


async def _people_and_weather(house: WholeHouse, storm: Storm, toll: Toll) -> set[str]:
    """The prompts whose asking was answered. The weather ends with the last kill, the asking with the last job."""
    answered: set[str] = set()
    async with asyncio.TaskGroup() as asking, asyncio.TaskGroup() as weather:
        helpers = [
            weather.create_task(_crash_gpus(house, random.Random(f"{storm.seed} gpus"), storm, toll)),
            weather.create_task(_stumble(house, random.Random(f"{storm.seed} stumbles"), storm, toll)),
            weather.create_task(_lose_answers(house, random.Random(f"{storm.seed} answers"), storm, toll)),
            weather.create_task(_withhold_guild(house, random.Random(f"{storm.seed} guild"), storm, toll)),
            weather.create_task(_upset_proxies(house, random.Random(f"{storm.seed} proxies"), storm, toll)),
            weather.create_task(_fill_a_disk(house, storm, toll)),
            weather.create_task(_hang_up(house, random.Random(f"{storm.seed} gateway"), storm, toll)),
        ]
        for number in range(storm.people):
            person = await house.people.be(f"guest-{number + 1:03}")
            share = storm.jobs // storm.people + (number < storm.jobs % storm.people)
            asking.create_task(_ask(person, share, random.Random(f"{storm.seed} {number}"), answered, toll))
        await _kill(house, random.Random(f"{storm.seed} kills"), storm, toll)
        for helper in helpers:
            helper.cancel()
    return answered


async def _ask(person: Person, jobs: int, rng: random.Random, answered: set[str], toll: Toll) -> None:
    number = 0
    while jobs:
        await asyncio.sleep(rng.uniform(0, 2.0))
        number += 1
        prompt = f"{person.username} asks for number {number}"
        try:
            answer = await person.slash("imagine", model=rng.choice(MODELS), prompt=prompt, size="256x256", timeout=UNANSWERED_S)
        except (AssertionError, Refused):
            toll.unanswered += 1
            continue
        if answer.failed or answer.message is None or not SESSION_LINK.search(answer.text):
            toll.unanswered += 1
            continue
        answered.add(prompt)
        jobs -= 1


async def _kill(house: WholeHouse, rng: random.Random, storm: Storm, toll: Toll) -> None:
    while toll.kills < storm.kills:
        await asyncio.sleep(rng.uniform(0.2, 2.0) * storm.kill_every_s)
        killed_at = time.time()
        await house.restart()
        toll.program_down.append((killed_at, time.time() + FOUND_AGAIN_S))
        toll.kills += 1


async def _crash_gpus(house: WholeHouse, rng: random.Random, storm: Storm, toll: Toll) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.2, 2.0) * storm.gpu_crash_every_s)
        gpu = rng.choice(house.gpus[1:])
        toll.gpu_crashed.setdefault(gpu.name, []).append(time.time())
        gpu.crash_soon(rng.choice((0.1, 1.0, 3.0)))
        toll.gpu_crashes += 1


async def _upset_proxies(house: WholeHouse, rng: random.Random, storm: Storm, toll: Toll) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.2, 2.0) * storm.proxy_trouble_every_s)
        kind, path, details = rng.choice(PROXY_TROUBLES)
        rng.choice(house.gpus).fail(kind, match=Match(path=path) if path else None, **details)  # type: ignore[arg-type]  # details of a fault
        toll.proxy_troubles += 1


async def _fill_a_disk(house: WholeHouse, storm: Storm, toll: Toll) -> None:
    """Of the second GPU; the others are well meanwhile."""
    await asyncio.sleep(storm.kill_every_s / 2)
    toll.disk_full_since = time.time()
    house.gpus[1].fail("disk_full", times=None)
    await asyncio.sleep(storm.disk_full_s)
    house.gpus[1].faults.clear(FaultKind.DISK_FULL)
    await asyncio.Event().wait()


async def _stumble(house: WholeHouse, rng: random.Random, storm: Storm, toll: Toll) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.2, 2.0) * storm.stumble_every_s)
        times = rng.randint(1, 3)
        house.discord.context.faults.add({"route": rng.choice(ROUTES), "times": times, **rng.choice(STUMBLES)})
        toll.stumbles += times


async def _hang_up(house: WholeHouse, rng: random.Random, storm: Storm, toll: Toll) -> None:
    gateway = house.discord.context.gateway
    while True:
        await asyncio.sleep(rng.uniform(0.2, 2.0) * storm.hang_up_every_s)
        rng.choice((gateway.drop, gateway.ask_to_reconnect))(resumable=rng.random() < 0.7)
        toll.hang_ups += 1


async def _lose_answers(house: WholeHouse, rng: random.Random, storm: Storm, toll: Toll) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.2, 2.0) * storm.lost_answer_every_s)
        house.discord.context.faults.add({"route": CALLBACKS, "times": 1, **rng.choice(LOST_ANSWERS)})
        toll.lost_answers += 1


async def _withhold_guild(house: WholeHouse, rng: random.Random, storm: Storm, toll: Toll) -> None:
    """The guild goes out for some seconds, and after each READY it comes when it likes."""
    gateway, guild_id = house.discord.context.gateway, next(iter(house.discord.world.guilds))
    try:
        while True:
            gateway.guilds.late_s = rng.choice(GUILD_DELAYS_S)
            gateway.guilds.outage_event = rng.choice(OUTAGE_EVENTS)
            await asyncio.sleep(rng.uniform(0.2, 2.0) * storm.guild_away_every_s)
            gateway.begin_outage(guild_id)
            toll.outages += 1
            await asyncio.sleep(rng.uniform(0.5, 5.0))
            gateway.end_outage(guild_id)
    finally:
        gateway.guilds.late_s = 0.0
        gateway.end_outage(guild_id)
        gateway.release_guilds()


# --- the reckoning --------------------------------------------------------------------------------------------------------


def _rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{folder / 'bot_data.db'}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(query).fetchall()


async def _until_settled(folder: Path, within_s: float, toll: Toll) -> None:
    unsettled = """
        SELECT hex(id), state FROM job WHERE state IN ('queued', 'submitting', 'submitted', 'generated')
        UNION ALL SELECT hex(job_id), 'message owed' FROM outbox WHERE is_owed"""
    deadline = time.monotonic() + within_s
    while (left := _rows(folder, unsettled)) and time.monotonic() < deadline:  # noqa: ASYNC110 - another process settles them
        await asyncio.sleep(0.3)
    toll.wrongs += [f"job {job_id} was still {state} {within_s:g} s after the storm" for job_id, state in left]


async def _judge(house: WholeHouse, folder: Path, answered: set[str], toll: Toll) -> None:
    jobs = {
        short_id(JobId(UUID(str(job_id)))): (str(state), int(str(user_id)), str(prompt))
        for job_id, state, user_id, prompt in _rows(
            folder, "SELECT id, state, user_id, json_extract(recipe, '$.prompt') FROM job"
        )
    }
    toll.states.update(state for state, _, _ in jobs.values())
    toll.reasons.update(str(code) for (code,) in _rows(folder, "SELECT error_code FROM job WHERE error_code IS NOT NULL"))
    stored = {prompt for _, _, prompt in jobs.values()}
    toll.wrongs += [f"{prompt!r} was answered, but is not stored" for prompt in sorted(answered - stored)]
    slots = _slots(folder)
    posts: Counter[str] = Counter()
    for owner, attachment in list(_results(house)):  # cards still come down while we look
        short = attachment.filename.split("-")[1]
        posts[short] += 1
        state, user_id, prompt = jobs[short]
        if owner != user_id:
            toll.wrongs.append(f"job {short} of {user_id} was posted to {owner}")
        drawn = _drawn(folder, slots[short])
        if not drawn or not await _shows_one_of(house.people, attachment, drawn):
            toll.wrongs.append(f"job {short} ({prompt!r}, {state}) shows a picture that was not drawn for it")
    for short, (state, _, _) in jobs.items():
        if posts[short] != (state == "delivered"):
            toll.wrongs.append(f"job {short} is {state} and was posted {posts[short]} times")
    await _judge_cards(house, folder, toll)
    broken = _rows(folder, "PRAGMA integrity_check")
    toll.wrongs += [f"database: {row}" for row in broken if row != ("ok",)]


def _judge_gpus(house: WholeHouse, folder: Path, asking: Interval, toll: Toll) -> None:
    """From the records of the stand-ins, the database and the program's log."""
    waiting = [(_instant(accepted), _instant(claimed)) for accepted, claimed in _rows(folder, WAITS_OF_NEW_JOBS) if claimed]
    down: dict[str, list[Interval]] = {}
    for gpu in house.gpus:
        boots = gpu.journal.boots
        down[gpu.name] = [
            (crashed, next((boot for boot in boots if boot > crashed), asking[1]))
            for crashed in toll.gpu_crashed.get(gpu.name, [])
        ]
        found_again = [(start, end + FOUND_OUT_WITHIN_S) for start, end in down[gpu.name]]
        unusable = [*found_again, *toll.program_down]
        if gpu is house.gpus[1] and toll.disk_full_since is not None:
            unusable.append((toll.disk_full_since, _first_success_after(gpu, toll.disk_full_since + 1.0) or asking[1]))
        busy = [(life.posted, life.ended or asking[1]) for life in gpu.journal.prompts]
        start, end = idle_beside_work(asking, busy=busy, unusable=unusable, waiting=waiting)
        toll.longest_idle_s = max(toll.longest_idle_s, end - start)
        if end - start > LONGEST_IDLE_S:
            since = datetime.fromtimestamp(start, UTC).isoformat()
            toll.wrongs.append(f"{gpu.name} was idle for {end - start:.1f} s from {since} while it could draw what waited")
    named = {gpu.url.removeprefix("http://"): down[gpu.name] for gpu in house.gpus}
    toll.wrongs += called_away_while_there(house.program.said(), named)


def _first_success_after(gpu: ComfySandbox, moment: float) -> float | None:
    return next(
        (life.ended for life in gpu.journal.prompts if life.status == "success" and life.ended and life.ended > moment), None
    )


def _instant(text: object) -> float:
    """SQLite keeps instants as naive text in UTC."""
    return datetime.fromisoformat(str(text)).replace(tzinfo=UTC).timestamp()


async def _judge_cards(house: WholeHouse, folder: Path, toll: Toll) -> None:
    """A failed job is told once, to its person; the card of a job that is over is gone, as soon as Discord lets us."""
    jobs = {
        base36(JobId(UUID(str(job_id)))): (str(state), int(str(user_id)))
        for job_id, state, user_id in _rows(folder, "SELECT id, state, user_id FROM job")
    }
    deadline = time.monotonic() + CARDS_GONE_WITHIN_S
    while time.monotonic() < deadline and any(act == Act.CANCEL for _, act, _ in _buttons(house)):  # noqa: ASYNC110
        await asyncio.sleep(0.3)
    told: Counter[str] = Counter()
    for owner, act, job in _buttons(house):
        if act == Act.CANCEL:
            toll.wrongs.append(f"the card of job {job} still hangs, which is {jobs[job][0]}")
        if act == Act.RETRY:
            told[job] += 1
            if owner != jobs[job][1]:
                toll.wrongs.append(f"the failure of job {job} of {jobs[job][1]} was told to {owner}")
    for job, (state, _) in jobs.items():
        if told[job] != (state == "failed"):
            toll.wrongs.append(f"job {job} is {state} and its failure was told {told[job]} times")


def _buttons(house: WholeHouse) -> Iterator[tuple[int, str, str]]:
    """(the person who can read it, its act, its job) for every button about a job in a session or a private conversation."""
    for owner, message in _messages(house):
        for piece in walk(message.components):
            version, _, rest = str(piece.get("custom_id", "")).partition(":")
            act, _, job = rest.partition(":")
            if version == "f1" and job:
                yield owner, act, job.partition(":")[0]


def _results(house: WholeHouse) -> Iterator[tuple[int, Attachment]]:
    """(the person who can read it, a picture) for every picture in a session or a private conversation."""
    for owner, message in _messages(house):
        for attachment in message.attachments:
            if attachment.filename.startswith("fullet-"):
                yield owner, attachment


def _messages(house: WholeHouse) -> Iterator[tuple[int, Message]]:
    """Every message in a session or a private conversation, with the one person who can read it (0: several can)."""
    world, bot = house.discord.world, house.discord.world.bot.id
    guild = next(iter(world.guilds.values()))
    for channel in [*guild.channels.values(), *world.dms.values()]:
        readers = [one.target_id for one in channel.overwrites if one.target_id in guild.members and one.target_id != bot]
        readers += [one for one in channel.recipient_ids if one != bot]
        for message in world.messages.get(channel.id, {}).values():
            yield (readers[0] if len(readers) == 1 else 0), message


def _slots(folder: Path) -> Mapping[str, list[str]]:
    """For each job the files its pictures may have come from: its slot in every attempt it was part of."""
    found: dict[str, list[str]] = {}
    for job_id, attempt_id, position in _rows(folder, "SELECT job_id, attempt_id, position FROM attempt_job"):
        attempt = UUID(str(attempt_id))
        found.setdefault(short_id(JobId(UUID(str(job_id)))), []).append(f"{attempt}/{position}_00001_.png")
    return found


def _drawn(folder: Path, names: list[str]) -> list[Path]:
    return [path for name in names for path in folder.glob(f"gpu-*/output/*/{name}")]


async def _shows_one_of(people: People, attachment: Attachment, drawn: list[Path]) -> bool:
    anybody = await people.be("elena")
    posted = Image.open(io.BytesIO(await anybody.download(attachment.url))).convert("RGB")
    return any(ImageChops.difference(posted, Image.open(path).convert("RGB")).getbbox() is None for path in drawn)
