"""What two people, or one in a hurry, change at the same moment: both changes count."""

from __future__ import annotations

import asyncio

from modules.domain.people import GuildId, UserId
from tests.support.front_side import Front
from tests.support.person import People


async def test_a_ban_outlives_settings_that_its_person_sends_meanwhile(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    for number in range(6):
        await asyncio.gather(
            elena.slash("admin ban", member=bruno.id),
            *(bruno.slash("settings", quiet=bool(number % 2), count=1 + turn) for turn in range(3)),
        )
        assert (await front.database.people.settings(UserId(int(bruno.id)))).is_banned
        await elena.slash("admin unban", member=bruno.id)


async def test_words_that_are_blocked_at_once_are_all_kept(front: Front, people: People) -> None:
    elena = await people.be("elena")
    words = ("gore", "blood", "spam", "casino", "slur", "doom")
    await asyncio.gather(*(elena.slash("admin words", action="add", word=word) for word in words))
    guild = await front.database.people.guild(GuildId(next(iter(front.sandbox.world.guilds))))
    assert sorted(guild.blocked_words) == sorted(words)
