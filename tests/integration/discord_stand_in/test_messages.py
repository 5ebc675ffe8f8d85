"""Messages and channels at the Discord stand-in: what is kept, who is told, what is refused."""

import io

import discord
import pytest
from discord import ui

from modules.sandbox.discord_server.files import picture_size
from tests.support.discord_side import RealBot
from tests.support.http_face import HttpFace
from tests.support.person import People


def _text(words: str) -> ui.LayoutView:
    view = ui.LayoutView()
    view.add_item(ui.TextDisplay(words))
    return view


async def test_history_pages_before_after_and_around(bot: RealBot) -> None:
    channel = bot.text_channel()
    sent = [await channel.send(str(number)) for number in range(7)]

    async def page(**where: object) -> list[str]:
        return [message.content async for message in channel.history(**where)]  # type: ignore[arg-type]

    assert await page(limit=3) == ["6", "5", "4"]
    assert await page(before=sent[3], limit=2) == ["2", "1"]
    assert await page(after=sent[3], oldest_first=True) == ["4", "5", "6"]
    assert await page(around=sent[3], limit=3) == ["4", "3", "2"]


async def test_a_repeated_nonce_gives_back_the_first_message_for_some_minutes(bot: RealBot, face: HttpFace) -> None:
    channel = bot.text_channel()
    first = await channel.send("result", nonce="job-1")
    again = await channel.send("result", nonce="job-1")
    assert again.id == first.id
    await face.control("clock", advance_s=6 * 60)
    later = await channel.send("result", nonce="job-1")
    assert later.id != first.id


async def test_edits_keep_what_they_do_not_name_and_can_replace_files(bot: RealBot, people: People) -> None:
    ana = await people.be("ana")
    message = await bot.text_channel().send("hello", files=[discord.File(io.BytesIO(b"a"), "a.txt")])
    await message.edit(content="changed")
    assert [f.filename for f in (await ana.wait_for_message(lambda m: m.content == "changed")).files] == ["a.txt"]
    await message.edit(attachments=[discord.File(io.BytesIO(b"bb"), "b.txt")])
    seen = await ana.wait_for_message(lambda m: [f.filename for f in m.files] == ["b.txt"])
    assert seen.content == "changed"
    assert await ana.download(seen.files[0].url) == b"bb"


async def test_a_components_message_never_takes_content_again(bot: RealBot) -> None:
    message = await bot.text_channel().send(view=_text("v2"))
    with pytest.raises(discord.HTTPException, match="50035") as refused:
        await message.edit(content="plain")
    assert "content" in str(refused.value)


