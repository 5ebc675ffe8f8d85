"""One test for each fact about messages and files that the program builds on, over the simulated Discord and real discord.py.

Each docstring names the source of the fact; "userdoccers" is the community's unofficial reference.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import discord
import pytest
from discord import app_commands, ui

from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.permissions import Permission
from tests.support.builders import a_picture
from tests.support.discord_side import RealBot, real_bot
from tests.support.http_face import HttpFace
from tests.support.person import People

MIB = 1024 * 1024
PNG = a_picture(1).data


def a_file(name: str = "fox.png", data: bytes = PNG) -> discord.File:
    return discord.File(io.BytesIO(data), name)


def a_gallery(*names: str, button: str = "") -> ui.LayoutView:
    view = ui.LayoutView(timeout=None)
    view.add_item(ui.MediaGallery(*(discord.MediaGalleryItem(f"attachment://{name}") for name in names)))
    if button:
        view.add_item(ui.ActionRow(ui.Button(label="press", custom_id=button)))
    return view


def shown_names(message: discord.Message) -> list[str]:
    galleries = (piece for piece in message.components if isinstance(piece, discord.MediaGalleryComponent))
    return [item.media.url.split("?")[0].rsplit("/", 1)[-1] for gallery in galleries for item in gallery.items]


async def test_a_file_that_a_component_shows_is_in_no_attachments(bot: RealBot, people: People) -> None:
    """Answers to POST and PATCH, GET and gateway events alike. Docs: Message "attachments"; discord-api-docs 8277, 8279, 4809."""
    channel = bot.text_channel()
    sent = await channel.send(view=a_gallery("fox.png"), files=[a_file(), a_file("notes.txt", b"x")])
    told = await bot.hear("message", lambda message: isinstance(message, discord.Message) and message.id == sent.id)
    read = await channel.fetch_message(sent.id)
    edited = await sent.edit(view=a_gallery("hen.png"), attachments=[a_file("hen.png")])
    assert isinstance(told, discord.Message)
    for message, shown, attached in ((sent, "fox.png", ["notes.txt"]), (told, "fox.png", ["notes.txt"]),
                                     (read, "fox.png", ["notes.txt"]), (edited, "hen.png", [])):  # fmt: skip
        assert [file.filename for file in message.attachments] == attached
        assert shown_names(message) == [shown]


async def test_the_media_of_a_component_tells_address_type_size_and_attachment(bot: RealBot, people: People) -> None:
    """Docs: Component Reference "Unfurled Media Item", "File"; Reference "Signed Attachment CDN URLs"."""
    view = a_gallery("fox.png")
    view.add_item(ui.File("attachment://recipe.json"))
    sent = await bot.text_channel().send(view=view, files=[a_file(), a_file("recipe.json", b"{}")])
    gallery, file = sent.components
    assert isinstance(gallery, discord.MediaGalleryComponent)
    media = gallery.items[0].media
    assert (media.content_type, media.width, media.height) == ("image/png", 8, 8)
    assert media.attachment_id is not None
    assert media.url.split("?")[0].endswith("/fox.png")
    assert {part.split("=")[0] for part in media.url.split("?")[1].strip("&").split("&")} == {"ex", "is", "hm"}
    assert isinstance(file, discord.FileComponent)
    assert (file.name, file.size) == ("recipe.json", 2)
    ana = await people.be("ana")
    assert await ana.download(media.url) == PNG


async def test_a_file_that_an_embed_shows_is_in_no_attachments_either(bot: RealBot) -> None:
    """Docs: Message "attachments"."""
    embed = discord.Embed(title="a fox").set_image(url="attachment://fox.png")
    sent = await bot.text_channel().send(embed=embed, files=[a_file()])
    assert sent.attachments == []
    assert (sent.embeds[0].image.url or "").split("?")[0].endswith("/fox.png")


async def test_interactions_carry_the_same_message_so_the_same_arrays(sandbox: DiscordSandbox, people: People) -> None:
    """`message` of a button and `resolved.messages` of a menu. Docs: Receiving and Responding."""
    seen: list[tuple[Sequence[discord.Attachment], list[str]]] = []

    async def prepare(bot: RealBot) -> None:
        @bot.tree.context_menu(name="Look")
        async def look(interaction: discord.Interaction, message: discord.Message) -> None:
            seen.append((message.attachments, shown_names(message)))
            await interaction.response.send_message("seen", ephemeral=True)

        class Press(ui.DynamicItem[ui.Button[ui.LayoutView]], template="press"):
            @classmethod
            async def from_custom_id(cls, interaction: discord.Interaction, item: ui.Item[ui.LayoutView], match: object) -> Press:
                assert isinstance(item, ui.Button)
                return cls(item)

            async def callback(self, interaction: discord.Interaction) -> None:
                assert interaction.message is not None
                seen.append((interaction.message.attachments, shown_names(interaction.message)))
                await interaction.response.defer()

        bot.add_dynamic_items(Press)
        await bot.tree.sync()

    async with real_bot(sandbox, prepare) as bot:
        ana = await people.be("ana")
        await bot.text_channel().send(view=a_gallery("fox.png", button="press"), files=[a_file()])
        shown = await ana.wait_for_message(lambda message: message.pictures, channel="general")
        await ana.press(shown, "press")
        await ana.context_menu("Look", shown)
    assert seen == [([], ["fox.png"])] * 2


async def test_a_forward_is_empty_but_for_its_snapshot(bot: RealBot, people: People) -> None:
    """Docs: Message "Message Snapshot"."""
    ana = await people.be("ana")
    await bot.text_channel().send(view=a_gallery("fox.png"), files=[a_file()])
    shown = await ana.wait_for_message(lambda message: message.pictures, channel="general")
    forwarded = await ana.forward(shown, to="showcase")
    heard = await bot.hear("message", lambda message: getattr(message, "id", 0) == int(forwarded.id))
    assert isinstance(heard, discord.Message)
    assert (heard.content, heard.attachments, heard.components) == ("", [], [])
    [snapshot] = heard.message_snapshots
    assert snapshot.attachments == []
    assert len(snapshot.components) == 1


async def test_an_edit_drops_the_files_it_does_not_list_and_keeps_all_where_it_lists_nothing(bot: RealBot) -> None:
    """Docs: Edit Message; discord-api-docs 6277."""
    sent = await bot.text_channel().send("two", files=[a_file("a.txt", b"a"), a_file("b.txt", b"b")])
    kept = await sent.edit(content="still two")
    assert [file.filename for file in kept.attachments] == ["a.txt", "b.txt"]
    one = await kept.edit(attachments=[kept.attachments[1]])
    assert [file.filename for file in one.attachments] == ["b.txt"]
    assert (await one.edit(attachments=[])).attachments == []


async def test_an_edit_that_shows_a_new_file_must_list_it(bot: RealBot, sandbox: DiscordSandbox) -> None:
    """Observed: discord-api-docs 7529. discord.py lists new files by itself, so the request is sent without it here."""
    sent = await bot.text_channel().send(view=a_gallery("fox.png"), files=[a_file()])
    gallery = {"type": 12, "items": [{"media": {"url": "attachment://hen.png"}}]}
    form: list[dict[str, object]] = [
        {"name": "payload_json", "value": json.dumps({"components": [gallery]})},
        {"name": "files[0]", "value": io.BytesIO(PNG), "filename": "hen.png", "content_type": "image/png"},
    ]
    route = discord.http.Route(
        "PATCH", "/channels/{channel_id}/messages/{message_id}", channel_id=sent.channel.id, message_id=sent.id
    )
    with pytest.raises(discord.HTTPException, match="attachment was not found"):
        await bot.http.request(route, form=form)


async def test_the_nonce_of_a_deleted_message_is_answered_10008_and_nothing_is_posted(bot: RealBot) -> None:
    """Intended. discord-api-docs 6647, confirmed by Discord's staff."""
    channel = bot.text_channel()
    first = await channel.send("result", nonce="job-1")
    assert (await channel.send("result", nonce="job-1")).id == first.id
    await first.delete()
    with pytest.raises(discord.NotFound) as refused:
        await channel.send("result", nonce="job-1")
    assert refused.value.code == 10008
    assert [message async for message in channel.history()] == []


