"""Discord lets commands be changed only so often: whoever meets that is told at once, and their wish is done all the same."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from modules.discord.registration import ASKED_KEY, CLEARED, TREE_HASH_KEY
from modules.domain.people import UserId
from modules.domain.records import PersonSettings
from modules.utils.i18n import Phrasebook
from tests.support.front_side import LIMIT_S, Front, FrontDoor, front_door
from tests.support.person import People, Person, Seen

TOOLS = "admin-tools"
PUT_GLOBAL = r"^PUT /applications/\d+/commands$"
PUT_GUILD = r"^PUT /applications/\d+/guilds/\d+/commands$"
#: Longer than the bot's patience, short for a test.
WAIT_S = 4.0


async def reply_to(person: Person, words: str) -> tuple[Seen, Seen]:
    """What was said, and the bot's first answer."""
    said = await person.say(words, TOOLS)
    return said, await person.wait_for_message(
        lambda m: m.by_bot and (m.raw.get("message_reference") or {}).get("message_id") == said.id, channel=TOOLS
    )


async def becomes(person: Person, message: Seen, words: str) -> Seen:
    """The same message, once it says so."""

    async def look() -> Seen | None:
        now = await person.message(message)
        return now if words in now.text else None

    return await person.until(look, f"{message.text!r} to say {words!r}", timeout=LIMIT_S)


async def stored_wish(front: Front) -> str | None:
    return await front.house.control.get(ASKED_KEY)


@asynccontextmanager
async def speaking(door: FrontDoor, language: str) -> AsyncIterator[None]:
    """The server's language, for text commands."""
    guild = door.sandbox.world.guild(door.guild_id)
    kept, guild.locale = guild.locale, language
    guild.features.append("COMMUNITY")  # other servers have no language of their own
    try:
        yield
    finally:
        guild.locale = kept
        guild.features.remove("COMMUNITY")


@pytest.mark.parametrize(
    ("language", "waiting", "done"),
    [
        ("en-US", "Discord asks us to wait: commands can be changed again at <t:", "slash commands are registered."),
        ("es-ES", "Discord nos pide esperar: los comandos se pueden cambiar otra vez a las <t:", "comandos registrados."),
    ],
)
async def test_a_sync_that_discord_makes_wait_says_so_at_once_and_then_that_it_is_done(
    door: FrontDoor, people: People, language: str, waiting: str, done: str
) -> None:
    elena = await people.be("elena")
    async with speaking(door, language), door.open():
        await elena.wait_for_command("imagine")
        door.spoil(PUT_GLOBAL, status=429, retry_after=WAIT_S)
        _, first = await reply_to(elena, "!sync")
        assert waiting in first.text
        last = await becomes(elena, first, done)
        assert waiting not in last.text
    answers = [m for m in await elena.messages(TOOLS) if m.by_bot]
    assert len(answers) == 1


async def test_without_a_figure_of_discords_no_figure_is_told(door: FrontDoor, front: Front, people: People) -> None:
    elena = await people.be("elena")
    await elena.wait_for_command("imagine")
    door.spoil(PUT_GLOBAL, delay_s=WAIT_S)
    _, first = await reply_to(elena, "!sync")
    assert first.text == Phrasebook.load().texts("en")("admin.commands_slow")
    await becomes(elena, first, "are registered")


async def test_an_answer_that_somebody_deleted_meanwhile_is_written_anew(door: FrontDoor, front: Front, people: People) -> None:
    elena = await people.be("elena")
    await elena.wait_for_command("imagine")
    door.spoil(PUT_GLOBAL, status=429, retry_after=WAIT_S)
    _, first = await reply_to(elena, "!sync")
    await elena.delete(first)
    await elena.wait_for_message(lambda m: m.by_bot and "are registered" in m.text, channel=TOOLS)


