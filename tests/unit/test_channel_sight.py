"""Who sees a channel is read from Discord's numbers, by the rule that Discord applies to them."""

from __future__ import annotations

from types import SimpleNamespace

import discord
from discord.abc import _Overwrites
from hypothesis import given
from hypothesis import strategies as st

from modules.discord.session_channels import is_hidden, is_shown_to, owner_by_overwrites
from modules.domain.people import UserId

GUILD, BOT, ANA = 1, 2, 3
VIEW, SEND = discord.Permissions(view_channel=True).value, discord.Permissions(send_messages=True).value
bits = st.sampled_from([0, VIEW, SEND, VIEW | SEND])
overwrites = st.lists(st.tuples(st.sampled_from([GUILD, BOT, ANA, 4]), bits, bits), unique_by=lambda one: one[0], max_size=4)


def a_channel(rights: list[tuple[int, int, int]]) -> discord.TextChannel:
    """Only what rights are read from; the guild knows no role and no member, as after a start."""
    channel = discord.TextChannel.__new__(discord.TextChannel)
    channel.guild = SimpleNamespace(id=GUILD, get_role=lambda _: None, get_member=lambda _: None)  # type: ignore[assignment] # see above
    channel._overwrites = [
        _Overwrites({"id": who, "allow": str(allow), "deny": str(deny), "type": 0 if who == GUILD else 1})
        for who, allow, deny in rights
    ]
    return channel


@given(overwrites)
def test_an_overwrite_that_denies_and_allows_allows(rights: list[tuple[int, int, int]]) -> None:
    """Discord takes what is denied away first and adds what is allowed then, of each overwrite.

    Source: Discord developer documentation, "Permissions", "Permission Overwrites" (`compute_overwrites`).
    """
    channel = a_channel(rights)
    seen = {who: bool(allow & VIEW) for who, allow, deny in rights if (allow | deny) & VIEW}
    assert is_hidden(channel) is (seen.get(GUILD) is False)
    for who in (BOT, ANA, 4):
        assert is_shown_to(channel, who) is (seen.get(who) is True)


def test_nobody_who_can_see_a_channel_passes_as_one_from_whom_it_is_hidden() -> None:
    """Whoever may make channels chooses their overwrites, also one that denies and allows themselves the same."""
    closed, bot, ana, maker = (GUILD, 0, VIEW), (BOT, VIEW, 0), (ANA, VIEW, 0), (4, VIEW, VIEW)
    assert owner_by_overwrites(a_channel([closed, bot, ana, maker]), BOT) is None
    assert owner_by_overwrites(a_channel([(GUILD, VIEW, VIEW), bot, ana]), BOT) is None
    assert not is_hidden(a_channel([(GUILD, VIEW, VIEW), bot, ana]))


def test_a_session_is_the_one_members_who_was_let_in() -> None:
    closed, bot, ana = (GUILD, 0, VIEW), (BOT, VIEW, 0), (ANA, VIEW | SEND, 0)
    assert owner_by_overwrites(a_channel([closed, bot, ana]), BOT) == UserId(ANA)
    assert owner_by_overwrites(a_channel([bot, ana]), BOT) is None
    assert owner_by_overwrites(a_channel([closed, ana]), BOT) is None
    assert owner_by_overwrites(a_channel([closed, bot, ana, (4, VIEW, 0)]), BOT) is None
