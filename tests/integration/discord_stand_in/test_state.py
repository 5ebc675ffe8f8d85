"""The stand-in's world in a file: as it was left, on another port, after a restart."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
import yarl

from modules.sandbox.discord_server import DiscordSandbox
from tests.support.discord_side import RealBot, real_bot
from tests.support.person import People

REPOSITORY = Path(__file__).resolve().parents[3]


async def test_a_world_comes_back_with_its_channels_messages_files_and_commands(tmp_path: Path) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Pictures")
        async def imagine(interaction: object) -> None: ...

        await bot.tree.sync()

    state = tmp_path / "world.json"
    async with DiscordSandbox(state=state) as sandbox, People(sandbox.page_url) as people, real_bot(sandbox, prepare) as bot:
        token = sandbox.bot_token
        ana = await people.be("ana")
        await ana.say("keep this", files=[await ana.upload("notes.txt", b"important")])
        member = bot.home.get_member(int(ana.id))
        assert member is not None
        private = await bot.home.create_text_channel("session-ana", topic="hers")
        await private.set_permissions(bot.home.default_role, view_channel=False)

    async with DiscordSandbox(state=state) as again, People(again.page_url) as people:
        assert again.bot_token == token
        ana = await people.be("ana")
        (kept,) = await ana.messages()
        assert kept.content == "keep this"
        assert kept.files[0].url.startswith(again.page_url)
        assert await ana.download(kept.files[0].url) == b"important"
        assert [c["name"] for c in await ana.commands()] == ["imagine"]
        assert "session-ana" not in [c.name for c in await ana.channels()]
        assert "session-ana" in [c.name for c in await (await people.be("elena")).channels()]


async def test_a_world_says_which_it_is_and_stays_the_same_in_its_file(tmp_path: Path) -> None:
    async def told(sandbox: DiscordSandbox) -> object:
        async with sandbox, aiohttp.ClientSession() as page, page.get(f"{sandbox.page_url}/person/world") as answer:
            return (await answer.json())["world"]

    kept, again, another = [
        await told(DiscordSandbox(state=tmp_path / name)) for name in ("world.json", "world.json", "another.json")
    ]
    assert kept == again
    assert kept != another


async def test_a_file_of_something_else_is_not_taken_for_a_world(tmp_path: Path) -> None:
    state = tmp_path / "world.json"
    state.write_text('{"format": 99}')
    with pytest.raises(ValueError, match="not a saved world"):
        await DiscordSandbox(state=state).start()
    assert state.read_text() == '{"format": 99}'


async def test_it_runs_as_a_program_says_where_it_is_and_ends_on_sigterm(tmp_path: Path) -> None:
    state = tmp_path / "world.json"
    arguments = ["-m", "modules.sandbox.discord_server", "--token", "t.o.k", "--state", str(state)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY, env=dict(os.environ)
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        told = dict([(await process.stdout.readline()).decode().split(maxsplit=1) for _ in range(5)])
        assert told["DISCORD_TOKEN"].strip() == "t.o.k"
        async with aiohttp.ClientSession() as session:
            api, page = told["FULLET_DISCORD_API"].strip(), told["page"].strip()
            async with session.get(f"{api}/users/@me", headers={"Authorization": "Bot t.o.k"}) as response:
                assert (await response.json())["username"] == "FuLLet"
            outside = yarl.URL(f"{page}/%2e%2e/__init__.py", encoded=True)
            async with session.get(outside) as response:
                assert response.status == 404
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        await process.stdout.read()
    assert state.exists()
