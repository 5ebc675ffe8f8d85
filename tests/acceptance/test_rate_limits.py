"""With Discord's limits enforced, what admins do twice in a row still works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.person import Seen
from tests.support.program import whole_house


def is_cleared(message: Seen) -> bool:
    return "`!sync` brings them back" in message.text


def is_waiting(message: Seen) -> bool:
    return "Discord asks us to wait: commands can be changed again at <t:" in message.text


def is_registered(message: Seen) -> bool:
    return "slash commands are registered" in message.text


@pytest.mark.timeout(240)
async def test_clearall_then_sync_at_once_brings_the_commands_back(tmp_path: Path) -> None:
    """Two registrations a minute: the start takes one, `!clearall` the other. Both who ask for a third are told to wait."""
    async with whole_house(tmp_path, rate_limits=True) as house:
        elena = await house.people.be("elena")
        await elena.wait_for_command("imagine")
        await elena.say("!clearall", "admin-tools")
        await elena.wait_for_message(is_cleared, channel="admin-tools", timeout=20)
        assert await elena.commands() == []
        for _ in range(2):
            await elena.say("!sync", "admin-tools")

        async def answers(are_so: Callable[[Seen], bool]) -> list[Seen] | None:
            found = [message for message in await elena.messages("admin-tools") if message.by_bot and are_so(message)]
            return found if len(found) == 2 else None

        waiting = await elena.until(lambda: answers(is_waiting), "two answers that it takes longer", timeout=20)
        done = await elena.until(lambda: answers(is_registered), "both to be done", timeout=80)
        assert [message.id for message in done] == [message.id for message in waiting]
        assert any(command["name"] == "imagine" for command in await elena.commands())
        entries = house.discord.context.journal.entries
        told = [entry for entry in entries if entry.method == "PUT" and entry.path.endswith("/commands") and entry.body != b"[]"]
        assert len(told) == 2
