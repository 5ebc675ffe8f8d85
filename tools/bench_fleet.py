"""`make bench-fleet`: the real program before four stand-in GPUs of unequal speed. Exit code 1 when a gate does not hold.

Forty people keep two jobs each in the queue, over three models; a picture has one megapixel, weighs 1.2 MB and takes 0.5 to 3 s.
What is measured is ours: how busy the GPUs are kept, how often they change models, how evenly people are served, how long they
wait, how soon after its file was written a picture is posted, and what the program needs for that: processor time a picture and
memory, both of its own process alone. The stand-ins, their drawing and the people's clients share the machine's processors with
the program, so on a small or busy machine the delay says more about the machine than about the program; the line "processors"
says how busy they were. Processor time and memory do not depend on it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from modules.domain.jobs import JobId, short_id
from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox, demo_world
from tests.support.person import Person, Refused
from tests.support.person_views import Seen
from tests.support.program import WholeHouse, whole_house

MODELS, MIX = ("flux", "z-image", "sdxl"), (0.5, 0.35, 0.15)
#: How often somebody stays with their favourite model.
LOYALTY = 0.75
SPEEDS = (1.4, 1.0, 0.8, 0.6)
#: Simulated seconds to real ones: Flux alone takes 7.7 s on a server of speed 1, SDXL 4.9 s, Z-Image 3 s,
#: so a picture alone takes 0.5 s (Z-Image on the fastest) to 3.2 s (Flux on the slowest), a full batch about four times that.
TIME_SCALE = 0.25
JOBS_EACH = 2
MEMORY_EVERY_S = 0.5
MIB = 1024 * 1024


@dataclass(slots=True)
class Record:
    """One job from the program's and the world's point of view; instants are seconds since the epoch."""

    user_id: int
    cost_s: float
    accepted: float
    drawn: float | None = None
    posted: float | None = None


@dataclass(slots=True)
class Measurement:
    """What was seen between `since` and `until`."""

    since: float = 0.0
    until: float = 0.0
    jobs: dict[str, Record] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    prompts: int = 0
    switches: int = 0
    cpu_percent: float = 0.0
    bot_cpu_s: float = 0.0  #: processor time of the program's process between `since` and `until`
    memory_bytes: list[int] = field(default_factory=list)  #: of the program's process, every half second
    file_bytes: list[int] = field(default_factory=list)  #: of the pictures as they were drawn

    @property
    def seconds(self) -> float:
        return self.until - self.since

    @property
    def done(self) -> list[Record]:
        """Jobs that were posted in the time."""
        return [one for one in self.jobs.values() if one.posted is not None and self.since <= one.posted < self.until]

    @property
    def busy_share(self) -> float:
        return sum(self.busy.values()) / (self.seconds * len(self.busy))

    @property
    def jain(self) -> float:
        """Of the GPU-seconds people received; 1 is perfectly equal."""
        service: Counter[int] = Counter()
        for one in self.done:
            service[one.user_id] += one.cost_s  # type: ignore[assignment]  # seconds are counted, too
        values = list(service.values())
        return sum(values) ** 2 / (len(values) * sum(value * value for value in values))

    def waits(self) -> list[float]:
        return sorted(one.posted - one.accepted for one in self.done if one.posted is not None)

    def deliveries_ms(self) -> list[float]:
        """From the moment ComfyUI had written the picture's file to the message."""
        pairs = [(one.drawn, one.posted) for one in self.done]
        return sorted((posted - drawn) * 1000 for drawn, posted in pairs if drawn is not None and posted is not None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The real program before four stand-in GPUs.")
    parser.add_argument("--seconds", type=float, default=240.0, help="how long is measured, after a warm-up")
    parser.add_argument("--people", type=int, default=40)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fullet-fleet-") as folder:
        measured = asyncio.run(measure(Path(folder), people=options.people, seconds=options.seconds))
    return report(measured, people=options.people)


async def measure(folder: Path, *, people: int, seconds: float, warm_up_s: float = 20.0) -> Measurement:
    """Run the house and look at it from outside: the journals of the stand-ins, and the database when all is over."""
    discord = DiscordSandbox(world=demo_world(guests=people))
    gpus = [
        ComfySandbox(name=f"gpu-{number}", speed=speed, time_scale=TIME_SCALE, has_grain=True)
        for number, speed in enumerate(SPEEDS, start=1)
    ]
    settings = {"USER_ACTIVE_LIMIT": str(JOBS_EACH)}
    measured = Measurement()
    async with whole_house(folder, discord=discord, gpus=gpus, settings=settings) as house:
        async with asyncio.TaskGroup() as group:
            askers = []
            for number in range(1, people + 1):
                person = await house.people.be(f"guest-{number:03}")
                askers.append(group.create_task(_keep_asking(person, random.Random(number))))
            await asyncio.sleep(warm_up_s)
            assert house.program.process is not None
            bot = psutil.Process(house.program.process.pid)
            psutil.cpu_percent()
            measured.since, cpu_before = time.time(), _cpu_s(bot)
            while (left := measured.since + seconds - time.time()) > 0:
                measured.memory_bytes.append(bot.memory_info().rss)
                await asyncio.sleep(min(left, MEMORY_EVERY_S))
            measured.until, measured.bot_cpu_s = time.time(), _cpu_s(bot) - cpu_before
            measured.cpu_percent = psutil.cpu_percent()
            for asker in askers:
                asker.cancel()
        _read_journals(measured, gpus)
        _read_jobs(measured, folder, house)
    return measured


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _keep_asking(person: Person, rng: random.Random) -> None:
    """Two jobs in the queue at all times: the next wish follows the picture."""
    favourite = rng.choices(MODELS, MIX)[0]
    asked, results = 0, _Results(person)
    while True:
        model = favourite if rng.random() < LOYALTY else rng.choices(MODELS, MIX)[0]
        try:
            answer = await person.slash("imagine", model=model, prompt=f"{person.username} {asked}")
        except (AssertionError, Refused):
            continue
        if answer.failed or answer.message is None or "<#" not in answer.text:
            await asyncio.sleep(0.2)
            continue
        asked += 1
        await person.until(lambda asked=asked: results.at_least(asked - JOBS_EACH + 1), "the next picture", timeout=180)  # type: ignore[misc]


class _Results:
    """The results that a person has seen; each event is looked at once."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._looked_at = 0
        self._found: set[str] = set()

    async def at_least(self, count: int) -> bool:
        new = self._person.events[self._looked_at :]
        self._looked_at += len(new)
        self._found |= {event.d["id"] for event in new if event.t == "MESSAGE_CREATE" and _is_result(event.d)}
        return len(self._found) >= count


def _is_result(message: dict[str, Any]) -> bool:
    """Files that components show are not among a message's attachments."""
    return any(file.filename.startswith("fullet-") for file in Seen(message).files)


def _read_journals(measured: Measurement, gpus: Sequence[ComfySandbox]) -> None:
    for gpu in gpus:
        busy = 0.0
        for life in gpu.journal.prompts:
            if life.started is None:
                continue
            begin, end = max(life.started, measured.since), min(life.ended or measured.until, measured.until)
            busy += max(0.0, end - begin)
            if measured.since <= life.started < measured.until:
                measured.prompts += 1
                measured.switches += life.switch_seconds > 0
        measured.busy[gpu.name] = busy


def _read_jobs(measured: Measurement, folder: Path, house: WholeHouse) -> None:
    query = """
        SELECT job.id, user_id, cost_s, accepted_at, attempt_job.attempt_id, position
        FROM job LEFT JOIN attempt_job ON attempt_job.job_id = job.id AND attempt_job.attempt_id = job.attempt_id"""
    with closing(sqlite3.connect(f"file:{folder / 'bot_data.db'}?mode=ro", uri=True)) as connection:
        for job_id, user_id, cost_s, accepted_at, attempt_id, position in connection.execute(query):
            accepted = datetime.fromisoformat(accepted_at)
            record = Record(user_id=user_id, cost_s=cost_s, accepted=accepted.replace(tzinfo=accepted.tzinfo or UTC).timestamp())
            if attempt_id is not None:  # one picture a job, so its slot is its place in the batch
                file = _written(house, f"fullet/{UUID(attempt_id)}/{position}_00001_.png")
                if file is not None:
                    record.drawn = file.st_mtime
                    measured.file_bytes.append(file.st_size)
            measured.jobs[short_id(JobId(UUID(job_id)))] = record
    for messages in house.discord.world.messages.values():
        for message in messages.values():
            for attachment in message.attachments:
                if attachment.filename.startswith("fullet-"):
                    measured.jobs[attachment.filename.split("-")[1]].posted = message.created_at.timestamp()


def _written(house: WholeHouse, name: str) -> os.stat_result | None:
    paths = [gpu.outputs / name for gpu in house.gpus]
    return next((path.stat() for path in paths if path.exists()), None)


def report(measured: Measurement, *, people: int) -> int:
    """Print the figures and the gates."""
    waits, deliveries = measured.waits(), measured.deliveries_ms()
    by_user: dict[int, list[float]] = defaultdict(list)
    for one in measured.done:
        by_user[one.user_id].append(one.cost_s)
    print(f"{people} people x {JOBS_EACH} jobs, speeds {SPEEDS}, {measured.seconds:.0f} s measured")
    print(f"pictures posted       {len(measured.done):8}   {60 * len(measured.done) / measured.seconds:.0f} a minute")
    print(f"prompts               {measured.prompts:8}   {len(measured.done) / max(1, measured.prompts):.2f} pictures each")
    print(f"switches per 100 jobs {100 * measured.switches / max(1, len(measured.done)):8.2f}")
    print(f"busy by server        {', '.join(f'{name} {busy / measured.seconds:.3f}' for name, busy in measured.busy.items())}")
    print(f"wait, ask to picture  p50 {statistics.median(waits):.1f} s, p95 {waits[int(0.95 * len(waits))]:.1f} s")
    print(
        f"picture to message    p50 {statistics.median(deliveries):.0f} ms, p95 {deliveries[int(0.95 * len(deliveries))]:.0f} ms"
    )
    peak_mib = max(measured.memory_bytes) / MIB
    cpu_ms = 1000 * measured.bot_cpu_s / max(1, len(measured.done))
    print(f"file of a picture     {statistics.mean(measured.file_bytes) / 1e6:.2f} MB")
    print(f"program's processor   {cpu_ms:.1f} ms a picture, {100 * measured.bot_cpu_s / measured.seconds:.0f} % of one")
    print(f"program's memory      {measured.memory_bytes[0] / MIB:.0f} MiB, at most {peak_mib:.0f} MiB")
    print(f"processors            {measured.cpu_percent:.0f} % of {psutil.cpu_count()} busy\n")
    gates = [
        ("GPU busy share", measured.busy_share, ">=", 0.97),
        ("Jain index", measured.jain, ">=", 0.98),
        ("picture to message, p95 ms", deliveries[int(0.95 * len(deliveries))], "<=", 200.0),
        ("processor a picture, ms", cpu_ms, "<=", 25.0),
        ("memory at most, MiB", peak_mib, "<=", 180.0),
    ]
    failed = 0
    for name, value, sign, bound in gates:
        holds = value >= bound if sign == ">=" else value <= bound
        failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'}  {name:32}{value:9.3f}  {sign} {bound:g}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
