"""One house, several processes: a gateway, two workers and a courier share a PostgreSQL, and any of them may die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.comfy_server.faults import Match
from tests.support.person import Seen
from tests.support.program import Program, whole_house

pytestmark = pytest.mark.postgres


def is_result(message: Seen) -> bool:
    return bool(message.pictures) and "seed" in message.text and "drawn in" in message.text


def a_result_of(prompt: str) -> Callable[[Seen], bool]:
    return lambda message: is_result(message) and f"> {prompt}" in message.text


async def test_pictures_arrive_although_each_part_is_a_process_and_a_worker_and_the_courier_die(
    tmp_path: Path, postgres_url: str
) -> None:
    gpus = [ComfySandbox(name="one", time_scale=0.2), ComfySandbox(name="two", time_scale=0.2)]
    async with whole_house(tmp_path, gpus=gpus, settings={"DATABASE_URL": postgres_url}, is_started=False) as house:
        parts = {
            name: Program({**house.program.environment, **settings}, tmp_path / f"{name}.log", ["--role", role])
            for name, role, settings in (
                ("worker-one", "worker", {"COMFY_URLS": gpus[0].url}),
                ("worker-two", "worker", {"COMFY_URLS": gpus[1].url}),
                ("courier", "courier", {}),
            )
        }
        house.others.extend(parts.values())
        house.program.arguments = ["--role", "gateway"]
        await asyncio.gather(*(part.start() for part in parts.values()))
        await house.start()
        people = [await house.people.be(name) for name in ("bruno", "chloe", "elena")]
        for round_ in range(2):
            for person in people:
                answer = await person.slash("imagine", model="z-image", prompt=f"{person.username} {round_}", size="512x512")
                assert answer.message is not None
        await parts["worker-one"].kill()
        await parts["courier"].kill()
        await parts["courier"].start()
        for person in people:
            channel = f"session-{person.username}"
            for round_ in range(2):
                await person.wait_for_message(a_result_of(f"{person.username} {round_}"), channel=channel, timeout=60)
            results = [message for message in await person.messages(channel) if is_result(message)]
            assert len(results) == 2
        gpus[1].fail("node_error", times=None, match=Match(text="a wish that breaks"))
        asker, channel = people[1], f"session-{people[1].username}"
        await asker.slash("imagine", model="z-image", prompt="a wish that breaks", size="512x512")
        failure = await asker.wait_for_message(lambda m: "That didn't work" in m.text, channel=channel, timeout=60)
        assert failure.mentions == [asker.id]

        async def is_all_that_is_left() -> bool:
            return [m.id for m in await asker.messages(channel) if "a wish that breaks" in m.text] == [failure.id]

        await asker.until(is_all_that_is_left, "the card of the failed job to be gone")
        status = await people[2].slash("admin status")
        assert status.message is not None
        assert gpus[1].url.rpartition(":")[2] in status.message.text


async def test_a_role_of_its_own_needs_postgresql_and_says_so(tmp_path: Path) -> None:
    async with whole_house(tmp_path, is_started=False) as house:
        house.program.arguments = ["--role", "worker"]
        await house.program.start()
        assert await house.program.wait() == 2
        assert "--role worker needs PostgreSQL" in house.program.said()
