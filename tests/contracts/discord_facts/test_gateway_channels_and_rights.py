"""One test for each fact about gateway, channels, rights, callbacks and commands that the program builds on.

Over the simulated Discord and a real discord.py. Each docstring names the source of the fact; (O) means observed and reported by
others, not documented.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import discord
import pytest
from aiohttp import ClientWebSocketResponse

from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import add_channel
from modules.sandbox.discord_server.gateway import CloseCode, Op
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.world import ChannelKind, Guild, Overwrite, OverwriteKind
from tests.support.discord_side import RealBot, real_bot
from tests.support.http_face import HttpFace, Json
from tests.support.person import People, Refused

GUILDS = int(discord.Intents(guilds=True).value)


def home(sandbox: DiscordSandbox) -> Guild:
    return next(iter(sandbox.world.guilds.values()))


@asynccontextmanager
async def a_socket(sandbox: DiscordSandbox) -> AsyncIterator[ClientWebSocketResponse]:
    """A gateway connection that has identified, without discord.py."""
    async with aiohttp.ClientSession() as session, session.ws_connect(sandbox.gateway_url) as socket:
        assert (await socket.receive_json())["op"] == Op.HELLO
        await socket.send_json({"op": Op.IDENTIFY, "d": {"token": sandbox.bot_token, "intents": GUILDS}})
        yield socket


async def an_event(socket: ClientWebSocketResponse) -> tuple[str, Json]:
    async with asyncio.timeout(5):
        payload = await socket.receive_json()
    return payload["t"], payload["d"]


# --- gateway --------------------------------------------------------------------------------------------------------------------


async def test_in_ready_every_guild_is_unavailable_and_each_comes_later_as_guild_create(
    sandbox: DiscordSandbox, face: HttpFace
) -> None:
    """Docs: Gateway Events "Ready", "Guild Create". How much later, nobody says: minutes are possible (discord-api-docs 5054)."""
    await face.control("gateway", action="late_guilds")
    guild_id = str(home(sandbox).id)
    async with a_socket(sandbox) as socket:
        name, ready = await an_event(socket)
        assert (name, ready["guilds"]) == ("READY", [{"id": guild_id, "unavailable": True}])
        await face.control("gateway", action="release_guilds")
        name, guild = await an_event(socket)
        assert (name, guild["id"], guild["unavailable"]) == ("GUILD_CREATE", guild_id, False)
        assert guild["channels"]
        assert guild["roles"]


@pytest.mark.parametrize("event", ["GUILD_DELETE", "GUILD_CREATE"])
async def test_in_an_outage_an_event_with_unavailable_comes_instead_and_the_guild_afterwards(
    sandbox: DiscordSandbox, face: HttpFace, event: str
) -> None:
    """Docs: "Guild Create", "Guild Delete"; discord-api-docs 5054."""
    guild = home(sandbox)
    await face.control("gateway", action="begin_outage", event=event)
    async with a_socket(sandbox) as socket:
        assert (await an_event(socket))[0] == "READY"
        assert await an_event(socket) == (event, {"id": str(guild.id), "unavailable": True})
        await face.control("gateway", action="end_outage")
        name, back = await an_event(socket)
        assert (name, back["name"]) == ("GUILD_CREATE", guild.name)


async def test_discord_py_says_ready_without_the_guild_which_then_has_no_channels_no_roles_and_no_me(
    sandbox: DiscordSandbox,
) -> None:
    """(O) Rapptz/discord.py 5816, 5091; Cog-Creators/Red-DiscordBot 5173."""
    sandbox.context.gateway.guilds.late_s = float("inf")
    async with real_bot(sandbox) as bot:
        guild: Json = bot.home  # its types promise what is not there
        assert guild.unavailable
        assert (list(guild.channels), list(guild.roles), guild.me, guild.default_role) == ([], [], None, None)
        assert bot.get_channel(next(iter(home(sandbox).channels))) is None


async def test_a_new_ready_empties_discord_pys_cache(sandbox: DiscordSandbox, people: People) -> None:
    """Docs: Gateway (disconnects are "semi-regular", some sessions cannot resume); discord.py `ConnectionState.parse_ready`."""
    async with real_bot(sandbox) as bot:
        ana = await people.be("ana")
        assert bot.text_channel("general") is not None
        sandbox.context.gateway.guilds.late_s = float("inf")
        sandbox.context.gateway.invalidate(resumable=False)
        await ana.wait_for("BOT_STATUS", lambda data: not data["online"])
        await ana.wait_for_bot()
        async with asyncio.timeout(5):
            while bot.home.channels:  # noqa: ASYNC110 - discord.py tells nobody that it has emptied its cache
                await asyncio.sleep(0.01)
        assert bot.home.unavailable


async def test_an_interaction_comes_although_its_guild_has_not(sandbox: DiscordSandbox, people: People) -> None:
    """Docs: Receiving and Responding: interactions are events of the application, not of a guild's stream."""
    sandbox.context.gateway.guilds.late_s = float("inf")

    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Say where")
        async def where(interaction: discord.Interaction[RealBot]) -> None:
            assert interaction.guild is not None
            await interaction.response.send_message(f"{interaction.guild.unavailable} {interaction.permissions.send_messages}")

        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        assert (await (await people.be("ana")).slash("where")).text == "True True"


