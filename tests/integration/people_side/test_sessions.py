"""Sessions: private from their first moment, found again whatever happens, closed when nobody uses them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from modules.discord.courier_client import CourierClient
from modules.discord.house import DiscordOptions
from modules.domain.jobs import JobState
from modules.domain.people import ChannelId, UserId
from modules.domain.records import PersonSettings
from modules.sandbox.discord_server.demo import add_channel, add_guild, invite_bot
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.world import ChannelKind, Overwrite, OverwriteKind
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People, Person
from tests.support.person_views import ChannelView


async def ask(person: Person, prompt: str = "a fox") -> None:
    answer = await person.slash("imagine", model="z-image", prompt=prompt)
    assert not answer.failed


async def test_the_channel_is_made_with_its_rights_in_one_call(door: FrontDoor, front: Front, people: People) -> None:
    ana = await people.be("ana")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    overwrites = {entry["id"]: entry for entry in session.raw["permission_overwrites"]}
    everyone, own = overwrites[str(door.guild_id)], overwrites[ana.id]
    assert int(everyone["deny"]) & Permission.VIEW_CHANNEL
    wanted = (
        Permission.VIEW_CHANNEL
        | Permission.SEND_MESSAGES
        | Permission.USE_APPLICATION_COMMANDS
        | Permission.READ_MESSAGE_HISTORY
        | Permission.EMBED_LINKS
        | Permission.ATTACH_FILES
    )
    assert int(own["allow"]) == wanted
    assert len(overwrites) == 3
    assert not door.calls(r"^(PATCH|PUT) /channels/\d+(/permissions.*)?$")


async def test_a_second_job_uses_the_same_channel_even_when_both_are_asked_at_once(front: Front, people: People) -> None:
    ana = await people.be("ana")
    await asyncio.gather(ask(ana), ask(ana))
    assert len([channel for channel in await ana.channels() if channel.name == "session-ana"]) == 1


async def test_a_new_name_takes_nobodys_channel(front: Front, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    await ask(ana)
    of_ana = await ana.wait_for_channel("session-ana")
    await bruno.rename(nick="ana")
    await ask(bruno)
    of_bruno = await bruno.wait_for_channel("session-ana")
    assert of_bruno.id != of_ana.id
    await ana.rename(nick="Anastasia")
    await ask(ana)
    assert [c.id for c in await ana.channels() if c.name.startswith("session-")] == [of_ana.id]


async def forget(front: Front, session: ChannelView) -> None:
    """As after the loss of the database: nobody knows any more whose channel that is."""
    await front.database.sessions.remove(ChannelId(int(session.id)))


async def test_a_forgotten_channel_is_known_again_by_who_may_see_it(front: Front, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    await ask(bruno)
    await forget(front, session)
    await ask(ana)
    assert [c.id for c in await ana.channels() if c.name == "session-ana"] == [session.id]


async def test_a_forgotten_channel_is_known_again_after_it_and_its_category_were_renamed(
    door: FrontDoor, front: Front, people: People
) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    world = door.sandbox.world
    channel = world.channel(int(session.id))
    assert channel.parent_id is not None
    category = world.channel(channel.parent_id)
    channel.name, channel.topic, category.name = "anas-atelier", "anything at all", "Ateliers"
    for changed in (channel, category):
        door.sandbox.context.announcer.channel_updated(changed)
    await forget(front, session)
    await ask(ana, "another fox")
    assert [c.id for c in await ana.channels() if c.parent_id == str(category.id)] == [session.id]
    await ask(bruno)
    assert world.channel(int((await bruno.wait_for_channel("session-bruno")).id)).parent_id == category.id  # no second one


async def test_its_topic_speaks_the_persons_language(front: Front, people: People) -> None:
    """The server is English. Ana's Discord is Spanish; Bruno chose Spanish in an English one, Darío English in a Spanish one."""
    ana, bruno, dario = await people.be("ana"), await people.be("bruno"), await people.be("dario")
    await front.database.people.save_settings(PersonSettings(user_id=UserId(int(bruno.id)), language="es"))
    await front.database.people.save_settings(PersonSettings(user_id=UserId(int(dario.id)), language="en"))
    for person, words in (
        (ana, "Tu sesión privada de FuLLet"),
        (bruno, "Tu sesión privada de FuLLet"),
        (dario, "Your private FuLLet session"),
    ):
        await ask(person)
        session = await person.wait_for_channel("session-darío" if person is dario else f"session-{person.username}")
        assert (session.topic or "").startswith(words)


