"""`make bench`: the figures a member feels, measured on the whole program between the stand-ins. Exit code 1 when one is missed.

Everything shares this machine's processors, the stand-ins and the drawing of placeholder pictures included, so a figure
is an upper bound of what the program itself needs.
"""

from __future__ import annotations

import asyncio
import io
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import aiohttp
import psutil
from PIL import Image

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox, demo_world
from modules.sandbox.discord_server.demo import join
from modules.sandbox.discord_server.world import User, World
from tests.support.program import WholeHouse, whole_house

MIB = 1024 * 1024
#: Together 1,000 jobs; a guild has 500 channels, so no more than that many people have a session.
CROWD, JOBS_EACH = 334, 3


@dataclass(frozen=True)
class Figure:
    """One measured figure and its bound."""

    name: str
    value: float
    bound: float
    unit: str

    @property
    def holds(self) -> bool:
        return self.value <= self.bound

    def __str__(self) -> str:
        return f"{'ok  ' if self.holds else 'MISS'}  {self.name:58}{self.value:9.1f} {self.unit:4} <= {self.bound:g}"


def main() -> int:
    """Run every part; 0 when all figures hold."""
    figures: list[Figure] = []
    for part in (_start, _burst_of_100, _burst_of_300, _four_megapixels, _memory):
        with tempfile.TemporaryDirectory(prefix="fullet-bench-") as folder:
            for figure in asyncio.run(part(Path(folder))):
                print(figure, flush=True)
                figures.append(figure)
    missed = sum(not figure.holds for figure in figures)
    print(f"\n{len(figures) - missed} figures hold, {missed} do not")
    return 1 if missed else 0


# --- the parts ------------------------------------------------------------------------------------------------------------


async def _start(folder: Path) -> Sequence[Figure]:
    async with whole_house(folder, is_started=False) as house:
        ana = await house.people.be("ana")
        started = time.perf_counter()
        await house.start()
        await ana.slash("imagine", model="z-image", prompt="first", size="512x512")
        return [Figure("start of the process to the first /imagine answered", time.perf_counter() - started, 5.0, "s")]


async def _burst_of_100(folder: Path) -> Sequence[Figure]:
    first, complete = await _burst(folder, 100)
    return [
        Figure("100 people within a second: first answer, p99", _p99(first), 1.0, "s"),
        Figure("100 people within a second: place and session shown, p99", _p99(complete), 1.0, "s"),
    ]


async def _burst_of_300(folder: Path) -> Sequence[Figure]:
    first, _ = await _burst(folder, 300)
    return [Figure("300 people within a second: slowest first answer", max(first), 3.0, "s")]


async def _burst(folder: Path, count: int) -> tuple[list[float], list[float]]:
    """Everybody types /imagine within one second; seconds to the first and to the complete answer of each."""
    world, users = _crowd(count)
    gpus = [ComfySandbox(name=name, time_scale=1.0) for name in ("one", "two")]
    async with whole_house(folder, gpus=gpus, discord=DiscordSandbox(world=world)) as house:
        asked = dict(await asyncio.gather(*(_ask(house, user, at / count) for at, user in enumerate(users))))
        await _until(lambda: len(_answers(house)[1]) >= count, 60.0)
        _need_jobs(folder, count)
        deferred, completed = _answers(house)
        return [deferred[key] - asked[key] for key in asked], [completed[key] - asked[key] for key in asked]


async def _ask(house: WholeHouse, user: User, after_s: float) -> tuple[str, float]:
    """One slash command of one person; its interaction id and when it was asked."""
    await asyncio.sleep(after_s)
    body = {
        "channel": str(_general(house)),
        "command": {"name": "imagine", "type": 1},
        "options": [
            {"name": "model", "type": 3, "value": "z-image"},
            {"name": "prompt", "type": 3, "value": f"a picture for {user.username}"},
            {"name": "size", "type": 3, "value": "512x512"},
        ],
    }
    at = time.time()
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{house.discord.page_url}/person/commands", params={"as": str(user.id)}, json=body) as response,
    ):
        answer = await response.json()
        return answer["interaction_id"], at


def _has_answers(house: WholeHouse, wanted: int) -> bool:
    return len(_answers(house)[1]) >= wanted


