"""The whole program while Discord has not told of the guild, or is in an outage: true answers, and every picture once."""

from __future__ import annotations

from pathlib import Path

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import demo_world
from tests.support.program import HouseOptions, WholeHouse, lawful_house, until
from tests.support.wishing import PATIENCE_S, ask, draw, result, results, session


def options(**settings: str) -> HouseOptions:
    return {
        "discord": DiscordSandbox(world=demo_world(guests=10)),
        "gpus": [ComfySandbox(name="gpu-1", time_scale=0.02)],
        "settings": settings,
    }


def home_id(house: WholeHouse) -> int:
    return int(house.program.environment["ALLOWED_GUILD_ID"])


async def test_a_guild_that_comes_late_keeps_nobody_waiting_also_after_a_kill(tmp_path: Path) -> None:
    prepared = options()
    gateway = prepared["discord"].context.gateway
    gateway.guilds.late_s = float("inf")
    async with lawful_house(tmp_path, **prepared) as house:
        guest = await house.newcomer()
        await guest.wait_for_command("imagine", timeout=PATIENCE_S)
        before = await draw(guest, "before the guild came")
        await house.restart()  # kill -9; the guild is late again
        after_kill = await draw(guest, "after a kill, and the guild is not there")
        gateway.release_guilds()
        await until(lambda: "guild_came" in house.program.said(), "the bot to hear of its guild")
        afterwards = await draw(guest, "after the guild came")
        assert {before.channel_id, after_kill.channel_id, afterwards.channel_id} == {await session(guest)}
        assert len(await results(guest)) == 3


async def test_through_an_outage_of_discords_a_picture_waits_and_is_posted_once(tmp_path: Path) -> None:
    """The guild is away from the gateway, and the REST API answers 503 for it; the program is killed in the middle."""
    async with lawful_house(tmp_path, **options()) as house:
        context = house.discord.context
        guest, other, elena = await house.newcomer(), await house.newcomer(), await house.people.be("elena")
        await elena.slash("admin pause")
        await ask(guest, "through an outage")
        channel = await session(guest)
        context.gateway.begin_outage(home_id(house))
        context.faults.add({"route": r" /(guilds|channels)/", "status": 503, "times": 100_000})
        await house.restart()
        await elena.slash("admin resume", timeout=PATIENCE_S)
        answer = await other.slash("imagine", model="z-image", prompt="not now", timeout=PATIENCE_S)
        assert "Discord is having trouble right now" in answer.text
        await until(lambda: "delivery_postponed" in house.program.said(), "a try to deliver", within_s=PATIENCE_S)
        assert await results(guest) == []
        context.faults.clear()
        context.gateway.end_outage(home_id(house))
        found = await result(guest, "through an outage")
        assert found.channel_id == channel
        assert len(await results(guest)) == 1
        assert (await draw(other, "now it works")).channel_id == await session(other)


async def test_a_new_ready_in_the_middle_of_work_changes_nothing_for_anybody(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest = await house.newcomer()
        first = await draw(guest, "before the new session")
        gateway = house.discord.context.gateway
        gateway.guilds.late_s = float("inf")
        identified = gateway.identifies
        gateway.invalidate(resumable=False)
        await until(lambda: gateway.identifies > identified, "a new session")
        await guest.wait_for_bot(online=True, timeout=PATIENCE_S)
        second = await draw(guest, "while the guild is late again")
        assert second.channel_id == first.channel_id
        assert "unexpected_failure" not in house.program.said()
