"""Rights, limits and faults at the Discord stand-in, met by a real discord.py bot."""

import asyncio
import io
from collections.abc import Callable, Coroutine

import aiohttp
import discord
import pytest

from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.permissions import Permission
from tests.support.discord_side import RealBot, real_bot
from tests.support.http_face import HttpFace
from tests.support.person import People, Refused

Act = Callable[[RealBot], Coroutine[object, object, object]]


@pytest.mark.parametrize(
    ("taken", "act", "code"),
    [
        (Permission.SEND_MESSAGES, lambda bot: bot.text_channel().send("x"), 50013),
        (Permission.VIEW_CHANNEL, lambda bot: bot.text_channel().send("x"), 50001),
        (Permission.ATTACH_FILES, lambda bot: bot.text_channel().send(file=discord.File(io.BytesIO(b"x"), "x.txt")), 50013),
        (Permission.EMBED_LINKS, lambda bot: bot.text_channel().send(embed=discord.Embed(title="x")), 50013),
        (Permission.MANAGE_CHANNELS, lambda bot: bot.home.create_text_channel("x"), 50013),
        (Permission.MANAGE_CHANNELS, lambda bot: bot.text_channel().delete(), 50013),
        (Permission.READ_MESSAGE_HISTORY, lambda bot: bot.text_channel().fetch_message(1), 50001),
    ],
)
async def test_a_right_that_was_taken_is_missed_with_discords_own_code(
    bot: RealBot, face: HttpFace, taken: Permission, act: Act, code: int
) -> None:
    for role in ("bot", "@everyone"):
        await face.control("permissions", role=role, deny=str(int(taken)))
    with pytest.raises(discord.Forbidden) as refused:
        await act(bot)
    assert refused.value.code == code


async def test_the_bot_gives_only_what_it_has_and_stands_below_higher_roles(bot: RealBot, people: People) -> None:
    ana = bot.home.get_member(int((await people.be("ana")).id))
    elena = bot.home.get_member(int((await people.be("elena")).id))
    assert ana is not None
    assert elena is not None
    with pytest.raises(discord.Forbidden, match="50013"):
        await bot.text_channel().set_permissions(ana, overwrite=discord.PermissionOverwrite(ban_members=True))
    artist = discord.utils.get(bot.home.roles, name="Artist")
    assert artist is not None
    await ana.add_roles(artist)
    await bot.hear("member_update", lambda member: artist in member.roles)  # type: ignore[attr-defined]
    with pytest.raises(discord.Forbidden, match="50013"):
        await elena.edit(nick="below me")  # she owns the guild


async def test_somebody_in_a_time_out_reads_but_does_not_write(bot: RealBot, people: People) -> None:
    ana, elena = await people.be("ana"), await people.be("elena")
    await elena.administer("timeout", user=ana.id, seconds=60)
    with pytest.raises(Refused, match="50013"):
        await ana.say("let me")
    assert await ana.messages() == []


async def test_other_guilds_can_be_left_and_their_members_are_gone(bot: RealBot, face: HttpFace, people: People) -> None:
    await face.control("guilds", name="Elsewhere")
    joined = await bot.hear("guild_join")
    assert isinstance(joined, discord.Guild)
    await joined.leave()
    with pytest.raises(discord.NotFound, match="10004"):
        await bot.fetch_guild(joined.id)
    ana = await people.be("ana")
    await ana.leave()
    gone = await bot.hear("member_remove")
    assert gone.id == int(ana.id)  # type: ignore[attr-defined]
    with pytest.raises(discord.NotFound, match="10007"):
        await bot.home.fetch_member(int(ana.id))