async def test_guild_delete_without_unavailable_means_removed(sandbox: DiscordSandbox, people: People) -> None:
    """Docs: Gateway Events "Guild Delete"."""
    async with a_socket(sandbox) as socket:
        assert [(await an_event(socket))[0], (await an_event(socket))[0]] == ["READY", "GUILD_CREATE"]
        elena = await people.be("elena")
        await elena.administer("kick", user=str(sandbox.world.bot.id))
        assert await an_event(socket) == ("GUILD_DELETE", {"id": str(home(sandbox).id)})


async def test_the_1001st_identify_of_a_day_costs_the_token(sandbox: DiscordSandbox, face: HttpFace) -> None:
    """Docs: Gateway "Identifying", "Session Start Limit Object"."""
    token, starts = sandbox.bot_token, sandbox.context.gateway.session_starts
    for _ in range(999):
        starts.count()
    async with a_socket(sandbox) as socket:
        assert (await an_event(socket))[0] == "READY"
    status, told = await face.rest("GET", "/gateway/bot")
    limit = told["session_start_limit"]
    assert (status, limit["total"], limit["remaining"], limit["max_concurrency"]) == (200, 1000, 0, 1)
    assert 0 < limit["reset_after"] <= 24 * 3600 * 1000
    async with a_socket(sandbox) as socket:
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, CloseCode.AUTHENTICATION_FAILED)
    assert (await face.rest("GET", "/users/@me", token=token))[0] == 401
    sandbox.world.clock.advance(24 * 3600)
    assert starts.remaining == 1000


async def test_an_interaction_that_is_replayed_after_a_resume_is_too_old_to_be_answered() -> None:
    """Docs: Gateway "Resuming"; Receiving and Responding (three seconds): 10062."""
    async with (
        DiscordSandbox(answer_within_s=0.2) as sandbox,
        People(sandbox.page_url) as people,
        aiohttp.ClientSession() as session,
    ):
        face, ana = HttpFace(sandbox, session), await people.be("ana")
        command = {"name": "late", "description": "x", "type": 1}
        await face.rest("PUT", f"/applications/{sandbox.world.application.id}/commands", [command])
        async with a_socket(sandbox) as socket:
            _, ready = await an_event(socket)
            await an_event(socket)
        known = next(iter(sandbox.context.gateway.sessions.values()), None)
        assert known is None  # a clean close ends the session; a broken one is kept
        async with a_socket(sandbox) as socket:
            _, ready = await an_event(socket)
            await an_event(socket)
            sandbox.context.gateway.drop(resumable=True)
            assert (await ana.slash("late")).failed
        async with session.ws_connect(sandbox.gateway_url) as socket:
            await socket.receive_json()
            resume = {"token": sandbox.bot_token, "session_id": ready["session_id"], "seq": 2}
            await socket.send_json({"op": Op.RESUME, "d": resume})
            name, interaction = await an_event(socket)
            assert name == "INTERACTION_CREATE"
            path = f"/interactions/{interaction['id']}/{interaction['token']}/callback"
            status, body = await face.rest("POST", path, {"type": 5})
            assert (status, body["code"]) == (404, 10062)