async def test_a_request_of_more_than_25_mib_is_refused_although_each_of_its_files_is_allowed(bot: RealBot) -> None:
    """Docs: Create Message "Limitations" (25 MiB a request), Uploading Files (10 MiB a file)."""
    nine = bytes(9 * MIB)
    await bot.text_channel().send("two fit", files=[a_file(f"{number}.bin", nine) for number in range(2)])
    with pytest.raises(discord.HTTPException) as refused:
        await bot.text_channel().send("three do not", files=[a_file(f"{number}.bin", nine) for number in range(3)])
    assert (refused.value.status, refused.value.code) == (413, 40005)
    with pytest.raises(discord.HTTPException) as refused:
        await bot.text_channel().send("nor does one of eleven", files=[a_file("large.bin", bytes(11 * MIB))])
    assert (refused.value.status, refused.value.code) == (413, 40005)


async def test_messages_older_than_an_hour_take_three_edits_in_six_seconds_a_channel(bot: RealBot, face: HttpFace) -> None:
    """Error 30046 with status 429. Observed: userdoccers 551; aikaterna-cogs 302."""
    sent = await bot.text_channel().send("old")
    await face.control("clock", advance_s=61 * 60)
    path = f"/channels/{sent.channel.id}/messages/{sent.id}"
    answers = [await face.rest("PATCH", path, {"content": str(number)}) for number in range(4)]
    assert [status for status, _ in answers] == [200, 200, 200, 429]
    assert answers[3][1]["code"] == 30046
    assert 0 < answers[3][1]["retry_after"] <= 6
    await face.control("clock", advance_s=7)
    assert (await face.rest("PATCH", path, {"content": "again"}))[0] == 200