async def test_a_session_made_anew_for_a_result_speaks_the_language_the_picture_was_asked_in(
    front: Front, people: People
) -> None:
    ana, elena = await people.be("ana"), await people.be("elena")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    await elena.wait_for_channel("session-ana")
    await elena.delete_channel(session.id)
    again = await ana.until(lambda: _other(ana, session.id), "another session")
    assert "Tu sesión privada" in (again.topic or "")
    await ana.wait_for_message(lambda m: m.by_bot, channel=again.id)  # its card moved along


async def _other(person: Person, known: str) -> ChannelView | None:
    return next((c for c in await person.channels() if c.name.startswith("session-") and c.id != known), None)


async def test_the_mark_that_earlier_versions_wrote_into_topics_is_simply_text(
    door: FrontDoor, front: Front, people: People
) -> None:
    """Ana's own old channel stays hers; a channel everybody sees, with her name and a copy of her topic, is not."""
    ana = await people.be("ana")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    world = door.sandbox.world
    channel = world.channel(int(session.id))
    channel.topic = f"Your private FuLLet session · fullet:{ana.id}:0123456789abcdef0123456789abcdef"
    door.sandbox.context.announcer.channel_updated(channel)
    trap = add_channel(world, world.guild(door.guild_id), "session-ana", topic=channel.topic)
    trap.parent_id = channel.parent_id
    door.sandbox.context.announcer.channel_created(trap)
    await forget(front, session)
    await ask(ana, "another fox")
    found = await front.database.sessions.get(door.guild_id, UserId(int(ana.id)))
    assert found is not None
    assert found.channel_id == int(session.id)


def _overwrite(target: int, *, allow: int = 0, deny: int = 0, kind: OverwriteKind = OverwriteKind.MEMBER) -> Overwrite:
    return Overwrite(target_id=target, kind=kind, allow=allow, deny=deny)


@pytest.mark.parametrize(
    "seen_by", ["everyone", "a role", "another member", "a denied and allowed one", "nobody", "her alone, but elsewhere"]
)
async def test_a_channel_that_others_can_see_is_never_taken_for_a_session(
    door: FrontDoor, front: Front, people: People, seen_by: str
) -> None:
    """Whoever may make channels can make one with any name and rights; one that others see proves nothing."""
    ana, bruno = await people.be("ana"), await people.be("bruno")
    await ask(bruno)
    category_id = door.sandbox.world.channel(int((await bruno.wait_for_channel("session-bruno")).id)).parent_id
    world = door.sandbox.world
    guild = world.guild(door.guild_id)
    view = int(Permission.VIEW_CHANNEL)
    trap = add_channel(world, guild, "session-ana")
    trap.parent_id = category_id
    trap.overwrites = [_overwrite(world.bot.id, allow=view), _overwrite(int(ana.id), allow=view)]
    if seen_by != "everyone":
        trap.overwrites.append(_overwrite(guild.id, deny=view, kind=OverwriteKind.ROLE))
    match seen_by:
        case "a role":
            artists = next(role for role in guild.roles.values() if role.name == "Artist")
            trap.overwrites.append(_overwrite(artists.id, allow=view, kind=OverwriteKind.ROLE))
        case "another member":
            trap.overwrites.append(_overwrite(int(bruno.id), allow=view))
        case "a denied and allowed one":
            trap.overwrites.append(_overwrite(int(bruno.id), allow=view, deny=view))
        case "her alone, but elsewhere":
            trap.parent_id = None
        case "nobody":
            trap.overwrites = [one for one in trap.overwrites if one.target_id != int(ana.id)]
    door.sandbox.context.announcer.channel_created(trap)
    if seen_by in {"another member", "a denied and allowed one"}:
        assert str(trap.id) in {channel.id for channel in await bruno.channels()}
    await ask(ana)
    session = await front.database.sessions.get(door.guild_id, UserId(int(ana.id)))
    assert session is not None
    assert session.channel_id != trap.id


async def test_a_channel_that_was_given_to_another_member_is_no_longer_this_ones(
    door: FrontDoor, front: Front, people: People
) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    channel = door.sandbox.world.channel(int(session.id))
    for overwrite in channel.overwrites:
        overwrite.target_id = int(bruno.id) if overwrite.target_id == int(ana.id) else overwrite.target_id
    door.sandbox.context.announcer.channel_updated(channel)
    await bruno.wait_for_channel("session-ana")
    await ask(ana, "another fox")
    assert (await ana.wait_for_channel("session-ana")).id != session.id
    await ask(bruno)
    assert [c.id for c in await bruno.channels() if c.name.startswith("session-")] == [session.id]


