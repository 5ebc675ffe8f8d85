"""The whole road of a picture as its person sees it: asked for, followed, delivered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modules.domain.jobs import JobState
from tests.support.front_side import Front, FrontDoor, front_door
from tests.support.person import People


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    async with front_door(tmp_path) as opened:
        yield opened


@pytest.fixture
async def front(door: FrontDoor) -> AsyncIterator[Front]:
    async with door.open() as opened:
        yield opened


@pytest.fixture
async def people(door: FrontDoor) -> AsyncIterator[People]:
    async with People(door.sandbox.page_url) as everybody:
        yield everybody


async def test_imagine_is_answered_privately_and_its_picture_comes_to_the_private_session(front: Front, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    answer = await ana.slash("imagine", model="z-image", prompt="un faro en la tormenta")
    assert answer.message is not None
    assert answer.message.is_ephemeral
    assert "Tu imagen está en camino" in answer.message.text
    assert "1 de 2" in answer.message.text

    session = await ana.wait_for_channel("session-ana")
    assert all(channel.name != session.name for channel in await bruno.channels())

    job = await front.studio.only_job()
    card = await ana.wait_for_message(lambda m: "un faro" in m.text, channel=session.id)
    assert [button.label for button in card.buttons] == ["Cancelar"]

    await front.studio.draw(job)
    result = await ana.wait_for_message(lambda m: m.pictures, channel=session.id)
    assert result.mentions == [ana.id]
    assert "un faro en la tormenta" in result.text
    await front.until_state(job.id, JobState.DELIVERED)
    await ana.wait_for("MESSAGE_DELETE", lambda d: d["id"] == card.id)