@pytest.mark.parametrize("how", ["close_dms", "leave"])
async def test_private_messages_end_when_a_person_refuses_them_or_leaves(bot: RealBot, people: People, how: str) -> None:
    ana = await people.be("ana")
    user = bot.get_user(int(ana.id))
    assert user is not None
    await user.send("hello")
    await getattr(ana, how)()
    with pytest.raises(discord.Forbidden, match="50007"):
        await user.send("are you there?")
    assert [m.content for m in await ana.messages("dm")] == ["hello"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"content": "x" * 2001}, "BASE_TYPE_MAX_LENGTH"),
        ({"content": "x", "flags": 32768}, "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2"),
        ({"components": [{"type": 10, "content": "no flag"}]}, "UNION_TYPE_CHOICES"),
        ({"flags": 32768, "components": [{"type": 10, "content": "x"}] * 41}, "COMPONENT_MAX_TOTAL_COMPONENTS_EXCEEDED"),
        ({"flags": 32768, "components": [{"type": 10, "content": "x" * 2500}] * 2}, "COMPONENT_DISPLAYABLE_TEXT_SIZE_EXCEEDED"),
        (
            {"flags": 32768, "components": [{"type": 12, "items": [{"media": {"url": "attachment://no.png"}}]}]},
            "UNFURLED_MEDIA_ITEM_REFERENCED_ATTACHMENT_NOT_FOUND",
        ),
        (
            {"components": [{"type": 1, "components": [{"type": 2, "style": 1, "label": "a", "custom_id": "x" * 101}]}]},
            "BASE_TYPE_BAD_LENGTH",
        ),
        (
            {"components": [{"type": 1, "components": [{"type": 2, "style": 1, "label": "a", "custom_id": "x"}] * 2}]},
            "COMPONENT_CUSTOM_ID_DUPLICATED",
        ),
        (
            {
                "components": [
                    {
                        "type": 1,
                        "components": [
                            {"type": 3, "custom_id": "s", "options": [{"label": str(n), "value": str(n)} for n in range(26)]}
                        ],
                    }
                ]
            },
            "BASE_TYPE_BAD_LENGTH",
        ),
        ({"embeds": [{"description": "x" * 4000}, {"description": "x" * 2001}]}, "MAX_EMBED_SIZE_EXCEEDED"),
        ({"content": "x", "nonce": "y" * 26}, "BASE_TYPE_MAX_LENGTH"),
    ],
)
async def test_what_discord_refuses_in_a_message_is_refused_and_noted(
    sandbox: DiscordSandbox, face: HttpFace, body: dict[str, object], where: str
) -> None:
    guild = next(iter(sandbox.world.guilds.values()))
    general = next(c for c in guild.channels.values() if c.name == "general")
    status, answer = await face.rest("POST", f"/channels/{general.id}/messages", body)
    assert (status, answer["code"]) == (400, 50035)
    assert where in str(answer["errors"])
    assert len(await face.wrong("limit")) == 1


async def test_empty_messages_and_files_over_ten_mebibytes_are_refused(bot: RealBot) -> None:
    with pytest.raises(discord.HTTPException, match="50006"):
        await bot.text_channel().send("")
    with pytest.raises(discord.HTTPException, match="40005"):
        await bot.text_channel().send(file=discord.File(io.BytesIO(bytes(10 * 1024 * 1024 + 1)), "big.bin"))


async def test_a_category_holds_fifty_channels_and_a_guild_five_hundred(
    sandbox: DiscordSandbox, bot: RealBot, face: HttpFace
) -> None:
    category = await bot.home.create_category("full")
    for number in range(50):
        await category.create_text_channel(f"c{number}")
    with pytest.raises(discord.HTTPException, match="Maximum number of channels in category reached"):
        await category.create_text_channel("one too many")
    guild = sandbox.world.guilds[bot.home.id]
    template = next(iter(guild.channels.values()))
    while len(guild.channels) < 500:
        guild.channels[sandbox.world.ids.next()] = template
    with pytest.raises(discord.HTTPException, match="30013"):
        await bot.home.create_text_channel("one too many")


async def test_a_third_rename_within_ten_minutes_must_wait_that_long(sandbox: DiscordSandbox, face: HttpFace) -> None:
    guild = next(iter(sandbox.world.guilds.values()))
    general = next(c for c in guild.channels.values() if c.name == "general")
    for name in ("one", "two"):
        assert (await face.rest("PATCH", f"/channels/{general.id}", {"name": name}))[0] == 200
    status, answer = await face.rest("PATCH", f"/channels/{general.id}", {"name": "three"})
    assert status == 429
    assert 590 < answer["retry_after"] <= 600
    await face.control("clock", advance_s=601)
    assert (await face.rest("PATCH", f"/channels/{general.id}", {"name": "three"}))[0] == 200


async def test_messages_older_than_an_hour_can_be_edited_only_so_often(bot: RealBot, face: HttpFace) -> None:
    old = await bot.text_channel().send("old")
    for _ in range(5):
        await old.edit(content="young edits are free")
    await face.control("clock", advance_s=3601)
    for _ in range(3):
        await old.edit(content="again")
    status, answer = await face.rest("PATCH", f"/channels/{old.channel.id}/messages/{old.id}", {"content": "once more"})
    assert (status, answer["code"]) == (429, 30046)
    await bot.text_channel().send("a new message is always fine")


COMMAND = {"name": "ok", "description": "fine", "type": 1}
OPTION = {"type": 3, "name": "a", "description": "d"}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"name": "With Spaces"}, "APPLICATION_COMMAND_INVALID_NAME"),
        ({"name": "Upper"}, "APPLICATION_COMMAND_INVALID_NAME"),
        ({"description": "x" * 101}, "BASE_TYPE_BAD_LENGTH"),
        ({"name_localizations": {"xx": "name"}}, "BASE_TYPE_CHOICES"),
        ({"options": [OPTION, {**OPTION, "name": "b", "required": True}]}, "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID"),
        ({"options": [OPTION, OPTION]}, "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS"),
        ({"options": [{**OPTION, "choices": [{"name": "x", "value": str(n)} for n in range(26)]}]}, "BASE_TYPE_MAX_LENGTH"),
        ({"options": [OPTION, {"type": 1, "name": "sub", "description": "d"}]}, "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID"),
        (
            {
                "options": [
                    {**OPTION, "name": f"o{n}", "choices": [{"name": str(c) * 10, "value": "v" * 100} for c in range(5)]}
                    for n in range(25)
                ]
            },
            "APPLICATION_COMMAND_TOO_LARGE",
        ),
    ],
)
async def test_command_definitions_are_held_to_discords_rules(
    sandbox: DiscordSandbox, face: HttpFace, changes: dict[str, object], where: str
) -> None:
    path = f"/applications/{sandbox.world.application.id}/commands"
    status, answer = await face.rest("PUT", path, [COMMAND | changes])
    assert (status, answer["code"]) == (400, 50035)
    assert where in str(answer["errors"])
    assert (await face.rest("PUT", path, [COMMAND]))[0] == 200


