"""The gateway: short outages pass unnoticed, a long one ends the process so that its supervisor starts another."""

from __future__ import annotations

import pytest

from modules.discord.bot import GatewayGone
from modules.domain.jobs import JobState
from tests.support.front_side import FrontDoor
from tests.support.person import People


async def test_a_dropped_connection_is_resumed_and_nothing_is_lost(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open() as front:
        door.sandbox.context.gateway.drop(resumable=True)
        await bruno.wait_for_bot(online=True)
        answer = await bruno.slash("imagine", model="z-image", prompt="a fox")
        assert "on its way" in answer.text
        job = await front.studio.only_job()
        door.sandbox.context.gateway.invalidate(resumable=False)
        await front.studio.draw(job)
        await front.until_state(job.id, JobState.DELIVERED)  # results need no gateway
        await bruno.wait_for_bot(online=True)  # discord.py waits five seconds before it identifies anew
        assert "Nothing of yours is waiting" in (await bruno.slash("queue")).text
    # A fresh session said "ready" again: what start-up does was done once.
    assert len(door.calls(r"^POST /guilds/\d+/channels$")) == 3  # admin-tools, the category, the session


async def test_when_the_gateway_stays_away_the_bot_gives_up_with_an_error(door: FrontDoor) -> None:
    with pytest.raises(ExceptionGroup) as ended:  # noqa: PT012 - leaving the block is what raises
        async with door.open(gateway_patience_s=0.3) as front:
            await door.sandbox.stop()
            await front.until_ended()
    assert ended.group_contains(GatewayGone)


async def test_a_discord_that_is_away_at_the_start_is_waited_for(door: FrontDoor, people: People) -> None:
    door.spoil(r"^GET /users/@me$", reset=True, times=2)
    door.spoil(r"^GET /oauth2/applications/@me$", reset=True, times=2)  # aiohttp itself tries twice
    bruno = await people.be("bruno")
    async with door.open() as front:
        await bruno.wait_for_bot(online=True)
        assert "on its way" in (await bruno.slash("imagine", model="z-image", prompt="a fox")).text
        await front.studio.draw(await front.studio.only_job())
    assert len(door.calls(r"^GET /users/@me$")) == 4


async def test_when_discord_stays_away_at_the_start_the_bot_gives_up_with_an_error(door: FrontDoor) -> None:
    door.spoil(r"^GET /users/@me$", reset=True, times=1_000)
    with pytest.raises(ExceptionGroup) as ended:
        async with door.open(gateway_patience_s=1.0) as front:
            await front.until_ended()
    assert ended.group_contains(GatewayGone)