async def test_mentions_reach_whom_they_may_and_code_spans_reach_nobody(bot: RealBot, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    channel, nobody = bot.text_channel(), discord.AllowedMentions.none()
    only_ana = discord.AllowedMentions(users=[discord.Object(int(ana.id))])
    await channel.send(f"{ana.mention} {bruno.mention}", allowed_mentions=only_ana)
    await ana.wait_for("NOTIFICATION")
    await channel.send(f"{bruno.mention}", allowed_mentions=nobody)
    await channel.send(f"`{bruno.mention}` ```\n{bruno.mention}\n```")
    await channel.send("@everyone")  # the bot may not mention everybody
    await channel.send(view=_text(f"in a card {bruno.mention}"))
    note = await bruno.wait_for("NOTIFICATION")
    assert note.d["message"]["components"][0]["content"].startswith("in a card")
    assert len([e for e in ana.events if e.t == "NOTIFICATION"]) == 1
    assert len([e for e in bruno.events if e.t == "NOTIFICATION"]) == 1


async def test_an_owner_who_mentions_everyone_outside_code_reaches_everybody(bot: RealBot, people: People) -> None:
    ana, elena = await people.be("ana"), await people.be("elena")
    await elena.say("nothing: `@everyone`")
    await elena.say("a stray ` then @everyone")
    note = await ana.wait_for("NOTIFICATION")
    assert note.d["message"]["content"].startswith("a stray")


async def test_people_and_bot_hear_of_messages_written_edited_and_deleted(bot: RealBot, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    said = await ana.say("from ana")
    heard = await bot.hear("message", lambda m: m.content == "from ana")  # type: ignore[attr-defined]
    assert isinstance(heard, discord.Message)
    await heard.reply("to ana")
    answer = await bruno.wait_for_message(lambda m: m.content == "to ana")
    assert answer.mentions == [ana.id]
    await ana.delete(said)
    await bot.hear("message_delete", lambda event: event.message_id == int(said.id))  # type: ignore[attr-defined]
    await bruno.wait_for("MESSAGE_DELETE", lambda d: d["id"] == said.id)


async def test_reactions_and_pins_and_bulk_deletion_work(bot: RealBot, people: People, face: HttpFace) -> None:
    await face.control("permissions", role="bot", allow=str(1 << 51 | 1 << 6))
    channel = bot.text_channel()
    messages = [await channel.send(str(n)) for n in range(3)]
    await messages[0].add_reaction("👍")
    assert [r.emoji for r in (await channel.fetch_message(messages[0].id)).reactions] == ["👍"]
    assert bot.user is not None
    await messages[0].remove_reaction("👍", bot.user)
    assert (await channel.fetch_message(messages[0].id)).reactions == []
    await messages[1].pin()
    assert [m.id async for m in channel.pins()] == [messages[1].id]
    await channel.delete_messages(messages)
    assert await (await people.be("ana")).messages() == []


async def test_a_private_channel_made_in_one_call_exists_only_for_its_person(bot: RealBot, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    category = await bot.home.create_category("sessions")
    member = bot.home.get_member(int(ana.id))
    assert member is not None
    hidden = discord.PermissionOverwrite(view_channel=False)
    shown = discord.PermissionOverwrite(view_channel=True, send_messages=True, attach_files=True)
    overwrites: dict[discord.Role | discord.Member | discord.Object, discord.PermissionOverwrite] = {
        bot.home.default_role: hidden,
        member: shown,
        bot.home.me: shown,
    }
    channel = await category.create_text_channel("Session Ana", overwrites=overwrites, topic="hers")
    assert channel.name == "session-ana"
    seen = await ana.wait_for_channel("session-ana")
    assert (seen.topic, seen.parent_id) == ("hers", str(category.id))
    await channel.send("hello")
    await ana.wait_for_message(lambda m: m.content == "hello", channel="session-ana")
    assert [c.name for c in await bruno.channels()] == ["Text channels", "general", "showcase", "sessions"]
    assert not [e for e in bruno.events if e.t == "MESSAGE_CREATE"]
    await channel.set_permissions(member, overwrite=None)
    await ana.wait_until_gone("session-ana")
    await channel.delete()
    with pytest.raises(discord.NotFound, match="10003"):
        await channel.send("anybody?")


async def test_a_channel_deleted_by_an_administrator_goes_for_everybody(bot: RealBot, people: People) -> None:
    elena, ana = await people.be("elena"), await people.be("ana")
    gone = bot.text_channel("showcase")
    await elena.delete_channel("showcase")
    await ana.wait_until_gone("showcase")
    await bot.hear("channel_delete")
    assert bot.get_channel(gone.id) is None


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00\x00\x01\x00\x00\x00\x00\x80" + b"\x08\x02\x00\x00\x00", (256, 128)),
        (b"GIF89a\x10\x00\x20\x00\x00", (16, 32)),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x3f\x00\x00\x1f\x00\x00", (64, 32)),
        (b"\xff\xd8\xff\xe0\x00\x04\x00\x00\xff\xc0\x00\x0b\x08\x00\x30\x00\x40\x01\x00\x00\x00", (64, 48)),
        (b"not a picture", None),
        (b"\xff\xd8\xff", None),
    ],
)
def test_picture_sizes_are_read_from_the_bytes(data: bytes, size: tuple[int, int] | None) -> None:
    assert picture_size(data) == size


async def test_the_emoji_of_a_control_comes_back_with_what_it_has_and_no_more(bot: RealBot, people: People) -> None:
    row: ui.ActionRow[ui.LayoutView] = ui.ActionRow(ui.Button(custom_id="again", emoji="🔁"))
    options = [discord.SelectOption(label="one", emoji="🌱")]
    view = ui.LayoutView()
    view.add_item(row)
    view.add_item(ui.ActionRow(ui.Select(custom_id="which", options=options)))
    await bot.text_channel().send(view=view)
    bruno = await people.be("bruno")
    shown = await bruno.wait_for_message(lambda message: message.buttons, channel="general")
    assert [inner["components"][0].get("emoji") for inner in shown.components] == [{"name": "🔁"}, None]
    assert shown.components[1]["components"][0]["options"][0]["emoji"] == {"name": "🌱"}
