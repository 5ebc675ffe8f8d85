"""Whoever may not ask is refused before their picture is read or a channel is made for them (faults.md H11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Connection, text

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.people import UserId
from modules.domain.records import PersonSettings
from tests.support.front_side import Front, FrontDoor, a_png
from tests.support.person import People, Person

PICTURE = a_png(5, side_px=48).data
Arrange = Callable[[Front, People, Person], Awaitable[None]]


def reads(front: Front) -> int:
    """How often a file was asked for at the CDN."""
    return front.sandbox.context.files.reads.total()


def stored_pictures(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM blob")).scalar_one())


async def nothing_was_read_or_made(door: FrontDoor, front: Front, person: Person) -> None:
    assert reads(front) == 0
    assert await front.database.engine.read(stored_pictures) == 0
    assert door.uploads.pid is None
    assert not [call for call in door.calls(r"^POST /guilds/\d+/channels$") if person.username.encode() in (call.body or b"")]


async def banned(front: Front, people: People, person: Person) -> None:
    await front.database.people.save_settings(PersonSettings(user_id=UserId(int(person.id)), is_banned=True))


async def stopping(front: Front, people: People, person: Person) -> None:
    front.studio.refusal = FulletError(ErrorCode.STOPPING)


async def queue_full(front: Front, people: People, person: Person) -> None:
    front.studio.limits = type(front.studio.limits)(active_per_person=2, queue_length=0)


async def word_blocked(front: Front, people: People, person: Person) -> None:
    elena = await people.be("elena")
    await elena.slash("admin words", action="add", word="fox")


REASONS = [
    pytest.param(banned, "You can't make pictures on this server", id="banned"),
    pytest.param(stopping, "I'm restarting", id="stopping"),
    pytest.param(queue_full, "queue is full", id="queue full"),
    pytest.param(word_blocked, "doesn't allow some of the words", id="blocked word"),
]


@pytest.mark.parametrize(("arrange", "sentence"), REASONS)
async def test_an_edit_that_would_be_refused_reads_no_picture(
    door: FrontDoor, front: Front, people: People, arrange: Arrange, sentence: str
) -> None:
    bruno = await people.be("bruno")
    await arrange(front, people, bruno)
    image, reference = await bruno.upload("image.png", PICTURE), await bruno.upload("reference.png", PICTURE)
    answer = await bruno.slash("edit", prompt="add a fox", image=image, reference=reference)
    assert sentence in answer.text
    await nothing_was_read_or_made(door, front, bruno)


@pytest.mark.parametrize(("arrange", "sentence"), REASONS)
async def test_the_menu_of_a_message_reads_no_picture_for_them_either(
    door: FrontDoor, front: Front, people: People, arrange: Arrange, sentence: str
) -> None:
    bruno = await people.be("bruno")
    shared = await bruno.say("", "general", files=[await bruno.upload("mine.png", PICTURE)])
    opened = await bruno.context_menu("Edit this picture", shared)
    await arrange(front, people, bruno)
    assert opened.modal is not None
    answer = await bruno.submit(opened.modal, prompt="add a fox")
    assert sentence in answer.text
    await nothing_was_read_or_made(door, front, bruno)


@pytest.mark.parametrize(("arrange", "sentence"), REASONS)
async def test_no_channel_is_made_for_a_wish_that_would_be_refused(
    door: FrontDoor, front: Front, people: People, arrange: Arrange, sentence: str
) -> None:
    bruno = await people.be("bruno")
    await arrange(front, people, bruno)
    answer = await bruno.slash("imagine", model="z-image", prompt="a fox")
    assert sentence in answer.text
    await nothing_was_read_or_made(door, front, bruno)


async def test_whoever_has_all_their_jobs_waiting_has_no_further_picture_read(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    for _ in range(2):
        await bruno.slash("imagine", model="z-image", prompt="an owl")
    answer = await bruno.slash("edit", prompt="add a fox", image=await bruno.upload("mine.png", PICTURE))
    assert "You already have 2 jobs" in answer.text
    assert reads(front) == 0


async def test_nothing_is_kept_for_whoever_is_banned(front: Front, people: People) -> None:
    """Neither a reference for the next edit nor a picture posted in the session."""
    bruno = await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="an owl")
    await banned(front, people, bruno)
    shared = await bruno.say("", "general", files=[await bruno.upload("style.png", PICTURE)])
    answer = await bruno.context_menu("Use as reference", shared)
    assert "You can't make pictures on this server" in answer.text
    await bruno.say("", "session-bruno", files=[await bruno.upload("mine.png", PICTURE)])
    await bruno.wait_for_message(lambda m: m.by_bot and "You can't make pictures" in m.text, channel="session-bruno")
    assert reads(front) == 0


async def test_who_may_ask_is_read_and_drawn(front: Front, people: People) -> None:
    """The counter counts: without this the others would prove nothing."""
    bruno = await people.be("bruno")
    answer = await bruno.slash("edit", prompt="add a fox", image=await bruno.upload("mine.png", PICTURE))
    assert "on its way" in answer.text
    assert reads(front) == 1
    assert await front.database.engine.read(stored_pictures) == 1
