"""A session channel cannot be made: people read the cause and what to do, in both languages, and never that it was our fault."""

from __future__ import annotations

import pytest

from modules.discord.rights import NEEDED_RIGHTS, RIGHTS_TO_CREATE
from modules.domain.jobs import JobState
from modules.domain.people import UserId
from modules.sandbox.discord_server.demo import EVERYONE
from modules.sandbox.discord_server.permissions import Permission
from modules.utils.i18n import Phrasebook
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People, Person

CREATE = r"^POST /guilds/\d+/channels$"
TROUBLES = [
    ({"code": 60003}, "two-factor authentication", "autenticación en dos pasos"),
    ({"status": 503, "times": 10}, "Discord is having trouble", "Discord tiene problemas"),
    ({"status": 429, "retry_after": 3_600.0, "body": {"code": 20029, "retry_after": 3_600.0, "message": "x", "global": False}},
     "Discord makes us wait another 1 h", "Discord nos hace esperar"),
    ({"code": 20028, "retry_after": 3_600.0}, "Discord makes us wait another 1 h", "Discord nos hace esperar"),
    ({"code": 30013, "times": 3}, "no room for another channel", "no cabe otro canal"),
    ({"status": 403, "body": "<html>Cloudflare</html>", "times": 3}, "Discord is having trouble", "Discord tiene problemas"),
    ({"reset": True, "times": 10}, "Discord is having trouble", "Discord tiene problemas"),
]  # fmt: skip


async def refused(person: Person) -> str:
    answer = await person.slash("imagine", model="z-image", prompt="a fox", timeout=60)
    assert not answer.failed
    return answer.text


@pytest.mark.parametrize(("fault", "english", "spanish"), TROUBLES, ids=[str(fault)[:40] for fault, _, _ in TROUBLES])
async def test_a_trouble_of_discords_is_named_and_is_not_worded_as_ours(
    door: FrontDoor, front: Front, people: People, fault: dict[str, object], english: str, spanish: str
) -> None:
    bruno, ana = await people.be("bruno"), await people.be("ana")
    for person, words in ((bruno, english), (ana, spanish)):
        door.sandbox.context.faults.clear()
        door.spoil(CREATE, **fault)
        said = await refused(person)
        assert words in said
        assert "unexpected" not in said
        assert "inesperado" not in said
    assert await front.database.jobs.jobs(limit=1) == []
    door.sandbox.context.faults.clear()
    assert "<#" in await refused(bruno)  # and it works again as soon as Discord does


async def test_where_two_factor_authentication_is_demanded_the_administrators_are_told_what_to_do(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno, elena = await people.be("bruno"), await people.be("elena")
    world = door.sandbox.world
    guild = world.guild(door.guild_id)
    guild.mfa_level, world.user(world.application.owner_id).has_two_factor = 1, False
    assert "two-factor authentication" in await refused(bruno)
    await elena.wait_for_message(lambda m: "two-factor authentication" in m.text, channel="admin-tools")


@pytest.mark.parametrize("right", RIGHTS_TO_CREATE)
async def test_the_right_that_is_missing_is_named(door: FrontDoor, front: Front, people: People, right: str) -> None:
    ana = await people.be("ana")
    guild = door.sandbox.world.guild(door.guild_id)
    bit = int(Permission[right.upper()])
    for role in guild.roles.values():
        if role.bot_id or role.id == guild.id:
            role.permissions &= ~bit
    world = door.sandbox.world
    for role in guild.roles.values():
        if role.bot_id or role.id == guild.id:
            door.sandbox.context.announcer.role("GUILD_ROLE_UPDATE", guild, role)
    member = await front.bot.known_guilds.member(door.guild_id, UserId(world.bot.id))
    assert member is not None
    artist = next(role for role in guild.roles.values() if role.name == "Artist")
    world.guild(door.guild_id).members[int(ana.id)].role_ids.append(artist.id)
    artist.permissions = int(EVERYONE)  # she herself may do everything as before
    said = await refused(ana)
    named = Phrasebook.load().texts("es")(f"permission.{right}")
    assert f"Me falta el permiso «{named}»" in said


def test_every_right_of_the_invitation_has_a_name_in_both_languages() -> None:
    for language in ("en", "es"):
        texts = Phrasebook.load().texts(language)
        assert all(texts(f"permission.{right}") for right in NEEDED_RIGHTS)


async def test_a_name_that_server_discovery_refuses_gets_a_neutral_channel_once_and_for_all(
    door: FrontDoor, front: Front, people: People
) -> None:
    chloe, elena = await people.be("chloe"), await people.be("elena")
    door.sandbox.world.guild(door.guild_id).refused_words = ["chloe", "1488"]
    assert "<#" in await refused(chloe)
    session = await front.database.sessions.get(door.guild_id, UserId(int(chloe.id)))
    assert session is not None
    name = door.sandbox.world.channel(session.channel_id).name
    assert name.startswith("session-")
    assert "chloe" not in name
    tries = len(door.calls(CREATE))
    await elena.delete_channel(str(session.channel_id))
    await chloe.wait_until_gone(str(session.channel_id))
    assert "<#" in await refused(chloe)
    made_again = len(door.calls(CREATE)) - tries
    assert made_again <= 1, "the refused name was tried again"  # the deleted channel may have come back by itself before


@pytest.mark.parametrize("shown", ["1488", "Ünïcödé ✨ 花子", "🦊🦊🦊", "x" * 32, "...", "\u200b\u200b"])
async def test_a_display_name_of_any_kind_gets_a_session(door: FrontDoor, front: Front, people: People, shown: str) -> None:
    door.sandbox.world.guild(door.guild_id).refused_words = ["1488"]
    bruno = await people.be("bruno")
    await bruno.rename(nick=shown)
    assert "<#" in await refused(bruno)


@pytest.mark.parametrize(
    "trouble",
    [{"status": 403, "body": "<html>Cloudflare</html>"}, {"code": 40333}, {"status": 429, "via": False}],
    ids=["a page of a proxy", "40333", "429"],
)
async def test_while_discord_is_in_trouble_a_result_waits_for_its_channel_and_goes_into_no_private_message(
    door: FrontDoor, front: Front, people: People, trouble: dict[str, object]
) -> None:
    """What says nothing of the channel is worth another try; private messages are for channels that cannot be had."""
    ana, elena = await people.be("ana"), await people.be("elena")
    await refused(ana)
    job = await front.studio.only_job()
    door.spoil(CREATE, times=3, **trouble)
    await elena.delete_channel(str(job.channel_id))
    await ana.wait_until_gone(str(job.channel_id))
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    result = await ana.wait_for_message(lambda m: m.pictures)
    assert result.channel_id == (await ana.wait_for_channel("session-ana")).id
    assert [m for m in await ana.messages("dm") if m.pictures] == []