async def test_two_processes_that_make_a_channel_for_the_same_person_at_once_keep_one(
    door: FrontDoor, front: Front, people: People
) -> None:
    """The gateway and a courier of the same house: each has its own client and its own memory, the database is empty."""
    ana, bruno = await people.be("ana"), await people.be("bruno")
    await ask(bruno)  # the category is there
    courier = CourierClient(front.house, DiscordOptions(allowed_guild_id=door.guild_id))
    running = asyncio.create_task(courier.run_with(door.sandbox.bot_token))
    try:
        async with asyncio.timeout(10):
            await courier.when_ready()
        door.spoil(r"^POST /guilds/\d+/channels$", times=2, delay_s=0.5)
        user_id = UserId(int(ana.id))
        made = await asyncio.gather(
            *(rooms.reopen(door.guild_id, user_id, language="es") for rooms in (front.bot.rooms, courier.rooms))
        )
        assert len({session.channel_id for session in made if session is not None}) == 1
        assert len([c for c in await ana.channels() if c.name == "session-ana"]) == 1
        assert None not in made
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_channel_somebody_opened_to_everyone_is_hidden_again(door: FrontDoor, front: Front, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    channel = door.sandbox.world.channel(int(session.id))
    channel.overwrites = [Overwrite(target_id=door.guild_id, kind=OverwriteKind.ROLE, allow=int(Permission.VIEW_CHANNEL))]
    door.sandbox.context.announcer.channel_updated(channel)
    await bruno.wait_for_channel("session-ana")

    await front.studio.draw(await front.studio.only_job())
    await bruno.wait_until_gone("session-ana")
    result = await ana.wait_for_message(lambda m: m.pictures, channel=session.id)
    assert result.channel_id == session.id


async def test_who_may_not_see_their_session_any_more_is_let_in_again(door: FrontDoor, front: Front, people: People) -> None:
    """Somebody took the person's own rights away: the next picture, or the next command elsewhere, gives them back."""
    ana = await people.be("ana")
    await ask(ana)
    session = await ana.wait_for_channel("session-ana")
    channel = door.sandbox.world.channel(int(session.id))

    async def shut_out() -> None:
        channel.overwrites = [overwrite for overwrite in channel.overwrites if overwrite.target_id != int(ana.id)]
        door.sandbox.context.announcer.channel_updated(channel)
        await ana.wait_until_gone("session-ana")

    await shut_out()
    await front.studio.draw(await front.studio.only_job(int(ana.id)))
    assert (await ana.wait_for_channel("session-ana")).id == session.id
    await ana.wait_for_message(lambda m: m.pictures, channel=session.id)
    await shut_out()
    await ask(ana, "another fox")
    assert (await ana.wait_for_channel("session-ana")).id == session.id


async def test_an_idle_session_goes_and_one_with_work_in_it_stays(door: FrontDoor, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    async with door.open(session_idle_minutes=60.0) as first:
        await ask(ana)
        await first.studio.draw(await first.studio.only_job())
        await first.until_state((await first.studio.only_job()).id, JobState.DELIVERED)
        await ask(bruno)
        for session in await first.database.sessions.all(door.guild_id):
            long_ago = session.last_active_at - timedelta(minutes=59)
            await first.database.sessions.remove(session.channel_id)
            await first.database.sessions.save(type(session)(
                user_id=session.user_id, guild_id=session.guild_id, channel_id=session.channel_id, last_active_at=long_ago
            ))  # fmt: skip
    async with door.open(session_idle_minutes=0.05):  # the timers survived the restart: they stand in the database
        await ana.wait_until_gone("session-ana")
        assert (await bruno.wait_for_channel("session-bruno")).name == "session-bruno"


async def test_a_deleted_channel_comes_back_while_something_is_owed(front: Front, people: People) -> None:
    ana, elena = await people.be("ana"), await people.be("elena")
    await ask(ana, "un faro")
    old = await ana.wait_for_channel("session-ana")
    await ana.wait_for_message(lambda m: "un faro" in m.text, channel=old.id)
    await elena.delete_channel(old.id)
    await ana.wait_until_gone(old.id)
    new = await ana.wait_for_channel("session-ana")
    card = await ana.wait_for_message(lambda m: "un faro" in m.text, channel=new.id)
    assert card.button("Cancelar").label == "Cancelar"
    await front.studio.draw(await front.studio.only_job())
    await ana.wait_for_message(lambda m: m.pictures, channel=new.id)


async def test_a_channel_deleted_in_an_outage_comes_back_with_every_card_after_it(
    door: FrontDoor, front: Front, people: People
) -> None:
    """Discord takes no new channel just then; the first result makes it, and what still waits moves there too."""
    ana, elena = await people.be("ana"), await people.be("elena")
    await ask(ana, "un faro")
    old = await ana.wait_for_channel("session-ana")
    first = await front.studio.only_job()
    await ask(ana, "una barca")
    await ana.wait_for_message(lambda m: "una barca" in m.text, channel=old.id)
    door.spoil(r"^POST /guilds/\d+/channels$", times=1, status=503)
    tried = len(door.calls(r"^POST /guilds/\d+/channels$"))
    await elena.delete_channel(old.id)
    await front.until_job(first.id, lambda _: len(door.calls(r"^POST /guilds/\d+/channels$")) > tried)
    await front.studio.draw(first)
    new = await ana.wait_for_channel("session-ana")
    await ana.wait_for_message(lambda m: m.pictures, channel=new.id)
    card = await ana.wait_for_message(lambda m: "una barca" in m.text and not m.pictures, channel=new.id)
    assert card.button("Cancelar").label == "Cancelar"


async def test_a_full_category_overflows_into_the_next(door: FrontDoor, people: People) -> None:
    world = door.sandbox.world
    guild = world.guild(door.guild_id)
    full = add_channel(world, guild, "sessions", ChannelKind.CATEGORY)
    for number in range(50):
        add_channel(world, guild, f"old-{number}", parent=full)
    async with door.open():
        ana = await people.be("ana")
        await ask(ana)
        session = await ana.wait_for_channel("session-ana")
        assert session.parent_id is not None
        assert world.channel(int(session.parent_id)).name == "sessions 2"


async def test_a_crowd_of_newcomers_shares_one_new_category(door: FrontDoor, front: Front, people: People) -> None:
    crowd = [await people.be(name) for name in ("ana", "bruno", "chloe", "dario", "zoe")]
    door.spoil(r"^POST /guilds/\d+/channels$", times=1, delay_s=0.5)  # the category is long in the making
    await asyncio.gather(*(ask(person) for person in crowd))
    made = [channel.name for channel in door.sandbox.world.guild(door.guild_id).channels.values()]
    assert [name for name in made if name.startswith("sessions")] == ["sessions"]
    assert len([name for name in made if name.startswith("session-")]) == len(crowd)


async def test_in_a_full_guild_the_longest_idle_session_makes_room(door: FrontDoor, people: People) -> None:
    ana, bruno, elena = await people.be("ana"), await people.be("bruno"), await people.be("elena")
    world = door.sandbox.world
    guild = world.guild(door.guild_id)
    async with door.open() as front:
        await ask(bruno)
        job = await front.studio.only_job()
        await front.studio.draw(job)
        await front.until_state(job.id, JobState.DELIVERED)
        while len(guild.channels) < 500:
            filler = add_channel(world, guild, f"filler-{len(guild.channels)}")
            door.sandbox.context.announcer.channel_created(filler)
        await ask(ana)
        await ana.wait_for_channel("session-ana")
        await bruno.wait_until_gone("session-bruno")
        assert len(guild.channels) == 500
        assert elena.id


async def test_a_missing_permission_is_named(door: FrontDoor, front: Front, people: People) -> None:
    ana = await people.be("ana")
    guild = door.sandbox.world.guild(door.guild_id)
    role = next(role for role in guild.roles.values() if role.bot_id)
    role.permissions &= ~int(Permission.MANAGE_CHANNELS)
    door.sandbox.context.announcer.role("GUILD_ROLE_UPDATE", guild, role)
    await asyncio.sleep(0.1)  # the gateway carries it; there is no event of ours to wait for
    answer = await ana.slash("imagine", model="z-image", prompt="un faro")
    assert "Me falta el permiso «Gestionar canales»" in answer.text


async def test_other_guilds_are_left(door: FrontDoor, front: Front, people: People) -> None:
    elena = await people.be("elena")
    world = door.sandbox.world
    other = add_guild(world, "Elsewhere", owner=world.user(int(elena.id)))
    invite_bot(world, other)
    door.sandbox.context.announcer.guild_joined(other)
    async with asyncio.timeout(5):
        while not door.calls(rf"^DELETE /users/@me/guilds/{other.id}$"):  # noqa: ASYNC110 - the log is the fact
            await asyncio.sleep(0.02)


async def test_who_leaves_waits_for_nothing(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await ask(bruno)
    job = await front.studio.only_job()
    await bruno.leave()
    await front.until_state(job.id, JobState.CANCELLED)