async def test_two_administrators_who_ask_for_the_same_share_one_registration_and_both_are_told(
    door: FrontDoor, front: Front, people: People
) -> None:
    elena = await people.be("elena")
    await elena.wait_for_command("imagine")
    before = len(door.calls(PUT_GLOBAL))
    door.spoil(PUT_GLOBAL, status=429, retry_after=WAIT_S)
    slash, (_, first), (_, second) = await asyncio.gather(
        elena.slash("admin sync"), reply_to(elena, "!sync"), reply_to(elena, "!sync")
    )
    assert slash.message is not None
    for waiting in (slash.message, first, second):
        assert "Discord asks us to wait" in waiting.text
        await becomes(elena, waiting, "slash commands are registered")
    assert len(door.calls(PUT_GLOBAL)) == before + 2  # the refused one, and its repetition
    assert await stored_wish(front) is None


@pytest.mark.parametrize(
    ("act", "done"),
    [
        ("admin sync", "comandos registrados"),
        ("admin clearall", "Se quitaron todos los comandos"),
        ("admin refresh", "preguntó de nuevo"),
    ],
)
async def test_slash_commands_say_it_too_in_the_persons_own_language(
    door: FrontDoor, front: Front, people: People, act: str, done: str
) -> None:
    elena = await people.be("elena")
    await elena.wait_for_command("imagine")
    await front.database.people.save_settings(PersonSettings(user_id=UserId(int(elena.id)), language="es"))
    await front.house.control.set(TREE_HASH_KEY, "of an earlier version")
    door.spoil(PUT_GLOBAL, status=429, retry_after=WAIT_S)
    answer = await elena.slash(act)
    assert answer.message is not None
    assert "Discord nos pide esperar: los comandos se pueden cambiar otra vez a las <t:" in answer.text
    last = await becomes(elena, answer.message, done)
    assert "Discord nos pide esperar" not in last.text


async def test_clearall_is_answered_as_soon_as_it_is_done_though_nothing_more_is_allowed_for_a_minute(tmp_path: Path) -> None:
    """The real limits: two in a minute. The start takes one, `!clearall` the other; discord.py sleeps after that."""
    async with front_door(tmp_path, rate_limits=True) as door, People(door.sandbox.page_url) as people, door.open() as front:
        elena = await people.be("elena")
        await elena.wait_for_command("imagine")
        _, cleared = await reply_to(elena, "!clearall")
        assert cleared.text == "All slash commands are removed. `!sync` brings them back."
        assert await elena.commands() == []
        _, waiting = await reply_to(elena, "!sync")
        until = re.search(r"<t:(\d+):T>", waiting.text)
        assert until is not None
        assert 30 < int(until[1]) - time.time() <= 61
        assert await stored_wish(front) == "sync"


@pytest.mark.parametrize(("first", "then", "are_there"), [("!clearall", "!sync", True), ("!sync", "!clearall", False)])
async def test_what_was_asked_for_last_is_what_remains(
    door: FrontDoor, front: Front, people: People, first: str, then: str, are_there: bool
) -> None:
    elena = await people.be("elena")
    await elena.wait_for_command("imagine")
    door.spoil(PUT_GLOBAL, status=429, retry_after=WAIT_S)
    _, early = await reply_to(elena, first)
    assert "Discord asks us to wait" in early.text
    _, late = await reply_to(elena, then)
    await becomes(elena, early, "removed" if are_there else "registered")
    await becomes(elena, late, "registered" if are_there else "removed")
    assert bool(await elena.commands()) is are_there
    assert (await front.house.control.get(TREE_HASH_KEY) or "").startswith(CLEARED) is not are_there
    assert await stored_wish(front) is None


FAILURES = [
    ({"status": 429, "retry_after": 300}, "en-US", "Discord takes no change of the commands for another 5 min."),
    ({"status": 429, "retry_after": 300}, "es-ES", "Discord no acepta cambios en los comandos durante 5 min más."),
    ({"status": 503}, "en-US", "Discord did not take that change of the commands."),
    ({"status": 503}, "es-ES", "Discord no aceptó ese cambio en los comandos."),
    ({"code": 50001}, "en-US", "Discord doesn't let me change commands here."),
    ({"code": 50001}, "es-ES", "Discord no me deja cambiar comandos aquí."),
]