# --- channels and rights --------------------------------------------------------------------------------------------------------


async def test_names_are_filtered_in_servers_of_discovery_and_the_field_and_its_code_tell(
    sandbox: DiscordSandbox, bot: RealBot, face: HttpFace
) -> None:
    """(O) Dragory/modmailbot 651, 694; python-discord/bot 2282; discord-tickets/bot 262: 50035, also for numbers such as 1488."""
    home(sandbox).refused_words = ["1488"]
    status, body = await face.rest("POST", f"/guilds/{home(sandbox).id}/channels", {"name": "ticket-1488"})
    assert (status, body["code"]) == (400, 50035)
    assert body["errors"]["name"]["_errors"][0]["code"] == "INVALID_COMMUNITY_PROPERTY_NAME"
    with pytest.raises(discord.HTTPException, match="In name: Contains words not allowed"):
        await bot.home.create_text_channel("ticket-1488")
    assert (await bot.home.create_text_channel("ticket-abc")).name == "ticket-abc"


async def test_overwrites_of_a_new_channel_contain_only_what_the_bot_has_in_the_server(
    sandbox: DiscordSandbox, bot: RealBot
) -> None:
    """Docs: Create Guild Channel; (M) discord-api-docs 2522, 2524. A right that only the category gives does not count."""
    category = add_channel(sandbox.world, home(sandbox), "generous", ChannelKind.CATEGORY)
    generous = int(Permission.MENTION_EVERYONE | Permission.VIEW_CHANNEL)
    category.overwrites = [Overwrite(target_id=sandbox.world.bot.id, kind=OverwriteKind.MEMBER, allow=generous)]
    inside = discord.Object(category.id)
    for rights in (
        discord.PermissionOverwrite(mention_everyone=True),
        discord.PermissionOverwrite(mention_everyone=False),
        discord.PermissionOverwrite(manage_roles=True),  # although the bot has it
    ):
        with pytest.raises(discord.Forbidden, match="50013"):
            await bot.home.create_text_channel("x", category=inside, overwrites={bot.home.me: rights})  # type: ignore[arg-type]
    allowed = discord.PermissionOverwrite(manage_channels=True, manage_messages=True)
    await bot.home.create_text_channel("x", category=inside, overwrites={bot.home.me: allowed})  # type: ignore[arg-type]


async def test_only_administrators_give_manage_roles_in_a_new_channel(
    sandbox: DiscordSandbox, bot: RealBot, face: HttpFace
) -> None:
    """(M) discord-api-docs 2522, 2524."""
    await face.control("permissions", role="bot", allow=str(int(Permission.ADMINISTRATOR)))
    await bot.home.create_text_channel("x", overwrites={bot.home.me: discord.PermissionOverwrite(manage_roles=True)})


async def test_a_category_that_shuts_the_bot_out_blocks_changes_of_overwrites_although_the_channel_lets_it_in(
    sandbox: DiscordSandbox, bot: RealBot, people: People
) -> None:
    """Docs: Modify Channel; (O) discord-api-docs 3756."""
    ana = await people.be("ana")
    category = add_channel(sandbox.world, home(sandbox), "shut", ChannelKind.CATEGORY)
    channel = await bot.home.create_text_channel("inside", category=discord.Object(category.id))  # type: ignore[arg-type]
    target = bot.home.get_member(int(ana.id))
    assert target is not None
    rights = discord.PermissionOverwrite(view_channel=True, attach_files=True)
    await channel.edit(overwrites={target: rights})
    category.overwrites = [
        Overwrite(target_id=sandbox.world.bot.id, kind=OverwriteKind.MEMBER, deny=int(Permission.VIEW_CHANNEL))
    ]
    with pytest.raises(discord.Forbidden, match="50013"):
        await channel.edit(overwrites={target: discord.PermissionOverwrite(view_channel=True, send_messages=True)})