def _answers(house: WholeHouse) -> tuple[dict[str, float], dict[str, float]]:
    """When the bot first answered each interaction, and when it filled the answer in; by the stand-in's own log."""
    tokens: dict[str, str] = {}
    deferred: dict[str, float] = {}
    completed: dict[str, float] = {}
    for entry in house.discord.context.journal.entries:
        if found := re.search(r"/interactions/(\d+)/([^/]+)/callback", entry.path):
            tokens[found[2]] = found[1]
            deferred.setdefault(found[1], _seconds(entry.at))
        elif (found := re.search(r"/webhooks/\d+/([^/]+)/messages/@original", entry.path)) and found[1] in tokens:
            completed.setdefault(tokens[found[1]], _seconds(entry.at))
    return deferred, completed


def _need_jobs(folder: Path, wanted: int) -> None:
    """A refusal is an answer, too, and a quick one: it must not make the figures better."""
    with closing(sqlite3.connect(f"file:{folder / 'bot_data.db'}?mode=ro", uri=True)) as connection:
        [stored] = connection.execute("SELECT count(*) FROM job").fetchone()
    if stored < wanted:
        raise SystemExit(f"only {stored} of {wanted} jobs were accepted: there is nothing to measure")


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


async def _four_megapixels(folder: Path) -> Sequence[Figure]:
    """Twenty uploads of 4 megapixels are checked, decoded and stored while others chat with the bot."""
    async with whole_house(folder, gpus=[ComfySandbox(name="one", time_scale=0.05)]) as house:
        people = [await house.people.be(name) for name in ("ana", "bruno", "chloe", "dario", "zoe")]
        picture = _noise(2048, 2048)
        for _ in range(4):
            await asyncio.gather(*(_edit(person, picture) for person in people))
        await house.program.stop()
        [p99] = re.findall(r"loop_lag_measured.*?p99_ms=([\d.]+)", house.program.said())[-1:]
        return [Figure("loop lag while 4-megapixel pictures are worked on, p99", float(p99), 20.0, "ms")]


async def _edit(person, picture: bytes) -> None:  # type: ignore[no-untyped-def]  # the driver's Person
    upload = await person.upload("photo.png", picture)
    await person.slash("edit", prompt="make it blue", image=upload)
    await person.wait_for_message(lambda message: message.pictures and "make it blue" in message.text, timeout=60)


async def _memory(folder: Path) -> Sequence[Figure]:
    world, users = _crowd(CROWD)
    settings = {"QUEUE_LIMIT": "5000", "USER_ACTIVE_LIMIT": str(JOBS_EACH)}
    # One slow GPU, so that nearly everything waits.
    gpus = [ComfySandbox(name="one", time_scale=30.0)]
    async with whole_house(folder, gpus=gpus, discord=DiscordSandbox(world=world), settings=settings) as house:
        process = psutil.Process(house.program.process.pid if house.program.process else None)
        await asyncio.sleep(3)
        idle = process.memory_info().rss / MIB
        asked = 0
        for at in list(range(0, len(users), 50)) * JOBS_EACH:
            group = users[at : at + 50]
            await asyncio.gather(*(_ask(house, user, 0.0) for user in group))
            asked += len(group)
            await _until(partial(_has_answers, house, asked - 10), 60.0)
        await _until(partial(_has_answers, house, asked), 60.0)
        full = process.memory_info().rss / MIB
        _need_jobs(folder, asked)
        return [
            Figure("resident memory, idle", idle, 150.0, "MiB"),
            Figure("resident memory, 1,000 waiting jobs", full, 220.0, "MiB"),
        ]


# --- the crowd ------------------------------------------------------------------------------------------------------------


def _crowd(count: int) -> tuple[World, list[User]]:
    world = demo_world()
    guild = next(iter(world.guilds.values()))
    users = [
        world.add_user(f"guest{number}", global_name=f"Guest {number}", locale="en-US", avatar_color="#999999")
        for number in range(count)
    ]
    for user in users:
        join(world, guild, user)
    return world, users


def _general(house: WholeHouse) -> int:
    guild = next(iter(house.discord.world.guilds.values()))
    return next(channel.id for channel in guild.channels.values() if channel.name == "general")


def _noise(width: int, height: int) -> bytes:
    """A picture that does not compress to nothing."""
    small = Image.effect_noise((width // 8, height // 8), 80).convert("RGB")
    file = io.BytesIO()
    small.resize((width, height)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


async def _until(fact, within_s: float) -> None:  # type: ignore[no-untyped-def]  # a plain predicate
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110 (the stand-in's log is the fact)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
