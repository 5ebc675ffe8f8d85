"""With Discord's limits enforced, what admins do twice in a row still works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.person import Seen
from tests.support.program import whole_house


def is_cleared(message: Seen) -> bool:
    return "`!sync` brings them back" in message.text


def is_registered(message: Seen) -> bool:
    return "slash commands are registered" in message.text


@pytest.mark.timeout(240)
async def test_clearall_then_sync_at_once_brings_the_commands_back(tmp_path: Path) -> None:
    async with whole_house(tmp_path, rate_limits=True) as house:
        elena = await house.people.be("elena")
        await elena.say("!clearall", "admin-tools")
        await elena.wait_for_message(
            lambda message: "`!sync` brings them back" in message.text, channel="admin-tools", timeout=80
        )
        assert await elena.commands() == []
        await elena.say("!sync", "admin-tools")
        await elena.wait_for_message(is_registered, channel="admin-tools", timeout=80)
        assert any(command["name"] == "imagine" for command in await elena.commands())
