"""The gateway has not told of the guild yet, or no longer: what works over REST works, and nothing is concluded from silence."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from modules.discord.bot import GatewayGone
from modules.discord.house import DiscordOptions
from modules.domain.jobs import JobState
from modules.domain.people import ChannelId, UserId
from modules.domain.sessions import Session
from modules.sandbox.discord_server.permissions import Permission
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People, Person


async def ask(person: Person, prompt: str = "a fox") -> str:
    answer = await person.slash("imagine", model="z-image", prompt=prompt)
    assert not answer.failed
    return answer.text


def guilds_come_late(door: FrontDoor) -> None:
    """After the next READY the guild is unavailable until the test says otherwise."""
    door.sandbox.context.gateway.guilds.late_s = float("inf")


def guilds_come(door: FrontDoor) -> None:
    """GUILD_CREATE, now and at once after every later READY."""
    door.sandbox.context.gateway.guilds.late_s = 0.0
    door.sandbox.context.gateway.release_guilds()


async def a_new_ready(door: FrontDoor, person: Person) -> None:
    """The session cannot be resumed: discord.py identifies anew (after five seconds) and empties its cache."""
    before = door.sandbox.context.gateway.identifies
    door.sandbox.context.gateway.invalidate(resumable=False)
    async with asyncio.timeout(20):
        while door.sandbox.context.gateway.identifies == before:  # noqa: ASYNC110 - the stand-in's own count
            await asyncio.sleep(0.02)
    await person.wait_for_bot(online=True)


@pytest.mark.parametrize("event", ["nothing", "GUILD_DELETE", "GUILD_CREATE"])
async def test_a_guild_that_is_away_at_the_start_is_served_over_rest(door: FrontDoor, people: People, event: str) -> None:
    gateway = door.sandbox.context.gateway
    if event == "nothing":
        guilds_come_late(door)
    else:
        gateway.guilds.outage_event = "GUILD_DELETE" if event == "GUILD_DELETE" else "GUILD_CREATE"
        gateway.begin_outage(door.guild_id)
    ana = await people.be("ana")
    async with door.open() as front:
        await ana.wait_for_command("imagine")
        text = await ask(ana)
        job = await front.studio.only_job(int(ana.id))
        assert f"<#{job.channel_id}>" in text  # a true answer: the channel is there and hers alone
        session = await ana.wait_for_channel("session-ana")
        assert session.id == str(job.channel_id)
        await ana.wait_for_message(lambda m: "a fox" in m.text, channel=session.id)  # its card
        await front.studio.draw(job)
        await front.until_state(job.id, JobState.DELIVERED)
        await ana.wait_for_message(lambda m: m.pictures, channel=session.id)
        assert "No tienes nada en espera" in (await ana.slash("queue")).text
        assert [c.name for c in door.sandbox.world.guild(door.guild_id).channels.values()].count("sessions") == 1


async def test_what_start_up_does_for_a_guild_is_done_when_it_comes(door: FrontDoor, people: People) -> None:
    guilds_come_late(door)
    ana, elena = await people.be("ana"), await people.be("elena")
    async with door.open() as front:
        await ana.wait_for_command("imagine")
        await ask(ana)
        assert not [c for c in await elena.channels() if c.name == "admin-tools"]
        guilds_come(door)
        await elena.wait_for_channel("admin-tools")
        await ask(ana, "another fox")
        assert len([c for c in await ana.channels() if c.name == "session-ana"]) == 1
        assert (await front.studio.only_job()).channel_id == int((await ana.wait_for_channel("session-ana")).id)


async def test_the_role_of_a_member_counts_although_the_gateway_has_not_told_of_it(door: FrontDoor, people: People) -> None:
    guilds_come_late(door)
    chloe, elena = await people.be("chloe"), await people.be("elena")
    async with door.open() as front:
        await chloe.wait_for_command("imagine")
        await ask(chloe)
        await ask(elena)
        accounts = (await front.database.jobs.snapshot()).accounts
        assert accounts[UserId(int(chloe.id))].weight == 2.0  # a booster
        assert accounts[UserId(int(elena.id))].weight == 4.0  # an administrator


async def test_after_a_new_ready_a_session_is_found_and_a_result_delivered_at_once(
    door: FrontDoor, front: Front, people: People
) -> None:
    """discord.py has emptied its cache and the guild is late: nothing of that is a missing right or a missing channel."""
    ana = await people.be("ana")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    job = await front.studio.only_job()
    guilds_come_late(door)
    await a_new_ready(door, ana)
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    assert (await ana.wait_for_message(lambda m: m.pictures)).channel_id == session.id
    assert f"<#{session.id}>" in await ask(ana, "another fox")
    assert [c.id for c in await ana.channels() if c.name == "session-ana"] == [session.id]


async def test_a_guild_that_goes_out_while_running_is_served_over_rest_and_again_by_the_gateway_afterwards(
    door: FrontDoor, front: Front, people: People
) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    await ask(ana)
    door.sandbox.context.gateway.begin_outage(door.guild_id)
    await ask(bruno)
    session = await bruno.wait_for_channel("session-bruno")
    job = await front.studio.only_job(int(bruno.id))
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    door.sandbox.context.gateway.end_outage(door.guild_id)
    assert f"<#{session.id}>" in await ask(bruno, "another fox")


async def test_the_sweep_forgets_no_channel_that_discord_was_not_asked_about(door: FrontDoor, people: People) -> None:
    """The guild is late and its idle sessions are over: each channel is deleted, none is only forgotten."""
    ana = await people.be("ana")
    async with door.open() as front:
        await ask(ana)
        session = await ana.wait_for_channel("session-ana")
        job = await front.studio.only_job()
        await front.studio.draw(job)
        await front.until_state(job.id, JobState.DELIVERED)
        await make_idle(front, door, ana)
    guilds_come_late(door)
    async with door.open(session_idle_minutes=0.05):
        await ana.wait_until_gone(session.id)
    assert len(door.calls(rf"^DELETE /channels/{session.id}$")) == 1


async def make_idle(front: Front, door: FrontDoor, person: Person) -> None:
    """As if nobody had done anything there for an hour."""
    stored = await front.database.sessions.get(door.guild_id, UserId(int(person.id)))
    assert stored is not None
    await front.database.sessions.remove(stored.channel_id)
    await front.database.sessions.save(
        Session(
            user_id=stored.user_id,
            guild_id=stored.guild_id,
            channel_id=stored.channel_id,
            last_active_at=stored.last_active_at - timedelta(hours=1),
        )
    )


@pytest.mark.parametrize(
    "trouble",
    [{"status": 404, "body": "<html>Not found</html>"}, {"status": 429, "via": False}],
    ids=["a page of a proxy", "too many requests"],
)
async def test_while_discord_is_in_trouble_the_sweep_keeps_what_it_could_not_ask_about(
    door: FrontDoor, people: People, trouble: dict[str, object]
) -> None:
    ana = await people.be("ana")
    async with door.open() as front:
        await ask(ana)
        session = await ana.wait_for_channel("session-ana")
        job = await front.studio.only_job()
        await front.studio.draw(job)
        await front.until_state(job.id, JobState.DELIVERED)
        await make_idle(front, door, ana)
        idle = await front.database.sessions.by_channel(ChannelId(int(session.id)))
    door.spoil(rf"^DELETE /channels/{session.id}$", times=1_000, **trouble)
    async with door.open(session_idle_minutes=0.05) as front:
        async with asyncio.timeout(10):
            while len(door.calls(rf"^DELETE /channels/{session.id}$")) < 2:  # noqa: ASYNC110 - the log is the fact
                await asyncio.sleep(0.02)
        kept = await front.database.sessions.by_channel(ChannelId(int(session.id)))
        assert kept is not None
        assert kept == idle  # it is tried again at the next sweep, not after another idle time


async def test_one_channel_that_cannot_be_deleted_keeps_no_other_from_being_closed(door: FrontDoor, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    async with door.open() as front:
        for person in (ana, bruno):
            await ask(person)
            job = await front.studio.only_job(int(person.id))
            await front.studio.draw(job)
            await front.until_state(job.id, JobState.DELIVERED)
            await make_idle(front, door, person)
        locked = await ana.wait_for_channel("session-ana")
        channel = door.sandbox.world.channel(int(locked.id))
        for overwrite in channel.overwrites:
            if overwrite.target_id == door.sandbox.world.bot.id:
                overwrite.allow, overwrite.deny = 0, int(Permission.MANAGE_CHANNELS)
        door.sandbox.context.announcer.channel_updated(channel)
    async with door.open(session_idle_minutes=0.05):
        await bruno.wait_until_gone("session-bruno")
        assert (await ana.wait_for_channel("session-ana")).id == locked.id


async def test_a_gateway_that_says_nothing_at_all_ends_the_process_with_an_error(door: FrontDoor) -> None:
    """Not even heartbeats are acknowledged: whoever supervises the process starts it again."""
    with pytest.raises(ExceptionGroup) as ended:  # noqa: PT012 - leaving the block is what raises
        async with door.open(gateway_silence_s=0.5) as front:
            door.sandbox.context.gateway.silence()
            await front.until_ended()
    assert ended.group_contains(GatewayGone, match="said nothing")


def test_a_quiet_gateway_is_given_longer_than_its_heartbeats_take() -> None:
    assert DiscordOptions().gateway_silence_s > 3 * 41.25


async def test_near_the_days_limit_of_session_starts_the_bot_waits_before_it_identifies(door: FrontDoor) -> None:
    """At 1,000 IDENTIFYs a day Discord resets the token. Ten are left for fifty seconds: one every five."""
    sandbox = door.sandbox
    starts = sandbox.context.gateway.session_starts
    for _ in range(starts.total - 10):
        starts.count()
    sandbox.world.clock.advance(24 * 3600 - 50.0)
    sandbox.context.gateway.hello_after_s = 1.5
    begun = time.monotonic()
    # It does not give up while it waits on purpose, nor at once afterwards: its patience of three seconds begins then.
    async with door.open(gateway_patience_s=3.0):
        assert time.monotonic() - begun >= 4.0 + 1.5
    assert sandbox.context.gateway.identifies == 1
