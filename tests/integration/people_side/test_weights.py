"""Whose turn counts how much: the share of a person comes from what Discord says of them."""

from __future__ import annotations

import pytest

from modules.domain.people import UserId
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People


@pytest.mark.parametrize(("name", "share"), [("bruno", 1.0), ("chloe", 2.0), ("elena", 4.0)])
async def test_members_boosters_and_administrators_have_shares_of_their_own(
    front: Front, people: People, name: str, share: float
) -> None:
    person = await people.be(name)
    await person.slash("imagine", model="z-image", prompt="a fox")
    accounts = (await front.database.jobs.snapshot()).accounts
    assert accounts[UserId(int(person.id))].weight == share


async def test_an_operators_table_replaces_the_rule(door: FrontDoor, people: People) -> None:
    artist = next(role for role in next(iter(door.sandbox.world.guilds.values())).roles.values() if role.name == "Server Booster")
    async with door.open(role_weights={artist.id: 3.0}) as front:
        for name in ("chloe", "elena"):
            await (await people.be(name)).slash("imagine", model="z-image", prompt="a fox")
        weights = {account.weight for account in (await front.database.jobs.snapshot()).accounts.values()}
        assert weights == {3.0, 1.0}
