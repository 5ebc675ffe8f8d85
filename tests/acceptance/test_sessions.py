"""Session channels: whose they are whatever happens, when they go, and where the bot does not work at all.

The world around the bot stays while the program is stopped, its database is looked into, and it is started again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import add_channel, add_guild, demo_world, invite_bot
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.world import ChannelKind, Guild, Overwrite, OverwriteKind
from tests.support.program import HouseOptions, WholeHouse, lawful_house, until
from tests.support.wishing import PATIENCE_S, ask, draw, result, results, session, sessions


def options(**settings: str) -> HouseOptions:
    return {
        "discord": DiscordSandbox(world=demo_world(guests=10)),
        "gpus": [ComfySandbox(name="gpu-1", time_scale=0.02)],
        "settings": settings,
    }


@asynccontextmanager
async def stopped(house: WholeHouse) -> AsyncIterator[sqlite3.Connection]:
    """Stop the program the clean way, look into its database, start it again."""
    assert await house.program.stop() == 0
    with closing(sqlite3.connect(house.folder / "bot_data.db")) as database:
        yield database
        database.commit()
    await house.start()


def home(house: WholeHouse) -> Guild:
    return house.discord.world.guild(int(house.program.environment["ALLOWED_GUILD_ID"]))


async def test_a_session_is_found_again_by_its_id_then_by_who_may_see_it_and_never_by_its_name(tmp_path: Path) -> None:
    """Also with an empty database, after renames, and beside a channel somebody made with the same name and topic."""
    async with lawful_house(tmp_path, **options()) as house:
        guest, thief = await house.newcomer(), await house.newcomer()
        await draw(guest, "before the restart")
        first = await session(guest)
        own = house.discord.world.channel(int(first))

        async with stopped(house):
            pass
        await draw(guest, "found by its id")
        assert await session(guest) == first

        # The database is lost, and meanwhile administrators renamed everything.
        assert await house.program.stop() == 0
        for file in house.folder.glob("bot_data.db*"):
            file.unlink()
        assert own.parent_id is not None
        category = house.discord.world.channel(own.parent_id)
        own.name, own.topic, category.name = f"atelier-of-{guest.username}", None, "Ateliers"
        trap = add_channel(house.discord.world, home(house), f"session-{guest.username}", topic="Your private FuLLet session")
        trap.parent_id = category.id
        await house.start()
        message = await draw(guest, "found by who may see it")
        assert message.channel_id == first

        # Somebody makes a channel for the guest with the rights of a session, and with one more pair of eyes: their own.
        async with stopped(house) as database:
            database.execute("DELETE FROM session")
            del home(house).channels[own.id]
            see = int(Permission.VIEW_CHANNEL)
            trap.overwrites = [
                Overwrite(target_id=home(house).id, kind=OverwriteKind.ROLE, deny=see),
                *(
                    Overwrite(target_id=target, kind=OverwriteKind.MEMBER, allow=see)
                    for target in (house.discord.world.bot.id, int(guest.id), int(thief.id))
                ),
            ]
        for person, prompt in ((thief, "of somebody else"), (guest, "made anew")):
            message = await draw(person, prompt)
            assert message.channel_id not in {first, str(trap.id)}


async def test_idle_sessions_close_by_a_timer_that_survives_restarts_and_used_ones_stay(tmp_path: Path) -> None:
    idle_s = 24.0
    async with lawful_house(tmp_path, **options(SESSION_IDLE_MINUTES=str(idle_s / 60))) as house:
        idle, active = await house.newcomer(), await house.newcomer()
        await draw(idle, "long ago")
        await draw(active, "just now")
        old = await session(idle)
        async with stopped(house) as database:
            hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
            database.execute("UPDATE session SET last_active_at = ? WHERE user_id = ?", (hour_ago, int(idle.id)))
        await idle.wait_until_gone(old, timeout=idle_s - 4)  # a timer that began anew with the process would take all of it
        assert len(await sessions(active)) == 1
        await draw(idle, "back again")
        assert await session(idle) != old


async def test_a_session_with_work_in_it_is_not_closed_however_idle(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options(SESSION_IDLE_MINUTES="0.02")) as house:
        elena, guest = await house.people.be("elena"), await house.newcomer()
        await elena.slash("admin pause")
        await ask(guest, "patience")
        waiting = await session(guest)
        other = await house.newcomer()
        await ask(other, "cancelled at once")
        shown = await other.wait_for_message(lambda m: "Paused" in m.text or "next" in m.text, timeout=PATIENCE_S)
        await other.press(shown, "Cancel")
        await other.wait_until_gone(await session(other), timeout=PATIENCE_S)  # the sweep has been by
        assert await sessions(guest) == [waiting]
        await elena.slash("admin resume")
        assert (await result(guest, "patience")).channel_id == waiting


async def test_a_full_category_overflows_and_a_full_guild_closes_the_longest_idle(tmp_path: Path) -> None:
    prepared = options()
    world = prepared["discord"].world
    guild = next(iter(world.guilds.values()))
    full = add_channel(world, guild, "sessions", ChannelKind.CATEGORY)
    for number in range(50):
        add_channel(world, guild, f"old-{number}", parent=full)
    async with lawful_house(tmp_path, **prepared) as house:
        first, second = await house.newcomer(), await house.newcomer()
        await draw(first, "in the overflow")
        parent = world.channel(int(await session(first))).parent_id
        assert parent is not None
        assert world.channel(parent).name == "sessions 2"
        while len(guild.channels) < 500:
            house.discord.context.announcer.channel_created(add_channel(world, guild, f"filler-{len(guild.channels)}"))
        oldest = await session(first)
        await draw(second, "where no room was")
        await first.wait_until_gone(oldest, timeout=PATIENCE_S)
        assert len(guild.channels) == 500


async def test_a_channel_deleted_while_something_is_owed_comes_back_and_loses_nothing(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        elena, guest = await house.people.be("elena"), await house.newcomer()
        await elena.slash("admin pause")
        await ask(guest, "a picture for a lost room")
        old = await session(guest)
        await elena.delete_channel(old)
        await guest.wait_until_gone(old, timeout=PATIENCE_S)
        await elena.slash("admin resume")
        message = await result(guest, "a picture for a lost room")
        assert message.channel_id != old
        assert [m.id for m in await results(guest)] == [message.id]
        await guest.press(message, "Again")  # and its buttons know the way
        await guest.wait_for_message(lambda m: bool(m.pictures) and m.id != message.id, timeout=PATIENCE_S)


async def test_without_a_channel_the_picture_comes_in_private(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        elena, guest = await house.people.be("elena"), await house.newcomer()
        await elena.slash("admin pause")
        await ask(guest, "by letter")
        house.discord.context.faults.add({"route": r"^POST /guilds/\d+/channels$", "code": 50013, "times": 20})
        await elena.delete_channel(await session(guest))
        await elena.slash("admin resume")
        found = await guest.wait_for_message(
            lambda m: bool(m.pictures) and "by letter" in m.text, channel="dm", timeout=PATIENCE_S
        )
        assert found.mentions == [guest.id] or found.by_bot


async def test_the_bot_works_in_one_guild_answers_in_private_and_leaves_every_other(tmp_path: Path) -> None:
    prepared = options()
    world = prepared["discord"].world
    elena_user = next(user for user in world.users.values() if user.username == "elena")
    before = add_guild(world, "Invited before the start", owner=elena_user)
    invite_bot(world, before)
    async with lawful_house(tmp_path, **prepared) as house:
        await until(lambda: world.bot.id not in before.members, "the bot to leave the guild it found")
        later = add_guild(world, "Invited later", owner=elena_user)
        invite_bot(world, later)
        house.discord.context.announcer.guild_joined(later)
        await until(lambda: world.bot.id not in later.members, "the bot to leave the guild it was invited to")
        assert world.bot.id in home(house).members

        ana = await house.people.be("ana")
        for answer in (
            await ana.slash("imagine", "dm", model="z-image", prompt="un faro"),
            await ana.slash("edit", "dm", prompt="más luz"),
        ):
            assert "Trabajo dentro de un servidor" in answer.text
        for said in ("!sync", "un faro, por favor", "¿hola?"):
            await ana.say(said, "dm")
        await draw(ana, "y sigue trabajando")
        [told] = [m for m in await ana.messages("dm") if m.by_bot and not m.is_ephemeral]
        assert "type `/imagine` in any channel there" in told.text  # the server's language: hers is not known yet


async def test_in_a_guild_it_could_not_leave_the_bot_says_that_it_works_elsewhere(tmp_path: Path) -> None:
    prepared = options()
    discord = prepared["discord"]
    otto = discord.world.add_user("otto", global_name="Otto", locale="en-US", avatar_color="#333333")
    elsewhere = add_guild(discord.world, "Elsewhere", owner=otto)
    add_channel(discord.world, elsewhere, "general")
    invite_bot(discord.world, elsewhere)
    discord.context.faults.add({"route": rf"^DELETE /users/@me/guilds/{elsewhere.id}$", "status": 403, "times": 100})
    async with lawful_house(tmp_path, **prepared) as house:
        person = await house.people.be("otto")
        for answer in (
            await person.slash("imagine", model="z-image", prompt="a fox"),
            await person.slash("admin status"),
        ):
            assert answer.text == "I only work in the server I belong to."
        assert "other_guild_not_left" in house.program.said()
        assert [channel.name for channel in elsewhere.channels.values()] == ["general"]