@pytest.mark.parametrize(("fault", "language", "sentence"), FAILURES)
async def test_a_failure_is_said_and_the_wish_is_not_done_behind_anybodys_back(
    door: FrontDoor, people: People, fault: dict[str, object], language: str, sentence: str
) -> None:
    elena = await people.be("elena")
    async with speaking(door, language), door.open() as front:
        await elena.wait_for_command("imagine")
        door.spoil(PUT_GLOBAL, **fault)
        _, answer = await reply_to(elena, "!sync")
        assert answer.text.startswith(sentence)
        assert await stored_wish(front) is None
        door.spoil(PUT_GLOBAL, **fault)
        slash = await elena.slash("admin clearall")
        assert not slash.failed
        assert Phrasebook.load().texts("en")("error.unknown") not in slash.text
        assert await stored_wish(front) is None
        assert await elena.commands() != []


@pytest.mark.parametrize("fault", [{"code": 50001}, {"status": 429, "retry_after": 300}])
async def test_a_wait_that_ends_badly_ends_in_a_sentence(
    door: FrontDoor, front: Front, people: People, fault: dict[str, object]
) -> None:
    elena = await people.be("elena")
    await elena.wait_for_command("imagine")
    door.spoil(PUT_GLOBAL, status=429, retry_after=WAIT_S)
    door.spoil(PUT_GLOBAL, **fault)
    _, first = await reply_to(elena, "!sync")
    assert "Discord asks us to wait" in first.text
    await becomes(elena, first, "Discord doesn't let me" if "code" in fault else "for another 5 min")
    door.spoil(PUT_GLOBAL, status=429, retry_after=WAIT_S)
    door.spoil(PUT_GLOBAL, **fault)
    slash = await elena.slash("admin sync")
    assert slash.message is not None
    await becomes(elena, slash.message, "Discord doesn't let me" if "code" in fault else "for another 5 min")


@pytest.mark.parametrize(
    ("act", "line"), [("sync", "slash commands are registered."), ("clearall", "All slash commands are removed.")]
)
async def test_who_waits_while_the_bot_is_stopped_is_told_so_and_the_next_start_does_it(
    door: FrontDoor, people: People, act: str, line: str
) -> None:
    elena = await people.be("elena")
    async with door.open() as front:
        await elena.wait_for_command("imagine")
        if act == "sync":
            await elena.slash("admin clearall")
        door.spoil(PUT_GLOBAL, status=429, retry_after=60)
        _, text = await reply_to(elena, f"!{act}")
        asked = [text]
        if act == "clearall":  # by then nobody is offered `/admin sync` any more
            slash = await elena.slash("admin clearall")
            assert slash.message is not None
            asked.append(slash.message)
    for answer in asked:
        assert (await elena.message(answer)).text == Phrasebook.load().texts("en")("error.commands_after_restart")
    known = [m.id for m in await elena.messages(TOOLS)]
    async with door.open() as front:
        await elena.wait_for_message(lambda m: m.by_bot and m.id not in known and line in m.text, channel=TOOLS)
        assert bool(await elena.commands()) is (act == "sync")
        assert await stored_wish(front) is None
    async with door.open():
        assert bool(await elena.commands()) is (act == "sync")  # once, not at every start


async def test_a_wish_that_fails_at_the_next_start_is_told_to_the_administrators(door: FrontDoor, people: People) -> None:
    elena = await people.be("elena")
    async with door.open():
        door.spoil(PUT_GLOBAL, status=429, retry_after=60)
        await reply_to(elena, "!sync")
    door.spoil(PUT_GLOBAL, code=50001)
    async with door.open() as front:
        await elena.wait_for_message(lambda m: m.by_bot and "Discord doesn't let me change commands" in m.text, channel=TOOLS)
        assert await stored_wish(front) is None


async def test_a_start_does_not_wait_for_discord_to_take_the_commands(door: FrontDoor, people: People) -> None:
    elena = await people.be("elena")
    door.spoil(PUT_GLOBAL, status=429, retry_after=60)
    async with door.open():
        _, told = await reply_to(elena, "!getid")
        assert str(door.guild_id) in told.text
        assert await elena.commands() == []
