"""What documents say is what the program does: the invitation, the commands, the reasons, the pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import discord
import pytest
from discord import app_commands

from modules.discord.cogs import COGS
from modules.discord.rights import NEEDED_RIGHTS
from modules.utils.database.engine import _REASONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ENGLISH, SPANISH = README.split("\n# Español\n")
HALVES = pytest.mark.parametrize("half", [ENGLISH, SPANISH], ids=["en", "es"])
PICTURES = sorted((ROOT / "docs/pictures").iterdir())
#: So that a page with all of them opens quickly, also on a phone.
MAX_PICTURE_BYTES = 250_000
MAX_BYTES_IN_ALL = 2_500_000


def commands() -> Iterator[str]:
    """Every command people can type, as they type it."""
    for cog in COGS:
        for command in cog.__cog_app_commands__:
            inner = command.walk_commands() if isinstance(command, app_commands.Group) else (command,)
            yield from (f"/{one.qualified_name}" for one in inner)
        yield from (f"!{command.name}" for command in cog.__cog_commands__)


@HALVES
def test_the_invitation_asks_for_exactly_the_rights_the_doctor_looks_for(half: str) -> None:
    asked = {int(found) for found in re.findall(r"&permissions=(\d+)", half)}
    assert asked == {discord.Permissions(**dict.fromkeys(NEEDED_RIGHTS, True)).value}


@HALVES
def test_the_table_of_rights_names_each(half: str) -> None:
    rows = re.findall(r"^\| ((?:View|Ver|Manage|Gestionar|Use|Usar|Add|Añadir) [^|]+) \|", half, re.MULTILINE)
    assert sum(len(row.split(", ")) for row in rows) == len(NEEDED_RIGHTS)


@HALVES
@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_stands_in_a_table(half: str, command: str) -> None:
    assert re.search(rf"^\|[^|]*`{re.escape(command)}[ `]", half, re.MULTILINE)


@HALVES
@pytest.mark.parametrize("reason", sorted(set(_REASONS.values())))
def test_every_reason_of_a_database_that_cannot_be_used_has_its_mend(half: str, reason: str) -> None:
    """The doctor sends operators here for it."""
    assert f"({reason})`" in half


def test_both_languages_tell_the_same() -> None:
    for what in (r"^## ", r"^\|", r"^```", r"^- \*", r"^\*\*\d", r"docs/\w+\.md", r"deploy/", r"`[A-Z_]{6,}`"):
        counts = [len(re.findall(what, half, re.MULTILINE)) for half in (ENGLISH, SPANISH)]
        assert counts[0] == counts[1], what


def test_the_index_lists_every_document() -> None:
    index = (ROOT / "docs/README.md").read_text()
    documents = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    assert not {name for name in documents if not re.search(rf"[(`]{re.escape(name)}[)`]", index)}


def test_pictures_are_small_and_all_of_them_are_shown() -> None:
    shown = (ROOT / "docs/README.md").read_text() + README
    assert PICTURES
    for picture in PICTURES:
        assert picture.stat().st_size <= MAX_PICTURE_BYTES, picture.name
        assert picture.name in shown, picture.name
    assert sum(picture.stat().st_size for picture in PICTURES) <= MAX_BYTES_IN_ALL
