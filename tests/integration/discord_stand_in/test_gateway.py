"""The stand-in's gateway: sessions that drop, resume, are refused; intents; the check against Discord's description."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import discord
import pytest

from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.gateway import ACKNOWLEDGE_AFTER_S, Op
from modules.sandbox.discord_server.spec import Spec
from modules.sandbox.discord_server.world import ApplicationFlag
from tests.support.discord_side import RealBot, real_bot
from tests.support.http_face import HttpFace
from tests.support.person import People


@pytest.fixture
async def face(sandbox: DiscordSandbox) -> AsyncIterator[HttpFace]:
    async with aiohttp.ClientSession() as session:
        yield HttpFace(sandbox, session)


async def _content(bot: RealBot, text: str) -> discord.Message:
    found = await bot.hear("message", lambda m: m.content == text)  # type: ignore[attr-defined]
    assert isinstance(found, discord.Message)
    return found


async def test_a_heartbeat_is_not_answered_before_discord_py_has_noted_that_it_sent_it(sandbox: DiscordSandbox) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(sandbox.gateway_url) as socket:
        assert (await socket.receive_json())["op"] == Op.HELLO
        sent = time.monotonic()
        await socket.send_json({"op": Op.HEARTBEAT, "d": None})
        assert (await socket.receive_json())["op"] == Op.HEARTBEAT_ACK
        assert time.monotonic() - sent >= 0.9 * ACKNOWLEDGE_AFTER_S


@pytest.mark.parametrize("action", ["drop", "reconnect"])
async def test_after_a_break_the_session_resumes_and_what_was_missed_is_replayed(
    sandbox: DiscordSandbox, people: People, face: HttpFace, action: str
) -> None:
    async with real_bot(sandbox) as bot:
        ana = await people.be("ana")
        await ana.say("before")
        await _content(bot, "before")
        await face.control("gateway", action=action)
        await ana.say("while you were away")
        await _content(bot, "while you were away")
        await bot.hear("resumed")
        gateway = (await face.look("state"))["gateway"]
        assert (gateway["identifies"], gateway["resumes"]) == (1, 1)
        assert [m.content for kind, m in bot.heard if kind == "message"] == ["before", "while you were away"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("action", ["drop", "invalid_session"])
async def test_a_session_that_cannot_resume_identifies_anew(
    sandbox: DiscordSandbox, people: People, face: HttpFace, action: str
) -> None:
    async with real_bot(sandbox) as bot:
        ana = await people.be("ana")
        await face.control("gateway", action=action, resumable=False)
        await ana.wait_for("BOT_STATUS", lambda d: not d["online"])
        await ana.wait_for_bot()
        await ana.say("welcome back")
        await _content(bot, "welcome back")
        assert (sandbox.context.gateway.identifies, sandbox.context.gateway.resumes) == (2, 0)


async def test_a_connection_that_went_silent_is_given_up_and_resumed() -> None:
    async with (
        DiscordSandbox(heartbeat_interval_ms=200) as sandbox,
        People(sandbox.page_url) as people,
        real_bot(sandbox, heartbeat_timeout_s=1.0) as bot,
    ):
        ana = await people.be("ana")
        sandbox.context.gateway.silence()
        await ana.say("can you hear me?")
        await _content(bot, "can you hear me?")
        assert sandbox.context.gateway.resumes == 1


async def test_people_see_whether_the_bot_is_online(sandbox: DiscordSandbox, people: People) -> None:
    ana = await people.be("ana")
    await ana.wait_for_bot(online=False)
    async with real_bot(sandbox):
        await ana.wait_for_bot()
    await ana.wait_for_bot(online=False)


async def test_without_the_message_content_intent_strangers_words_are_empty(sandbox: DiscordSandbox, people: People) -> None:
    intents = discord.Intents.default()
    async with real_bot(sandbox, intents=intents) as bot:
        ana = await people.be("ana")
        assert bot.user is not None
        await ana.say("secret")
        await ana.say(f"{bot.user.mention} for you")
        await ana.say("in private", "dm")
        await _content(bot, "in private")
        words = [m.content for kind, m in bot.heard if kind == "message"]  # type: ignore[attr-defined]
        assert words == ["", f"{bot.user.mention} for you", "in private"]
        assert [m.id for m in bot.home.members] == [bot.user.id]


async def test_with_the_members_intent_everybody_is_known_after_the_start(sandbox: DiscordSandbox) -> None:
    async with real_bot(sandbox) as bot:
        assert sorted(m.name for m in bot.home.members) == ["FuLLet", "ana", "bruno", "chloe", "dario", "elena", "zoe"]


async def test_a_privileged_intent_that_was_not_granted_closes_the_door(sandbox: DiscordSandbox, face: HttpFace) -> None:
    await face.control("intents", flags=int(ApplicationFlag.GUILD_MEMBERS | ApplicationFlag.PRESENCE))
    with pytest.RaisesGroup(discord.PrivilegedIntentsRequired, flatten_subgroups=True):
        async with real_bot(sandbox):
            raise AssertionError("it must not come online")


async def test_a_wrong_token_is_refused(sandbox: DiscordSandbox) -> None:
    with pytest.RaisesGroup(discord.LoginFailure, flatten_subgroups=True):
        async with real_bot(sandbox, token="wrong"):
            raise AssertionError("it must not come online")


async def test_ephemeral_messages_come_back_to_the_bot_without_a_guild(
    sandbox: DiscordSandbox, people: People, face: HttpFace
) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Whisper")
        async def whisper(interaction: discord.Interaction[RealBot]) -> None:
            await interaction.response.send_message("psst", ephemeral=True)

        await bot.tree.sync()

    async with real_bot(sandbox, prepare) as bot:
        await (await people.be("ana")).slash("whisper")
        assert (await _content(bot, "psst")).guild is None


async def test_a_route_discord_does_not_have_is_a_violation(sandbox: DiscordSandbox, face: HttpFace) -> None:
    assert (await face.rest("GET", "/no/such/route"))[0] == 404
    assert any("no such route" in line for line in await face.wrong())


needs_description = pytest.mark.skipif(not Spec.find().is_on, reason="Discord's OpenAPI description was not found")


@needs_description
def test_the_check_finds_wrong_requests_wrong_replies_and_wrong_statuses() -> None:
    spec = Spec.find()
    path = "/channels/1/messages"
    user = {"id": "1", "username": "a", "avatar": None, "discriminator": "0", "public_flags": 0, "flags": 0}
    good_user = user | {"global_name": None, "primary_guild": None}

    def found(body: object, reply: object, status: int = 200) -> list[tuple[str, str]]:
        return list(spec.check("POST", path, json.dumps(body).encode(), status, json.dumps(reply).encode()))

    message = {
        "id": "2",
        "type": 0,
        "channel_id": "1",
        "author": good_user,
        "content": "",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "edited_timestamp": None,
        "tts": False,
        "pinned": False,
        "mention_everyone": False,
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "components": [],
        "flags": 0,
    }
    assert found({"content": "x"}, message) == []
    assert [kind for kind, _ in found({"content": 5}, message)] == ["request"]
    assert [kind for kind, _ in found({"content": "x"}, message | {"author": user})] == ["reply", "reply"]
    assert found({"content": "x"}, message | {"timestamp": "yesterday"}) != []
    assert found({"content": "x"}, message | {"components": [{"type": 10, "id": 1}]}) == [
        ("reply", "components/0: 'content' is a required property")
    ]
    assert found({"content": "x"}, message, status=206) == [("reply", "Discord never answers 206 here")]
    assert list(spec.check("POST", "/nowhere", None, 200, b"{}")) == [("request", "Discord has no such route")]


def test_without_the_description_the_check_is_off_and_a_wrong_path_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISCORD_OPENAPI", raising=False)
    monkeypatch.setattr("modules.sandbox.discord_server.spec.BESIDE_REPOSITORY", tmp_path / "openapi.json")
    assert not Spec.find().is_on
    with pytest.raises(FileNotFoundError):
        Spec.find(tmp_path / "missing.json")
