"""The Discord stand-in, as a real discord.py bot and real people meet it: commands, components, modals."""

import io

import discord
import pytest
from discord import app_commands, ui
from discord.ext import commands

from modules.sandbox.discord_server import DiscordSandbox
from tests.support.discord_side import RealBot, real_bot
from tests.support.http_face import HttpFace
from tests.support.person import People, Refused

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x03\x08\x02\x00\x00\x006\x88I\xd6"
    b"\x00\x00\x00\x00IEND\xaeB`\x82"
)
Interaction = discord.Interaction[RealBot]
Label = ui.Label[ui.Modal]


async def test_a_slash_command_is_synced_offered_used_and_answered_privately(
    sandbox: DiscordSandbox, people: People, face: HttpFace
) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Say hello")
        @app_commands.describe(name="Whom", times="How often", loud="In capitals")
        async def hello(
            interaction: Interaction, name: str, times: app_commands.Range[int, 1, 3] = 1, loud: bool = False
        ) -> None:
            text = f"hello {name} " * times
            await interaction.response.send_message(text.upper() if loud else text, ephemeral=True)

        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        ana, bruno = await people.be("ana"), await people.be("bruno")
        answer = await ana.slash("hello", name="world", times=2, loud=True)
        assert answer.text == "HELLO WORLD HELLO WORLD"
        assert answer.message is not None
        assert answer.message.is_ephemeral
        assert [m.text for m in await ana.messages()] == ["HELLO WORLD HELLO WORLD"]
        assert await bruno.messages() == []
        with pytest.raises(Refused, match="Required: name"):
            await ana.slash("hello")
        with pytest.raises(Refused, match="times must lie between 1 and 3"):
            await ana.slash("hello", name="x", times=9)
        await ana.delete(answer.message)
        assert await ana.messages() == []