async def test_changing_overwrites_needs_manage_roles(bot: RealBot, face: HttpFace) -> None:
    """Docs: Modify Channel."""
    channel = await bot.home.create_text_channel("x")
    await face.control("permissions", role="bot", deny=str(int(Permission.MANAGE_ROLES)))
    with pytest.raises(discord.Forbidden, match="50013"):
        await channel.edit(overwrites={bot.home.default_role: discord.PermissionOverwrite(view_channel=False)})


async def test_overwrites_of_a_member_go_when_they_leave(sandbox: DiscordSandbox, bot: RealBot, people: People) -> None:
    """(O) Erisa/Cliptok 158."""
    ana = await people.be("ana")
    target = bot.home.get_member(int(ana.id))
    assert target is not None
    channel = await bot.home.create_text_channel("x", overwrites={target: discord.PermissionOverwrite(view_channel=True)})
    await ana.leave()
    await bot.hear("member_remove")
    assert (await bot.fetch_channel(channel.id)).overwrites == {}  # type: ignore[union-attr] # a text channel


@pytest.mark.parametrize("has_two_factor", [False, True])
async def test_with_server_wide_two_factor_authentication_the_owners_account_needs_it(
    sandbox: DiscordSandbox, bot: RealBot, face: HttpFace, has_two_factor: bool
) -> None:
    """Docs: Permissions (rights marked with an asterisk), Opcodes 60003."""
    await face.control("guild-settings", mfa_level=1)
    sandbox.world.user(sandbox.world.application.owner_id).has_two_factor = has_two_factor
    assert (await bot.fetch_guild(bot.home.id)).mfa_level is discord.MFALevel.require_2fa
    if has_two_factor:
        await bot.home.create_text_channel("x")
    else:
        with pytest.raises(discord.Forbidden, match="60003"):
            await bot.home.create_text_channel("x")
    await bot.text_channel().send("what needs no moderator's right works")


async def test_a_server_has_500_channels_counting_categories_and_a_category_50(sandbox: DiscordSandbox, bot: RealBot) -> None:
    """Docs: Opcodes 30013; Guild limits."""
    guild = home(sandbox)
    category = add_channel(sandbox.world, guild, "full", ChannelKind.CATEGORY)
    for number in range(50):
        add_channel(sandbox.world, guild, f"child-{number}", parent=category)
    with pytest.raises(discord.HTTPException, match="In parent_id: Maximum number of channels in category reached"):
        await bot.home.create_text_channel("x", category=discord.Object(category.id))  # type: ignore[arg-type]
    while len(guild.channels) < 500:
        add_channel(sandbox.world, guild, f"filler-{len(guild.channels)}", ChannelKind.CATEGORY)
    with pytest.raises(discord.HTTPException, match="30013"):
        await bot.home.create_text_channel("x")


async def test_a_channels_name_has_100_characters_and_its_topic_1024(bot: RealBot) -> None:
    """Docs: Channel Object."""
    with pytest.raises(discord.HTTPException, match="In name"):
        await bot.home.create_text_channel("x" * 101)
    with pytest.raises(discord.HTTPException, match="In topic"):
        await bot.home.create_text_channel("x", topic="x" * 1025)
    await bot.home.create_text_channel("x" * 100, topic="x" * 1024)


async def test_a_channel_takes_two_new_names_in_ten_minutes(bot: RealBot, face: HttpFace) -> None:
    """(O) discord-jda/JDA 1306: 429 with 20028 and a wait of minutes."""
    channel = bot.text_channel()
    for number in range(2):
        assert (await face.rest("PATCH", f"/channels/{channel.id}", {"name": f"name-{number}"}))[0] == 200
    status, body = await face.rest("PATCH", f"/channels/{channel.id}", {"name": "once-more"})
    assert (status, body["code"]) == (429, 20028)
    assert body["retry_after"] > 60


