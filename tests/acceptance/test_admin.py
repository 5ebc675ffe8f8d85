"""What administrators do: text commands in `#admin-tools`, and `/admin`."""

from __future__ import annotations

import asyncio

import pytest

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server.permissions import Permission
from tests.support.person import Person, Refused, Seen
from tests.support.program import HouseOptions, WholeHouse
from tests.support.wishing import PATIENCE_S, ask, card, draw, result, results

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOLS = "admin-tools"


def house_options() -> HouseOptions:
    return {"gpus": [ComfySandbox(name=name, time_scale=0.02) for name in ("gpu-1", "gpu-2")]}


async def reply_to(person: Person, words: str, channel: str = TOOLS) -> Seen:
    """The bot's answer to a text command."""
    said = await person.say(words, channel)
    return await person.wait_for_message(
        lambda m: m.by_bot and (m.raw.get("message_reference") or {}).get("message_id") == said.id,
        channel=channel,
        timeout=PATIENCE_S,
    )


def registrations(house: WholeHouse) -> int:
    """How often the bot has told Discord its commands."""
    entries = house.discord.context.journal.entries
    return sum(entry.method == "PUT" and entry.route.endswith("/commands") for entry in entries)


async def test_admin_tools_is_there_and_hidden_from_members(house: WholeHouse, guest: Person) -> None:
    elena = await house.people.be("elena")
    await elena.wait_for_channel(TOOLS, timeout=PATIENCE_S)
    assert TOOLS not in [channel.name for channel in await guest.channels()]


async def test_getid_tells_the_ids_that_settings_ask_for(house: WholeHouse) -> None:
    elena = await house.people.be("elena")
    told = await reply_to(elena, "!getid")
    channel = await elena.channel(TOOLS)
    for number in (house.program.environment["ALLOWED_GUILD_ID"], channel.id, elena.id):
        assert number in told.text
    assert told.text == (await elena.slash("admin getid", TOOLS)).text


async def test_clearall_removes_every_slash_command_and_sync_brings_them_back_without_a_restart(house: WholeHouse) -> None:
    elena = await house.people.be("elena")
    before = {command["name"] for command in await elena.commands()}
    assert {"imagine", "edit", "admin", "queue"} <= before
    cleared = await reply_to(elena, "!clearall")
    assert "All slash commands are removed. `!sync` brings them back." in cleared.text
    assert await elena.commands() == []
    synced = await reply_to(elena, "!sync")
    assert "slash commands are registered" in synced.text
    assert {command["name"] for command in await elena.commands()} == before
    await draw(elena, "after the commands came back")


async def test_the_same_acts_work_as_slash_commands(house: WholeHouse) -> None:
    elena = await house.people.be("elena")
    count = registrations(house)
    cleared = await elena.slash("admin clearall")
    assert "All slash commands are removed" in cleared.text
    assert await elena.commands() == []
    await reply_to(elena, "!sync")
    assert "slash commands are registered" in (await elena.slash("admin sync")).text
    assert registrations(house) > count


async def test_members_meet_silence_and_administrators_elsewhere_a_hint(house: WholeHouse, guest: Person) -> None:
    elena = await house.people.be("elena")
    for words in ("!sync", "!clearall", "!getid"):
        await guest.say(words, "general")
    hint = await reply_to(elena, "!getid", "general")
    assert f"Admin commands live in <#{(await elena.channel(TOOLS)).id}>" in hint.text
    answers = [m for m in await guest.messages("general") if m.by_bot and not m.is_ephemeral]
    assert [m.id for m in answers] == [hint.id]
    assert {"imagine", "edit"} <= {command["name"] for command in await guest.commands()}


async def test_unknown_text_commands_are_nobodys_business(house: WholeHouse) -> None:
    elena = await house.people.be("elena")
    unknown = await elena.say("!reboot everything", TOOLS)
    await reply_to(elena, "!getid")  # by now the other would have been answered too
    answered = [(m.raw.get("message_reference") or {}).get("message_id") for m in await elena.messages(TOOLS) if m.by_bot]
    assert unknown.id not in answered


async def test_members_are_not_offered_the_admin_group_and_are_refused_when_a_server_opens_it(
    house: WholeHouse, guest: Person
) -> None:
    assert "admin" not in [command["name"] for command in await guest.commands()]
    context = house.discord.context
    command = next(c for c in context.world.commands_for(None) if c.name == "admin")
    hidden = command.body["default_member_permissions"]
    command.body["default_member_permissions"] = None  # as an administrator may set it in the server's integrations
    try:
        answer = await guest.slash("admin status")
    finally:
        command.body["default_member_permissions"] = hidden
    assert answer.text == "Only administrators can do that."


async def test_status_names_servers_queue_and_versions_and_no_prompts(house: WholeHouse, guest: Person) -> None:
    elena = await house.people.be("elena")
    await elena.slash("admin pause")
    await ask(guest, "a secret wish")
    told = await elena.slash("admin status")
    for gpu in house.gpus:
        assert gpu.url.removeprefix("http://") in told.text.replace("\\", "")
    for fact in ("ComfyUI 0.33", "**1** waiting", "The queue is paused", "FuLLet 0."):
        assert fact in told.text.replace("\\", "")
    queue = await elena.slash("admin queue")
    assert "Guest" in queue.text
    assert "a secret wish" not in told.text + queue.text
    await elena.slash("admin resume")
    await result(guest, "a secret wish")