async def test_overwriting_commands_keeps_the_ids_of_those_that_stay(sandbox: DiscordSandbox, face: HttpFace) -> None:
    path = f"/applications/{sandbox.world.application.id}/commands"
    _, first = await face.rest("PUT", path, [COMMAND, COMMAND | {"name": "other"}])
    _, second = await face.rest("PUT", path, [COMMAND, COMMAND | {"name": "new"}])
    assert second[0] == first[0]
    assert {c["name"] for c in second} == {"ok", "new"}
    _, third = await face.rest("PUT", path, [COMMAND | {"description": "better"}])
    assert third[0]["id"] == first[0]["id"]
    assert third[0]["version"] != first[0]["version"]


async def test_with_rate_limits_on_discord_py_waits_and_no_request_is_too_many() -> None:
    async with DiscordSandbox(rate_limits=True) as sandbox, aiohttp.ClientSession() as session, real_bot(sandbox) as bot:
        face = HttpFace(sandbox, session)
        await asyncio.gather(*(bot.text_channel().send(str(n)) for n in range(6)))  # five, then a wait of five seconds
        assert await face.wrong() == []
        showcase = bot.text_channel("showcase").id
        answers = [await face.rest("POST", f"/channels/{showcase}/messages", {"content": "x"}) for _ in range(6)]
        assert [status for status, _ in answers] == [200] * 5 + [429]
        assert 0 < answers[-1][1]["retry_after"] <= 5
        assert any("rate limit of POST /channels" in line for line in await face.wrong("limit"))


async def test_faults_strike_as_often_as_they_were_told_and_lost_answers_did_happen(
    sandbox: DiscordSandbox, bot: RealBot, face: HttpFace, people: People
) -> None:
    ana, channel = await people.be("ana"), bot.text_channel()
    route = "POST /channels/.*/messages"
    await face.control("faults", route=route, status=429, retry_after=0.05, times=2)
    await channel.send("after two 429s")
    await face.control("faults", route=route, status=503, times=1)
    with pytest.raises(discord.DiscordServerError):
        await channel.send("never sent")
    await face.control("faults", route=route, status=429, via=False, times=1)
    with pytest.raises(discord.HTTPException, match="429"):
        await channel.send("banned by the proxy")
    await face.control("faults", route=route, reset=True, times=1)
    with pytest.raises(aiohttp.ClientError):
        await channel.send("cut off")
    await face.control("faults", route=route, reset=True, after=True, times=1)
    with pytest.raises(aiohttp.ClientError):
        await channel.send("sent, but the answer was lost")
    await face.control("faults", route=route, status=500, times=99)
    await face.end_faults()
    await channel.send("fine again")
    seen = [m.content for m in await ana.messages()]
    assert seen == ["after two 429s", "sent, but the answer was lost", "fine again"]
    statuses = [r["status"] for r in await face.look("requests") if r["route"] == "/channels/{channel_id}/messages"]
    assert statuses == [429, 429, 200, 503, 429, 0, 0, 200]


async def test_a_hidden_category_is_listed_for_whoever_sees_a_channel_inside_it(bot: RealBot, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    seen = discord.PermissionOverwrite(view_channel=True)
    hidden: dict[discord.Role | discord.Member | discord.Object, discord.PermissionOverwrite] = {
        bot.home.default_role: discord.PermissionOverwrite(view_channel=False),
        bot.home.me: seen,
    }
    category = await bot.home.create_category("sessions", overwrites=hidden)
    for_ana = {**hidden, discord.Object(int(ana.id), type=discord.Member): seen}
    inside = await category.create_text_channel("of-ana", overwrites=for_ana)
    await ana.wait_for("CHANNEL_CREATE", lambda d: d["id"] == str(inside.id))
    told = [event.d["id"] for event in ana.events if event.t == "CHANNEL_CREATE"]
    assert told == [str(category.id), str(inside.id)]
    assert [channel.name for channel in await ana.channels()][-2:] == ["sessions", "of-ana"]
    assert not {"sessions", "of-ana"} & {channel.name for channel in await bruno.channels()}

    await inside.delete()
    await ana.wait_for("CHANNEL_DELETE", lambda d: d["id"] == str(category.id))
    assert "sessions" not in [channel.name for channel in await ana.channels()]
    assert [event for event in bruno.events if event.t.startswith("CHANNEL_")] == []