async def test_pinning_needs_pin_messages_and_a_channel_has_250_pins(
    sandbox: DiscordSandbox, bot: RealBot, face: HttpFace
) -> None:
    """Docs: Opcodes 30003; Change Log, 24 November 2025: Manage Messages no longer suffices."""
    message = await bot.text_channel().send("pin me")
    with pytest.raises(discord.Forbidden, match="50013"):
        await message.pin()
    await face.control("permissions", role="bot", allow=str(int(Permission.PIN_MESSAGES)))
    stored = sandbox.world.messages[message.channel.id]
    for _ in range(250):
        sent = await face.rest("POST", f"/channels/{message.channel.id}/messages", {"content": "x"})
        stored[int(sent[1]["id"])].is_pinned = True
    with pytest.raises(discord.HTTPException, match="30003"):
        await message.pin()


@pytest.mark.parametrize(("features", "told"), [([], "en-US"), (["COMMUNITY"], "es-ES")])
async def test_only_community_servers_have_a_language(
    sandbox: DiscordSandbox, bot: RealBot, face: HttpFace, features: list[str], told: str
) -> None:
    """Docs: Guild Object (`preferred_locale`)."""
    await face.control("guild-settings", features=features, locale="es-ES")
    assert (await bot.fetch_guild(home(sandbox).id)).preferred_locale.value == told


# --- interactions and commands --------------------------------------------------------------------------------------------------


async def test_a_callback_whose_answer_was_lost_has_counted_and_its_repeat_is_40060(
    sandbox: DiscordSandbox, face: HttpFace, people: People
) -> None:
    """Docs: Opcodes 40060. discord.py repeats after a 5xx by itself and raises for the 40060."""
    raised: list[int] = []

    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Answer")
        async def twice(interaction: discord.Interaction[RealBot]) -> None:
            try:
                await interaction.response.send_message("counted")
            except discord.HTTPException as error:
                raised.append(error.code)

        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        ana = await people.be("ana")
        await face.control("faults", route="/callback$", status=503, times=1, after=True)
        assert (await ana.slash("twice")).text == "counted"
        async with asyncio.timeout(5):
            while not raised:  # noqa: ASYNC110 - the list is the fact
                await asyncio.sleep(0.02)
        assert raised == [40060]
        assert len([message for message in await ana.messages() if message.text == "counted"]) == 1


async def test_who_is_timed_out_cannot_use_commands(sandbox: DiscordSandbox, people: People) -> None:
    """Docs: Permissions "Timed out members"."""

    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Answer")
        async def hello(interaction: discord.Interaction[RealBot]) -> None:
            await interaction.response.send_message("hello")

        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        ana, elena = await people.be("ana"), await people.be("elena")
        assert (await ana.slash("hello")).text == "hello"
        await elena.administer("timeout", user=ana.id, seconds=60)
        with pytest.raises(Refused, match="50013"):
            await ana.slash("hello")


@pytest.mark.parametrize(("kind", "limit"), [(1, 100), (2, 15), (3, 15)])
async def test_a_scope_takes_100_slash_15_user_and_15_message_commands(
    sandbox: DiscordSandbox, face: HttpFace, kind: int, limit: int
) -> None:
    """Docs: Application Commands "Registering a Command"."""
    path = f"/applications/{sandbox.world.application.id}/commands"

    def commands(count: int) -> list[Json]:
        described = {"description": "x"} if kind == 1 else {}
        return [{"name": f"command-{number}", "type": kind} | described for number in range(count)]

    assert (await face.rest("PUT", path, commands(limit)))[0] == 200
    status, body = await face.rest("PUT", path, commands(limit + 1))
    assert (status, body["code"]) == (400, 30032)
