"""In which language public words are said: the server's where it has chosen one, else DEFAULT_LOCALE."""

from __future__ import annotations

import pytest

from modules.domain.people import Language
from tests.support.front_side import FrontDoor
from tests.support.person import People


@pytest.mark.parametrize(
    ("features", "locale", "default", "words"),
    [
        ([], "en-US", Language.SPANISH, "La fila está en pausa"),  # what Discord says of every server that is no Community
        ([], "en-US", Language.ENGLISH, "The queue is paused"),
        (["COMMUNITY"], "en-US", Language.SPANISH, "The queue is paused"),
        (["COMMUNITY"], "es-ES", Language.ENGLISH, "La fila está en pausa"),
    ],
)
async def test_default_locale_counts_wherever_the_server_has_no_language_of_its_own(
    door: FrontDoor, people: People, features: list[str], locale: str, default: Language, words: str
) -> None:
    guild = door.sandbox.world.guild(door.guild_id)
    guild.features, guild.locale = features, locale
    elena = await people.be("elena")
    async with door.open(default_language=default):
        await elena.wait_for_channel("admin-tools")
        await elena.slash("admin pause")
        await elena.wait_for_message(lambda m: words in m.text, channel="admin-tools")


async def test_a_servers_language_is_remembered_while_the_gateway_has_lost_it(door: FrontDoor, people: People) -> None:
    guild = door.sandbox.world.guild(door.guild_id)
    guild.features, guild.locale = ["COMMUNITY"], "es-ES"
    elena = await people.be("elena")
    async with door.open():
        await elena.slash("admin pause")
        await elena.wait_for_message(lambda m: "La fila está en pausa" in m.text, channel="admin-tools")
        door.sandbox.context.gateway.begin_outage(door.guild_id)
        await elena.slash("admin resume")
        await elena.wait_for_message(lambda m: "La fila sigue" in m.text, channel="admin-tools")
