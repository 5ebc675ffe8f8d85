"""A small bot for tests of the page: one command or button for each thing the page must be able to do."""

import asyncio
import io
from typing import Any

import discord
from discord import app_commands, ui
from PIL import Image

from tests.support.discord_side import RealBot

STYLES = ("oil painting", "pencil", "watercolour")


class Translations(app_commands.Translator):
    """Spanish names for two of the commands."""

    WORDS = {  # noqa: RUF012 - a plain table
        "paint": "pinta",
        "Paint something": "Pinta algo",
        "style": "estilo",
        "prompt": "idea",
        "Describe": "Describir",
    }

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, _: app_commands.TranslationContextTypes
    ) -> str | None:
        """A Spanish word, or none."""
        return self.WORDS.get(string.message) if locale is discord.Locale.spain_spanish else None


def picture(colour: str, size: tuple[int, int] = (320, 240)) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@app_commands.command(name="paint", description="Paint something")
@app_commands.choices(style=[app_commands.Choice(name=style.title(), value=style) for style in STYLES])
async def paint(
    interaction: discord.Interaction,
    style: app_commands.Choice[str],
    prompt: app_commands.Range[str, 3, 2000],
    count: app_commands.Range[int, 1, 4] = 1,
    strength: float | None = None,
    loud: bool | None = None,
    friend: discord.Member | None = None,
    image: discord.Attachment | None = None,
) -> None:
    """Thinks, then repeats everything it was given."""
    await interaction.response.defer(ephemeral=True, thinking=True)
    read = f"{len(await image.read())} bytes of {image.filename}" if image else "no picture"
    said = f"style={style.value} | prompt={prompt} | count={count} | strength={strength} | loud={loud}"
    await interaction.followup.send(f"{said} | friend={friend and friend.display_name} | {read}")