async def test_groups_localisations_choices_and_autocomplete_work(
    sandbox: DiscordSandbox, people: People, face: HttpFace
) -> None:
    class Translator(app_commands.Translator):
        async def translate(
            self, string: app_commands.locale_str, locale: discord.Locale, context: app_commands.TranslationContextTypes
        ) -> str | None:
            return {"paint": "pintar", "Paint something": "Pinta algo"}.get(string.message) if str(locale) == "es-ES" else None

    async def prepare(bot: RealBot) -> None:
        await bot.tree.set_translator(Translator())
        art = app_commands.Group(name="art", description="Pictures")
        oils = app_commands.Group(name="oils", description="Oil paint", parent=art)

        @oils.command(name=app_commands.locale_str("paint"), description=app_commands.locale_str("Paint something"))
        @app_commands.choices(size=[app_commands.Choice(name="Small", value=1), app_commands.Choice(name="Big", value=2)])
        async def paint(interaction: Interaction, motif: str, size: app_commands.Choice[int]) -> None:
            await interaction.response.send_message(f"{motif} {size.name} {interaction.locale}")

        @paint.autocomplete("motif")
        async def motifs(interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
            ideas = ["lighthouse", "lion", "mountain"]
            return [app_commands.Choice(name=i, value=i) for i in ideas if i.startswith(current)]

        bot.tree.add_command(art)
        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        ana = await people.be("ana")
        assert [c.value for c in await ana.autocomplete("art oils paint", "motif", "li")] == ["lighthouse", "lion"]
        answer = await ana.slash("art oils paint", motif="lion", size=2)
        assert answer.text == "lion Big es-ES"
        definition = await ana.wait_for_command("art")
        inner = definition["options"][0]["options"][0]
        assert inner["name_localizations"] == {"es-ES": "pintar"}
        with pytest.raises(Refused, match="no choice of size"):
            await ana.slash("art oils paint", motif="lion", size=3)


async def test_layout_views_survive_the_round_trip_and_their_buttons_and_selects_answer(
    sandbox: DiscordSandbox, people: People, face: HttpFace
) -> None:
    class Rate(ui.DynamicItem[ui.Button[ui.LayoutView]], template=r"rate:(?P<stars>\d)"):
        def __init__(self, stars: int) -> None:
            super().__init__(ui.Button(label=f"{stars} stars", custom_id=f"rate:{stars}"))
            self.stars = stars

        @classmethod
        async def from_custom_id(cls, interaction: Interaction, item: ui.Item[ui.View], match: object) -> "Rate":  # type: ignore[override]
            return cls(int(match["stars"]))  # type: ignore[index]

        async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
            await interaction.response.send_message(f"{interaction.user.display_name} gives {self.stars}", ephemeral=True)

    class Colours(ui.Select[ui.LayoutView]):
        def __init__(self) -> None:
            options = [discord.SelectOption(label=name.title(), value=name) for name in ("red", "green", "blue")]
            super().__init__(custom_id="colours", placeholder="Colours", max_values=2, options=options)

        async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
            view = ui.LayoutView(timeout=None)
            view.add_item(ui.TextDisplay(f"chosen: {', '.join(self.values)}"))
            await interaction.response.edit_message(view=view)

    def card() -> ui.LayoutView:
        view = ui.LayoutView(timeout=None)
        gallery: ui.MediaGallery[ui.LayoutView] = ui.MediaGallery(
            discord.MediaGalleryItem("attachment://one.png", description="one")
        )
        section: ui.Section[ui.LayoutView] = ui.Section(
            ui.TextDisplay("side text"), accessory=ui.Thumbnail("attachment://one.png")
        )
        stars = Rate(5)
        link: ui.Button[ui.LayoutView] = ui.Button(label="site", url="https://example.org")
        rows: list[ui.ActionRow[ui.LayoutView]] = [
            ui.ActionRow(stars, link),  # type: ignore[arg-type]  # a dynamic item takes its button's place
            ui.ActionRow(Colours()),
        ]
        view.add_item(ui.Container(ui.TextDisplay("# Title"), ui.Separator(), section, gallery, *rows, accent_colour=0x123456))
        view.add_item(ui.File("attachment://notes.txt"))
        return view

    async def prepare(bot: RealBot) -> None:
        bot.add_dynamic_items(Rate)

    async with real_bot(sandbox, prepare) as bot:
        ana = await people.be("ana")
        files = [discord.File(io.BytesIO(PNG), "one.png"), discord.File(io.BytesIO(b"hi"), "notes.txt")]
        sent = await bot.text_channel().send(view=card(), files=files)
        assert sent.flags.components_v2
        seen = await ana.wait_for_message(lambda m: "Title" in m.text)
        assert seen.accent == 0x123456
        assert seen.text == "# Title\nside text"
        assert await ana.download(seen.pictures[0]) == PNG
        assert [(f.filename, f.width, f.height) for f in seen.files] == [("one.png", 2, 3), ("notes.txt", None, None)]
        assert (await ana.press(seen, "5 stars")).text == "Ana gives 5"
        chosen = await ana.select(seen, "Colours", ["Red", "blue"])
        assert chosen.text == "chosen: red, blue"
        fetched = await bot.text_channel().fetch_message(sent.id)
        assert fetched.edited_at is not None


async def test_a_modal_with_every_kind_of_input_reaches_the_bot(sandbox: DiscordSandbox, people: People, face: HttpFace) -> None:
    class Form(ui.Modal, title="New picture"):
        prompt: Label = ui.Label(text="Prompt", component=ui.TextInput(custom_id="prompt", default="a cat", max_length=20))
        negative: Label = ui.Label(text="Negative", component=ui.TextInput(custom_id="negative", required=False))
        model: Label = ui.Label(
            text="Model", component=ui.Select(custom_id="model", options=[discord.SelectOption(label="Flux", value="flux")])
        )
        picture: Label = ui.Label(text="Picture", component=ui.FileUpload(custom_id="picture", required=False))
        friend: Label = ui.Label(text="Friend", component=ui.UserSelect(custom_id="friend", required=False, min_values=0))

        async def on_submit(self, interaction: Interaction) -> None:  # type: ignore[override]
            parts = [part.component for part in (self.prompt, self.negative, self.model, self.picture, self.friend)]
            prompt, negative, model, picture, friend = parts
            content = await picture.values[0].read()  # type: ignore[attr-defined]
            await interaction.response.send_message(
                f"{prompt.value}|{negative.value}|{model.values[0]}|{len(content)}|{friend.values[0].name}"  # type: ignore[attr-defined]
            )

    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Open the form")
        async def form(interaction: Interaction) -> None:
            await interaction.response.send_modal(Form())

        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        ana, bruno = await people.be("ana"), await people.be("bruno")
        opened = (await ana.slash("form")).modal
        assert opened is not None
        assert (opened.title, opened.typed["prompt"]) == ("New picture", "a cat")
        picture = await ana.upload("cat.png", PNG)
        with pytest.raises(Refused, match="Must be between 0 and 20 in length"):
            await ana.submit(opened, prompt="x" * 21, model="Flux")
        answer = await ana.submit(opened, Prompt="a dog", Model="Flux", Picture=picture, Friend=bruno)
        assert answer.text == f"a dog||flux|{len(PNG)}|bruno"


async def test_context_menus_bring_their_target(sandbox: DiscordSandbox, people: People, face: HttpFace) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.context_menu(name="Quote it")
        async def quote(interaction: Interaction, message: discord.Message) -> None:
            await interaction.response.send_message(f"> {message.content} ({len(message.attachments)} files)")

        @bot.tree.context_menu(name="Who is that")
        async def who(interaction: Interaction, member: discord.Member) -> None:
            await interaction.response.send_message(f"{member.name} since {member.joined_at:%Y}")

        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        ana, bruno = await people.be("ana"), await people.be("bruno")
        said = await bruno.say("look", files=[await bruno.upload("a.png", PNG)])
        assert (await ana.context_menu("Quote it", said)).text == "> look (1 files)"
        assert (await ana.context_menu("Who is that", bruno)).text.startswith("bruno since 20")


async def test_a_deferral_shows_thinking_and_its_first_follow_up_keeps_its_privacy(
    sandbox: DiscordSandbox, people: People, face: HttpFace
) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Public")
        async def public(interaction: Interaction) -> None:
            await interaction.response.defer(thinking=True)
            await interaction.followup.send("I wanted this private", ephemeral=True)
            await interaction.followup.send("really private", ephemeral=True)

        @bot.tree.command(description="Private")
        async def private(interaction: Interaction, picture: discord.Attachment) -> None:
            await interaction.response.defer(thinking=True, ephemeral=True)
            data = await picture.read()
            await interaction.edit_original_response(content=f"{picture.content_type} {picture.width} {len(data)}")

        await bot.tree.sync()

    async with real_bot(sandbox, prepare):
        ana, bruno = await people.be("ana"), await people.be("bruno")
        answer = await ana.slash("public")
        assert answer.deferred
        assert answer.message is not None
        assert not answer.message.is_ephemeral
        await ana.wait_for_message(lambda m: m.text == "really private" and m.is_ephemeral)
        assert [m.text for m in await bruno.messages()] == ["I wanted this private"]
        loading = next(e for e in ana.events if e.t == "MESSAGE_CREATE")
        assert loading.d["flags"] & 128
        private = await ana.slash("private", picture=await ana.upload("p.png", PNG))
        assert private.text == f"image/png 2 {len(PNG)}"


async def test_silence_for_three_seconds_fails_and_late_or_double_answers_are_refused(
    people: People, sandbox: DiscordSandbox
) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Never answers in time")
        async def slow(interaction: Interaction) -> None:
            bot.waiting = interaction  # type: ignore[attr-defined]

        @bot.tree.command(description="Answers twice")
        async def twice(interaction: Interaction) -> None:
            again = discord.InteractionResponse(interaction)
            await interaction.response.send_message("one")
            try:
                await again.send_message("two")
            except discord.HTTPException as error:
                await bot.note("refused", error.code)

        await bot.tree.sync()

    sandbox.context.interactions.answer_within_s = 0.2
    async with real_bot(sandbox, prepare) as bot:
        ana = await people.be("ana")
        assert (await ana.slash("slow")).failed
        with pytest.raises(discord.NotFound, match="10062"):
            await bot.waiting.response.send_message("too late")  # type: ignore[attr-defined]
        sandbox.context.interactions.answer_within_s = 3.0
        assert (await ana.slash("twice")).text == "one"
        assert await bot.hear("refused") == 40060


async def test_a_token_works_for_fifteen_minutes_and_not_longer(sandbox: DiscordSandbox, people: People, face: HttpFace) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Remember me")
        async def remember(interaction: Interaction) -> None:
            await interaction.response.send_message("first")
            bot.kept = interaction  # type: ignore[attr-defined]

        await bot.tree.sync()

    async with real_bot(sandbox, prepare) as bot:
        ana = await people.be("ana")
        await ana.slash("remember")
        await face.control("clock", advance_s=14 * 60)
        followup: discord.Webhook = bot.kept.followup  # type: ignore[attr-defined]
        await followup.send("in time")
        await face.control("clock", advance_s=2 * 60)
        with pytest.raises(discord.HTTPException, match="50027"):
            await followup.send("too late")


async def test_commands_work_in_private_and_greet_by_prefix(sandbox: DiscordSandbox, people: People, face: HttpFace) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Where am I")
        async def where(interaction: Interaction) -> None:
            await interaction.response.send_message("in private" if interaction.guild is None else interaction.guild.name)

        @bot.command()
        async def ping(context: commands.Context[RealBot]) -> None:
            await context.send("pong")

        await bot.tree.sync()

    async with real_bot(sandbox, prepare) as bot:
        ana = await people.be("ana")
        assert (await ana.slash("where", "dm")).text == "in private"
        assert (await ana.slash("where")).text == "Pixel Garden"
        await ana.say("!ping", "dm")
        await ana.wait_for_message(lambda m: m.text == "pong", channel="dm")
        user = bot.get_user(int(ana.id))
        assert user is not None
        await user.send("psst")
        await ana.wait_for_message(lambda m: m.text == "psst", channel="dm")
        await ana.wait_for("NOTIFICATION", lambda d: d["message"]["content"] == "psst")


async def test_commands_for_administrators_are_offered_to_nobody_else(
    sandbox: DiscordSandbox, people: People, face: HttpFace
) -> None:
    async def prepare(bot: RealBot) -> None:
        @bot.tree.command(description="Only for those who manage the guild")
        @app_commands.default_permissions(manage_guild=True)
        async def admin(interaction: Interaction) -> None:
            await interaction.response.send_message("yes")

        bot.tree.copy_global_to(guild=bot.guild_object)  # type: ignore[attr-defined]
        await bot.tree.sync(guild=bot.guild_object)  # type: ignore[attr-defined]

    home = discord.Object(next(iter(sandbox.world.guilds)))

    async def prepare_with_home(bot: RealBot) -> None:
        bot.guild_object = home  # type: ignore[attr-defined]
        await prepare(bot)

    async with real_bot(sandbox, prepare_with_home):
        ana, elena = await people.be("ana"), await people.be("elena")
        assert [c["name"] for c in await ana.commands()] == []
        assert (await elena.slash("admin")).text == "yes"
