"""What administrators do, and what everybody else meets there: silence or a sentence."""

from __future__ import annotations

from tests.support.front_side import SERVER, Front, FrontDoor
from tests.support.person import People


async def test_admin_tools_is_made_hidden(door: FrontDoor, front: Front, people: People) -> None:
    elena, ana = await people.be("elena"), await people.be("ana")
    assert (await elena.wait_for_channel("admin-tools")).type == 0
    assert all(channel.name != "admin-tools" for channel in await ana.channels())
    assert len(door.calls(r"^POST /guilds/\d+/channels$")) == 1


async def test_clearall_removes_every_slash_command_and_sync_brings_them_back(front: Front, people: People) -> None:
    elena = await people.be("elena")
    await elena.wait_for_command("imagine")
    await elena.say("!clearall", "admin-tools")
    await elena.wait_for_message(lambda m: m.by_bot and "All slash commands are removed" in m.content, channel="admin-tools")
    assert await elena.commands() == []
    await elena.say("!sync", "admin-tools")
    await elena.wait_for_message(lambda m: m.by_bot and "slash commands are registered" in m.content, channel="admin-tools")
    await elena.wait_for_command("imagine")
    answer = await elena.slash("imagine", model="z-image", prompt="a fox")
    assert "on its way" in answer.text


async def test_while_discord_takes_its_time_the_bot_shows_that_it_is_at_it(door: FrontDoor, front: Front, people: People) -> None:
    elena = await people.be("elena")
    await elena.wait_for_command("imagine")
    for number, (said, answer) in enumerate((("!clearall", "are removed"), ("!sync", "are registered")), start=1):
        await elena.say(said, "admin-tools")
        await elena.wait_for_message(lambda m, answer=answer: m.by_bot and answer in m.content, channel="admin-tools")  # type: ignore[misc] # the loop's own
        assert len(door.calls(r"^POST /channels/\d+/typing$")) == number


async def test_cleared_commands_stay_away_over_a_restart(door: FrontDoor, people: People) -> None:
    elena = await people.be("elena")
    async with door.open():
        await elena.say("!clearall", "admin-tools")
        await elena.wait_for_message(lambda m: m.by_bot and "removed" in m.content, channel="admin-tools")
    async with door.open():
        assert await elena.commands() == []


async def test_getid_tells_the_ids(door: FrontDoor, front: Front, people: People) -> None:
    elena = await people.be("elena")
    await elena.say("!getid", "admin-tools")
    told = await elena.wait_for_message(lambda m: m.by_bot and "Server" in m.content, channel="admin-tools")
    assert str(door.guild_id) in told.content
    assert elena.id in told.content


async def test_text_commands_elsewhere_hint_admins_and_are_silent_for_others(front: Front, people: People) -> None:
    elena, ana = await people.be("elena"), await people.be("ana")
    await ana.say("!sync", "general")
    await elena.say("!sync", "general")
    hint = await elena.wait_for_message(lambda m: m.by_bot, channel="general")
    assert "Admin commands live in" in hint.content
    assert len([m for m in await elena.messages("general") if m.by_bot]) == 1


async def test_the_admin_group_is_refused_to_members_in_words(front: Front, people: People) -> None:
    ana = await people.be("ana")
    _open_to_everybody(front)
    for command in ("status", "queue", "pause", "clearall"):
        answer = await ana.slash(f"admin {command}")
        assert answer.text == "Solo los administradores pueden hacer eso."
    assert front.studio.acts == []


async def test_status_tells_how_the_house_is(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="a secret fox")
    answer = await elena.slash("admin status")
    assert "Status" in answer.text
    assert "**1** waiting" in answer.text
    assert "gpu-1" in answer.text
    assert "shares workflows (batched)" in answer.text
    queue = await elena.slash("admin queue")
    assert "Bruno" in queue.text
    assert "secret" not in queue.text


async def test_acts_are_done_and_told_in_admin_tools(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    await elena.slash("admin pause")
    line = await elena.wait_for_message(lambda m: m.by_bot and "The queue is paused" in m.text, channel="admin-tools")
    assert elena.mention in line.text
    assert line.mentions == []
    waiting = await bruno.slash("imagine", model="z-image", prompt="a fox")
    assert "The queue is paused right now" in waiting.text
    await elena.slash("admin resume")
    await elena.slash("admin drain", server=SERVER)
    await elena.slash("admin enable", server=SERVER)
    await elena.slash("admin refresh")
    assert front.studio.acts == [
        ("pause", elena.id),
        ("resume", elena.id),
        ("drain", SERVER),
        ("enable", SERVER),
        ("refresh", ""),
    ]
    unknown = await elena.slash("admin drain", server="gpu-9")
    assert "is not a server we have" in unknown.text


async def test_an_admin_cancels_somebodys_job_by_its_short_id(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="a fox")
    job = await front.studio.only_job()
    _open_to_everybody(front)
    offered = await elena.autocomplete("admin cancel", "job", "bru")
    assert [choice.value for choice in offered] == [job.id.hex[:8]]
    assert await bruno.autocomplete("admin cancel", "job", "") == []
    answer = await elena.slash("admin cancel", job=job.id.hex[:8])
    assert answer.text == f"Cancelled {job.id.hex[:8]} of Bruno."
    card = await bruno.wait_for_message(lambda m: "Cancelled" in m.text, channel="session-bruno")
    assert "an administrator cancelled it" in card.text
    assert "your turn was not used up" in card.text


async def test_an_admin_who_presses_cancel_on_somebodys_card_does_it_as_an_admin(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="a fox")
    job = await front.studio.only_job()
    card = await elena.wait_for_message(lambda m: "a fox" in m.text, channel=str(job.channel_id))
    await elena.press(card, "Cancel")
    told = await bruno.wait_for_message(lambda m: "Cancelled" in m.text, channel="session-bruno")
    assert "an administrator cancelled it" in told.text
    assert front.studio.acts == [("cancel_for", str(job.id))]


def _open_to_everybody(front: Front) -> None:
    """As an administrator may do in the server's settings: then Discord no longer keeps members out, and we must."""
    for command in front.sandbox.world.commands.values():
        command.body["default_member_permissions"] = None