@paint.autocomplete("prompt")
async def suggest(_: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
    """Three ideas that begin as typed."""
    return [app_commands.Choice(name=f"{typed} {end}", value=f"{typed} {end}") for end in ("at dusk", "in snow", "by the sea")]


@app_commands.command(name="say", description="Say something in public")
async def say(interaction: discord.Interaction, text: str) -> None:
    """Repeats a text unescaped, in an embed too."""
    await interaction.response.send_message(text, embed=discord.Embed(title=text[:250], description=text[:4000]))


@app_commands.command(name="silent", description="Never answer")
async def silent(_: discord.Interaction) -> None:
    """Leaves people waiting."""


@app_commands.command(name="boss", description="For administrators")
@app_commands.default_permissions(administrator=True)
async def boss(interaction: discord.Interaction) -> None:
    """Only offered to administrators."""
    await interaction.response.send_message("yes, boss", ephemeral=True)


@app_commands.command(name="gallery", description="Show pictures")
async def gallery(interaction: discord.Interaction, count: app_commands.Range[int, 1, 10]) -> None:
    """A Components V2 message with a gallery in a container."""
    colours = ("#c0392b", "#27ae60", "#2980b9", "#8e44ad", "#f39c12", "#16a085", "#7f8c8d", "#d35400", "#2c3e50", "#e84393")
    files = [discord.File(io.BytesIO(picture(colours[at])), f"picture-{at}.png") for at in range(count)]
    view = ui.LayoutView()
    items = [
        discord.MediaGalleryItem(f"attachment://{file.filename}", description=f"Picture {at}") for at, file in enumerate(files)
    ]
    view.add_item(ui.Container(ui.TextDisplay("### A gallery"), ui.MediaGallery(*items), accent_colour=0x3366FF))
    await interaction.response.send_message(view=view, files=files)


class Form(ui.Modal, title="A form"):
    """Every kind of field a form of ours uses."""

    idea: ui.Label[Any] = ui.Label(
        text="Idea",
        description="What it shows",
        component=ui.TextInput(style=discord.TextStyle.paragraph, default="a boat", min_length=3, max_length=200),
    )
    steps: ui.Label[Any] = ui.Label(text="Steps", component=ui.TextInput(required=False, placeholder="1-150", max_length=3))
    model: ui.Label[Any] = ui.Label(
        text="Model",
        component=ui.Select(
            options=[discord.SelectOption(label="Flux", value="flux"), discord.SelectOption(label="Z-Image", value="z")]
        ),
    )
    upload: ui.Label[Any] = ui.Label(text="Reference", component=ui.FileUpload(required=False))

    async def on_submit(self, interaction: discord.Interaction, /) -> None:
        """Repeats everything, unless told to break."""
        assert isinstance(self.idea.component, ui.TextInput)
        assert isinstance(self.steps.component, ui.TextInput)
        assert isinstance(self.model.component, ui.Select)
        assert isinstance(self.upload.component, ui.FileUpload)
        if self.idea.component.value == "break":
            return
        files = [file.filename for file in self.upload.component.values]
        said = {"idea": self.idea.component.value, "steps": self.steps.component.value, "model": self.model.component.values}
        await interaction.response.send_message(f"{said} {files}", ephemeral=True)


class Board(ui.View):
    """Buttons and selects of the first generation."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.presses = 0

    @ui.button(label="Count", emoji="🔢", style=discord.ButtonStyle.primary, custom_id="count")
    async def count(self, interaction: discord.Interaction, _: ui.Button["Board"]) -> None:
        """Edits the message for everybody."""
        self.presses += 1
        await interaction.response.edit_message(content=f"pressed {self.presses} times")

    @ui.button(label="Form", custom_id="form")
    async def form(self, interaction: discord.Interaction, _: ui.Button["Board"]) -> None:
        """Opens the form."""
        await interaction.response.send_modal(Form())

    @ui.button(label="Broken", style=discord.ButtonStyle.danger, custom_id="broken")
    async def broken(self, _: discord.Interaction, __: ui.Button["Board"]) -> None:
        """Never answers."""

    @ui.button(label="Not now", disabled=True, custom_id="disabled")
    async def disabled(self, _: discord.Interaction, __: ui.Button["Board"]) -> None:
        """Cannot be pressed."""

    @ui.select(
        placeholder="One",
        custom_id="one",
        options=[discord.SelectOption(label=style.title(), value=style, description=f"as {style}") for style in STYLES],
    )
    async def one(self, interaction: discord.Interaction, select: ui.Select["Board"]) -> None:
        """Says what was chosen."""
        await interaction.response.send_message(f"one: {select.values}", ephemeral=True)

    @ui.select(
        placeholder="Several",
        custom_id="several",
        min_values=1,
        max_values=2,
        options=[discord.SelectOption(label=f"LoRA {n}") for n in range(12)],
    )
    async def several(self, interaction: discord.Interaction, select: ui.Select["Board"]) -> None:
        """Says what was chosen."""
        await interaction.response.send_message(f"several: {select.values}", ephemeral=True)

    @ui.select(cls=ui.UserSelect, placeholder="Somebody", custom_id="somebody")
    async def somebody(self, interaction: discord.Interaction, select: ui.UserSelect["Board"]) -> None:
        """Says who was chosen."""
        await interaction.response.send_message(f"somebody: {[user.display_name for user in select.values]}", ephemeral=True)


@app_commands.command(name="board", description="Show the buttons")
async def board(interaction: discord.Interaction) -> None:
    """A public message with all the controls."""
    await interaction.response.send_message("pressed 0 times", view=Board())


@app_commands.context_menu(name="Describe")
async def describe(interaction: discord.Interaction, message: discord.Message) -> None:
    """Says what a message holds."""
    await interaction.response.send_message(f"That says: {message.content}", ephemeral=True)


words = app_commands.Group(name="words", description="Words")
blocked = app_commands.Group(name="blocked", description="Blocked words", parent=words)


@blocked.command(name="add", description="Block a word")
async def add(interaction: discord.Interaction, word: str) -> None:
    """Two levels down."""
    await interaction.response.send_message(f"blocked: {word}", ephemeral=True)


async def prepare(bot: RealBot) -> None:
    """Register everything, and a text command."""
    await bot.tree.set_translator(Translations())
    everything: list[app_commands.Command[Any, ..., Any] | app_commands.ContextMenu | app_commands.Group]
    everything = [paint, say, silent, boss, gallery, board, describe, words]
    for command in everything:
        bot.tree.add_command(command)
    bot.add_command(discord.ext.commands.Command(hello, name="hello"))
    await bot.tree.sync()


async def hello(context: "discord.ext.commands.Context[RealBot]") -> None:
    """A text command: `!hello`."""
    async with context.typing():
        await asyncio.sleep(0)
    await context.reply(f"Hello {context.author.mention}", mention_author=True)