@pytest.mark.parametrize(("code", "status"), [(240000, 400), (20009, 400), (50035, 400)])
async def test_content_can_be_refused_for_good_while_other_content_passes(
    bot: RealBot, face: HttpFace, code: int, status: int
) -> None:
    """240000 is the harmful links filter, private messages included; 20009 is explicit pictures in private messages.

    Docs: Opcodes; discord-api-docs 5327, 5328; userdoccers "Message".
    """
    await face.control("faults", route="POST /channels/", containing="bad words", code=code, times=99)
    for _ in range(2):
        with pytest.raises(discord.HTTPException) as refused:
            await bot.text_channel().send("some bad words")
        assert (refused.value.status, refused.value.code) == (status, code)
    await bot.text_channel().send("some good words")


async def test_commands_work_where_the_bot_sees_nothing_and_bring_what_the_channel_withholds(
    sandbox: DiscordSandbox, people: People, face: HttpFace
) -> None:
    """Reading the channel is 403 50001; the file in the interaction can be downloaded. Docs: Receiving and Responding."""
    found: list[bytes | int] = []

    async def prepare(bot: RealBot) -> None:
        @bot.tree.context_menu(name="Look")
        async def look(interaction: discord.Interaction, message: discord.Message) -> None:
            found.append(await message.attachments[0].read())
            assert isinstance(interaction.channel, discord.TextChannel)
            with pytest.raises(discord.Forbidden) as refused:
                await interaction.channel.fetch_message(message.id)
            found.append(refused.value.code)
            await interaction.response.send_message("seen", ephemeral=True)

        await bot.tree.sync()

    async with real_bot(sandbox, prepare) as bot:
        ana = await people.be("ana")
        shared = await ana.say("look", "showcase", files=[await ana.upload("mine.png", PNG)])
        showcase = str(bot.text_channel("showcase").id)
        await face.control("permissions", role="bot", channel=showcase, deny=int(Permission.VIEW_CHANNEL))
        answer = await ana.context_menu("Look", shared)
    assert answer.text == "seen"
    assert found == [PNG, 50001]


async def test_interactions_also_come_from_threads(sandbox: DiscordSandbox, people: People) -> None:
    """A thread has the permissions of the channel above it. Docs: Channel, "Threads"; Receiving and Responding."""
    came_from: list[object] = []

    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(name="where")
        @app_commands.guild_only()
        async def where(interaction: discord.Interaction) -> None:
            came_from.append(interaction.channel)
            await interaction.response.send_message("here")

        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        ana = await people.be("ana")
        thread = await ana.open_thread("pictures of foxes")
        answer = await ana.slash("where", thread.id)
    assert answer.text == "here"
    [channel] = came_from
    assert isinstance(channel, discord.Thread)
    assert channel.parent is not None
    assert (channel.name, channel.parent.name) == ("pictures of foxes", "general")


@pytest.mark.parametrize("code", [20028, 20029])
async def test_a_429_may_carry_a_code_and_a_wait_of_minutes_without_an_exhausted_bucket(face: HttpFace, code: int) -> None:
    """Docs: Opcodes; discord-api-docs 8290."""
    await face.control("faults", route="GET /users/@me", code=code, retry_after=540)
    status, body = await face.rest("GET", "/users/@me")
    assert (status, body["code"], body["retry_after"], body["global"]) == (429, code, 540, False)