async def test_a_pause_keeps_places_and_says_so(house: WholeHouse, guest: Person) -> None:
    elena = await house.people.be("elena")
    await elena.slash("admin pause")
    answer = await ask(guest, "in the pause")
    assert "The queue is paused right now. Your picture keeps its place" in answer.text
    shown = await card(guest, "in the pause")
    assert "Paused: your place is kept" in shown.text
    await elena.slash("admin resume")
    await result(guest, "in the pause")


async def test_a_drained_server_gets_nothing_until_it_is_enabled(house: WholeHouse, guest: Person) -> None:
    elena = await house.people.be("elena")
    names = [gpu.url.removeprefix("http://") for gpu in house.gpus]
    assert {choice.value for choice in await elena.autocomplete("admin drain", "server", "")} == set(names)
    await elena.slash("admin drain", server=names[0])
    before = [len(gpu.journal.prompts) for gpu in house.gpus]
    for number in range(2):
        await draw(guest, f"on the other one {number}")
    assert [len(gpu.journal.prompts) for gpu in house.gpus] == [before[0], before[1] + 2]
    await elena.slash("admin drain", server=names[1])
    await ask(guest, "when one is enabled")
    await elena.slash("admin enable", server=names[0])
    await result(guest, "when one is enabled")
    assert len(house.gpus[0].journal.prompts) == before[0] + 1
    await elena.slash("admin enable", server=names[1])


async def test_an_administrator_cancels_somebodys_job_and_everyone_in_admin_tools_sees_it(
    house: WholeHouse, guest: Person
) -> None:
    elena = await house.people.be("elena")
    await elena.slash("admin pause")
    await ask(guest, "never to be drawn")
    [choice] = await elena.autocomplete("admin cancel", "job", guest.username.removeprefix("guest-").lstrip("0"))
    answer = await elena.slash("admin cancel", job=choice.value)
    assert f"Cancelled {choice.value}" in answer.text
    line = await elena.wait_for_message(lambda m: f"Cancelled {choice.value}" in m.text, channel=TOOLS, timeout=PATIENCE_S)
    assert elena.mention in line.text
    card = await guest.wait_for_message(lambda m: "Cancelled" in m.text, timeout=PATIENCE_S)
    assert "an administrator cancelled it" in card.text
    assert "your turn was not used up" in card.text
    await elena.slash("admin resume")
    assert await results(guest) == []


async def test_who_is_no_longer_an_administrator_is_refused_at_once(house: WholeHouse, guest: Person) -> None:
    elena = await house.people.be("elena")
    await elena.administer("roles", user=guest.id, roles=["Admin"])
    await guest.wait_for_channel(TOOLS, timeout=PATIENCE_S)
    assert (await reply_to(guest, "!getid")).text
    await elena.administer("roles", user=guest.id, roles=[])
    await guest.wait_until_gone(TOOLS, timeout=PATIENCE_S)
    with pytest.raises((Refused, AssertionError)):
        await guest.slash("admin status")


async def test_a_model_file_that_is_missing_is_named_to_administrators_with_what_the_server_has(
    house: WholeHouse, guest: Person
) -> None:
    elena = await house.people.be("elena")
    kept = [gpu.settings for gpu in house.gpus]
    for gpu in house.gpus:
        gpu.configure(
            gpu.settings.changed({"models": {"unet": ["some-other-model.gguf"], "diffusion_models": ["another.safetensors"]}})
        )
    await elena.slash("admin refresh", timeout=PATIENCE_S)
    told = await elena.slash("admin status")
    assert "model file missing" in told.text
    answer = await guest.slash("imagine", model="z-image", prompt="a fox")
    assert "isn't available right now" in answer.text
    for gpu, settings in zip(house.gpus, kept, strict=True):
        gpu.configure(settings)
    await elena.slash("admin refresh", timeout=PATIENCE_S)
    await draw(guest, "now that the file is back")


async def test_a_right_the_bot_lacks_is_named_to_the_administrators(house: WholeHouse) -> None:
    elena, guest = await house.people.be("elena"), await house.newcomer()
    guild = house.discord.world.guild(int(house.program.environment["ALLOWED_GUILD_ID"]))
    role = next(role for role in guild.roles.values() if role.bot_id)
    kept = role.permissions
    role.permissions &= ~int(Permission.MANAGE_CHANNELS)
    house.discord.context.announcer.role("GUILD_ROLE_UPDATE", guild, role)
    try:
        async with asyncio.timeout(PATIENCE_S):
            answer = await guest.slash("imagine", model="z-image", prompt="a fox")
        assert "I'm missing the permission “Manage Channels” on this server." in answer.text
        line = await elena.wait_for_message(lambda m: "Manage Channels" in m.text, channel=TOOLS, timeout=PATIENCE_S)
        assert line.by_bot
    finally:
        role.permissions = kept
        house.discord.context.announcer.role("GUILD_ROLE_UPDATE", guild, role)
    await draw(guest, "with the right back")
