"""A plain answer within Discord's three seconds, also while our database stands still; nothing that was begun is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from modules.domain.jobs import Job, JobState
from modules.domain.records import Limits
from modules.utils.database.sqlite_engine import READERS
from tests.support.front_side import Front, FrontDoor
from tests.support.person import Answer, People, Person, Seen

#: Discord waits so long. Source: Discord developer documentation, "Receiving and Responding".
DISCORD_WAITS_S = 3.0
CALLBACKS = r"^POST /interactions/\d+/[^/]+/callback$"


@asynccontextmanager
async def standing_still(door: FrontDoor) -> AsyncIterator[None]:
    """No read or write of ours gets its turn while this is open."""
    release, busy = threading.Event(), threading.Barrier(READERS + 2)

    def hold(_connection: object) -> None:
        busy.wait(10)
        release.wait(30)

    engine = door.database.engine
    async with asyncio.TaskGroup() as group:
        for _ in range(READERS):
            group.create_task(engine.read(hold))
        group.create_task(engine.write(hold))
        await asyncio.to_thread(busy.wait, 10)
        try:
            yield
        finally:
            release.set()


async def answered_meanwhile(door: FrontDoor, act: Awaitable[Answer]) -> Answer:
    """What comes of an act whose first answer must come while the database stands still."""
    async with standing_still(door):
        before = len(door.calls(CALLBACKS))
        acting = asyncio.ensure_future(act)
        async with asyncio.timeout(DISCORD_WAITS_S):
            while len(door.calls(CALLBACKS)) == before:  # noqa: ASYNC110 - the stand-in's journal is the fact
                await asyncio.sleep(0.02)
    answer = await acting
    assert not answer.failed
    return answer


async def delivered(front: Front, person: Person, prompt: str = "a fox") -> tuple[Job, Seen]:
    await person.slash("imagine", model="z-image", prompt=prompt)
    job = await front.studio.only_job(int(person.id))
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    return job, await person.wait_for_message(lambda m: m.id == str(job.result_message_id))


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("queue", {}, "Nothing of yours is waiting"),
        ("history", {}, "nothing here yet"),
        ("settings", {}, "Size"),
        ("recall", {"id": "abcdef12"}, "can't find"),
        ("mydata export", {}, ""),
        ("mydata erase", {}, "?"),
        ("gen", {}, "no prompt"),
        ("imagine", {"model": "z-image", "prompt": "a fox"}, "on its way"),
        ("admin status", {}, "Status"),
        ("admin queue", {}, ""),
        ("admin getid", {}, ""),
        ("admin words", {}, ""),
        ("admin audit", {}, ""),
        ("admin pause", {}, ""),
    ],
)
async def test_a_command_is_answered_while_the_database_stands_still_and_done_afterwards(
    door: FrontDoor, front: Front, people: People, command: str, options: dict[str, object], said: str
) -> None:
    elena = await people.be("elena")
    answer = await answered_meanwhile(door, elena.slash(command, **options))  # type: ignore[arg-type] # command options
    assert said in answer.text


@pytest.mark.parametrize(
    ("button", "said"),
    [
        ("Again", "on its way"),
        ("Vary", "How far"),
        ("Upscale", "on its way"),
        ("Recipe", "a fox"),
        ("Delete", "?"),
        ("Edit", "press once more"),
        ("Remix", "press once more"),
    ],
)
async def test_a_press_is_answered_while_the_database_stands_still(
    door: FrontDoor, front: Front, people: People, button: str, said: str
) -> None:
    """What opens a window cannot be put off, so it asks for another press; that one opens it."""
    bruno = await people.be("bruno")
    _, result = await delivered(front, bruno)
    answer = await answered_meanwhile(door, bruno.press(result, button))
    assert said in answer.text
    assert (await bruno.message(result)).text == result.text, "the result itself was written over"
    if button in {"Edit", "Remix"}:
        assert (await bruno.press(result, button)).modal is not None


async def test_the_forms_buttons_too(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = (await bruno.slash("gen")).message
    assert form is not None
    late = await answered_meanwhile(door, bruno.press(form, "Prompt & numbers"))
    assert "press once more" in late.text
    window = (await bruno.press(form, "Prompt & numbers")).modal
    assert window is not None
    await answered_meanwhile(door, bruno.submit(window, prompt="a fox"))
    form_id = form.id
    form = await bruno.wait_for_message(lambda m: m.id == form_id and "a fox" in m.text)
    await answered_meanwhile(door, bruno.press(form, "Generate"))
    await bruno.wait_for_message(lambda m: m.id == form_id and "on its way" in m.text)


async def test_a_cancel_is_taken_at_once_and_carried_out_when_the_database_is_back(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="a fox")
    job = await front.studio.only_job()
    card = await bruno.wait_for_message(lambda m: "a fox" in m.text, channel=str(job.channel_id))
    await answered_meanwhile(door, bruno.press(card, "Cancel"))
    await front.until_state(job.id, JobState.CANCELLED)


async def test_the_queue_asks_for_all_places_at_once(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    front.studio.limits = Limits(active_per_person=9, queue_length=100)
    for number in range(6):
        await bruno.slash("imagine", model="z-image", prompt=f"fox {number}")
    asked = front.studio.looks
    listed = await bruno.slash("queue")
    assert [listed.text.count(f"fox {number}") for number in range(6)] == [1] * 6
    assert "6th in line" in listed.text
    assert front.studio.looks - asked <= 2, "one for the list, and one that the cards may ask for meanwhile"
