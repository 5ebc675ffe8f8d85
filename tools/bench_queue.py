"""`make bench-queue`: what people wait for with a million finished jobs (see `bench_million`), how soon a restart with
500 waiting jobs dispatches, and whether memory stays flat over 10,000 jobs.

The restart is the real program, started on a database in which 500 jobs wait. The memory is that of the real engine, stores and
courier in the world of `tests/support/world`, whose virtual time makes 10,000 jobs a matter of minutes. Exit code 1 for a miss.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import structlog

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.people import ChannelId, GuildId, Language, Person, UserId
from modules.domain.recipes import ModelName
from modules.sandbox.comfy_server import ComfySandbox
from modules.utils.clock import SystemClock
from modules.utils.database import open_database
from tests.support.builders import ROOMY, a_request
from tests.support.comfy_side import the_library
from tests.support.program import whole_house
from tests.support.world import World, in_world
from tests.support.world import world as stage
from tools.bench_million import KINDS, measure

RESTART_BOUND_S = 3.0
GROWTH_BOUND_MIB = 8.0
WAITING = 500
PEOPLE = 100


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Restart and memory of the queue.")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs in the test of memory; 0: neither that nor the restart")
    parser.add_argument("--finished", type=int, default=1_000_000, help="finished jobs to measure with; 0: leave it out")
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args(arguments)
    is_kept = True
    if options.finished:
        with tempfile.TemporaryDirectory(prefix="fullet-queue-") as folder:
            is_kept = measure(Path(folder), options.finished, options.people, options.kinds)
    if not options.jobs:
        return 0 if is_kept else 1
    with tempfile.TemporaryDirectory(prefix="fullet-queue-") as folder:
        restart_s = asyncio.run(restart(Path(folder)))
    print(
        f"restart with {WAITING} waiting jobs to the first dispatch: {restart_s:.2f} s (bound {RESTART_BOUND_S:g} s)", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="fullet-queue-") as folder:
        growth_mib = memory(Path(folder), options.jobs)
    print(
        f"memory after {options.jobs} jobs against after a fifth of them: {growth_mib:+.1f} MiB (bound {GROWTH_BOUND_MIB:g} MiB)"
    )
    return 0 if is_kept and restart_s <= RESTART_BOUND_S and growth_mib <= GROWTH_BOUND_MIB else 1


async def restart(folder: Path) -> float:
    """Seconds from the start of the process to the first prompt at ComfyUI."""
    gpu = ComfySandbox(name="gpu-1")
    async with whole_house(folder, gpus=[gpu], is_started=False, settings={"QUEUE_LIMIT": "1000"}) as house:
        guild = next(iter(house.discord.world.guilds))
        await _fill(folder, guild)
        began = time.monotonic()
        await house.program.start()
        async with asyncio.timeout(60):
            while not gpu.journal.prompts:  # noqa: ASYNC110 - the stand-in's journal has no bell
                await asyncio.sleep(0.005)
        return time.monotonic() - began


async def _fill(folder: Path, guild: int) -> None:
    catalogue = TemplateCatalogue(library=the_library(), listings=Listings())
    async with open_database(f"sqlite:///{folder / 'bot_data.db'}", data_dir=folder, clock=SystemClock()) as database:
        for number in range(WAITING):
            model = ModelName(("flux", "z-image", "sdxl")[number % 3])
            recipe, work = catalogue.resolve(Wish(kind=WorkflowKind.IMAGINE, model=model, prompt=f"number {number}"))
            user = UserId(1_000 + number % PEOPLE)
            person = Person(user_id=user, guild_id=GuildId(guild), display_name="somebody", language=Language.ENGLISH)
            await database.jobs.accept(a_request(person, recipe=recipe, work=work, channel_id=ChannelId(user)), ROOMY)


def memory(folder: Path, jobs: int) -> float:
    """MiB by which the process grew between a fifth of the jobs and all of them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    stage.use_disk(folder / "world.db")
    sizes: list[float] = []

    async def play(world: World) -> None:
        for number in range(0, jobs, 100):
            for user in range(1, 101):
                await world.ask(user)
            await world.until_all_over()
            world.forget()
            if number + 100 in (jobs // 5, jobs):
                gc.collect()
                sizes.append(psutil.Process().memory_info().rss / 2**20)
                print(f"  {number + 100:6} jobs: {sizes[-1]:.1f} MiB", flush=True)

    in_world(play, lambda: World(servers=2, batch=4))
    return sizes[1] - sizes[0]


if __name__ == "__main__":
    sys.exit(main())
