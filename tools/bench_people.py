"""`make bench-people`: the figures of what people see, measured on the whole program between the stand-ins. Exit code 1
when one is missed.

Everything shares this machine's processors, the stand-ins and the drawing of placeholder pictures included, so a figure
is an upper bound of what the program itself needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox, demo_world
from modules.sandbox.discord_server.journal import Entry
from tests.support.person import Person, Seen
from tests.support.program import WholeHouse, whole_house
from tests.support.visitors import Visitor, visitor
from tools.bench import Figure

#: Presses of each of five people, all pressing at the same time.
PRESSES = 60
#: Cards alive at once, and for how long they are watched.
CARDS, WATCHED_S = 50, 20.0
IDLE_LOOP = """
import asyncio, sys
from modules.utils.lag import LoopLag
lag = LoopLag()
async def until_told():
    measuring = asyncio.create_task(lag.run())
    await asyncio.to_thread(sys.stdin.read)
    print(lag.quantile_ms(0.99))
    measuring.cancel()
import structlog
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
asyncio.run(until_told())
"""
#: What a card says once its GPU has begun. In a stack of several people's pictures one's own steps may be a while off.
SIGNS = ("▱", "▰", "Warming up", "### Drawing")
CARD_EDIT = re.compile(r"/channels/\d+/messages/(\d+)")


def main() -> int:
    """Run every part; 0 when all figures hold."""
    print(f"load of this machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    figures: list[Figure] = []
    for part in (_presses, _fifty_cards):
        with tempfile.TemporaryDirectory(prefix="fullet-bench-") as folder, _idle_loop() as idle:
            measured = asyncio.run(part(Path(folder)))
            print(f"      an idle loop beside it: lag p99 {idle():.1f} ms")
            for figure in measured:
                print(figure, flush=True)
                figures.append(figure)
    missed = sum(not figure.holds for figure in figures)
    print(f"\n{len(figures) - missed} figures hold, {missed} do not")
    return 1 if missed else 0


@contextlib.contextmanager
def _idle_loop() -> Iterator[Callable[[], float]]:
    """A process that does nothing but measure how late its loop runs: what this machine takes from every program."""
    command = [sys.executable, "-c", IDLE_LOOP]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield lambda: float(process.communicate("")[0])


# --- presses --------------------------------------------------------------------------------------------------------------


async def _presses(folder: Path) -> Sequence[Figure]:
    """Five people press buttons under their results, one after the other, while pictures are drawn."""
    gpus = [ComfySandbox(name="one", time_scale=0.2)]
    async with whole_house(folder, gpus=gpus) as house:
        people = [await visitor(house.people, name) for name in ("ana", "bruno", "chloe", "elena", "zoe")]
        results = await asyncio.gather(*(one.imagine("a picture to press on") for one in people))
        waits = await asyncio.gather(*(_press_on(one, result) for one, result in zip(people, results, strict=True)))
        seconds = sorted(second for wait in waits for second in wait)
        return [
            Figure(f"{len(seconds)} presses to their first answer, p50", _quantile(seconds, 0.5) * 1000, 300.0, "ms"),
            Figure(f"{len(seconds)} presses to their first answer, p99", _quantile(seconds, 0.99) * 1000, 300.0, "ms"),
        ]


async def _press_on(one: Visitor, result: Seen) -> list[float]:
    """Windows, private messages, and now and then a picture; seconds from the press to the first thing seen."""
    acts = ("recipe", "remix", "vary", "edit", "delete")
    return [(await one.press(result, "again" if at % 15 == 0 else acts[at % len(acts)])).seconds for at in range(PRESSES)]


# --- fifty cards ------------------------------------------------------------------------------------------------------------


async def _fifty_cards(folder: Path) -> Sequence[Figure]:
    """Fifty people wait or watch their picture form, on four GPUs that draw at the speed of real ones."""
    gpus = [ComfySandbox(name=name, time_scale=1.0, preview_method="auto") for name in ("one", "two", "three", "four")]
    async with whole_house(folder, gpus=gpus, discord=DiscordSandbox(world=demo_world(guests=CARDS))) as house:
        people = [await house.people.be(f"guest-{number:03}") for number in range(1, CARDS + 1)]
        await asyncio.gather(*(_ask_twice(person) for person in people))
        await asyncio.sleep(WATCHED_S)
        edits = _card_edits(house)
        previews = [int(file["size"]) for entry in edits for file in entry.files]
        first = _first_signs(house, gpus)
        await house.program.stop()
        [lag] = re.findall(r"loop_lag_measured.*?p99_ms=([\d.]+)", house.program.said())[-1:]
        return [
            Figure(f"loop lag with {CARDS} people's cards, {len(edits)} edits, p99", float(lag), 20.0, "ms"),
            Figure(f"GPU starts to the card shows it, {len(first)} runs, p99", _quantile(first, 0.99), 2.0, "s"),
            Figure(f"largest preview of {len(previews)} edits with one", max(previews) / 1000, 40.0, "KB"),
        ]


async def _ask_twice(person: Person) -> None:
    for number in range(2):
        await person.slash("imagine", model="z-image", prompt=f"{person.username} asks for number {number}", timeout=60)


def _card_edits(house: WholeHouse) -> list[Entry]:
    return [
        entry
        for entry in house.discord.context.journal.entries
        if entry.method == "PATCH" and CARD_EDIT.fullmatch(entry.path) and entry.status == 200
    ]


def _first_signs(house: WholeHouse, gpus: Sequence[ComfySandbox]) -> list[float]:
    """For every run and everybody in it: seconds from the GPU's own start to the first edit of their card that says so."""
    prompts = _prompts_of_runs(house.folder / "bot_data.db")
    signs = [(_seconds(entry.at), _body(entry)) for entry in _card_edits(house) if any(sign in _body(entry) for sign in SIGNS)]
    waits = []
    for life in (life for gpu in gpus for life in gpu.journal.prompts if life.started is not None):
        assert life.started is not None
        for prompt in prompts.get(UUID(life.prompt_id), ()):
            seen = [at for at, body in signs if prompt in body and at >= life.started]
            if seen:
                waits.append(min(seen) - life.started)
    return waits


def _prompts_of_runs(database: Path) -> dict[UUID, list[str]]:
    """Whose prompts were in which run; a run's id is ComfyUI's prompt id."""
    found: dict[UUID, list[str]] = {}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT attempt_job.attempt_id, job.prompt FROM attempt_job JOIN job ON job.id = attempt_job.job_id"
        )
        for attempt_id, prompt in rows:
            found.setdefault(UUID(attempt_id), []).append(prompt)
    return found


def _body(entry: Entry) -> str:
    return json.dumps(json.loads(entry.body), ensure_ascii=False) if entry.body else ""


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    sys.exit(main())
