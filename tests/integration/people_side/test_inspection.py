"""What the doctor finds out about Discord: read-only, every right by its name, and what will refuse channels later."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from modules.discord.endpoint import use_endpoint
from modules.discord.inspection import inspect_discord
from modules.discord.rights import NEEDED_RIGHTS
from modules.domain.findings import Finding, Severity
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import add_channel
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.world import ChannelKind, Guild, Overwrite, OverwriteKind


@pytest.fixture
async def sandbox() -> AsyncIterator[DiscordSandbox]:
    async with DiscordSandbox() as opened:
        use_endpoint(opened.api_base, opened.gateway_url)
        yield opened
        assert all(entry.method == "GET" for entry in opened.context.journal.entries), "the doctor changes nothing"
        assert [found for found in opened.context.journal.violations() if found.kind != "reply"] == []


def home(sandbox: DiscordSandbox) -> Guild:
    return next(iter(sandbox.world.guilds.values()))


async def inspect(sandbox: DiscordSandbox) -> list[Finding]:
    return list(await inspect_discord(sandbox.bot_token, home(sandbox).id))


def without(sandbox: DiscordSandbox, right: str) -> None:
    bit = int(Permission[right.upper()])
    for role in home(sandbox).roles.values():
        if role.bot_id or role.id == home(sandbox).id:
            role.permissions &= ~bit


@pytest.mark.parametrize("right", NEEDED_RIGHTS)
async def test_every_right_of_the_invitation_is_looked_for(sandbox: DiscordSandbox, right: str) -> None:
    without(sandbox, right)
    found = await inspect(sandbox)
    wrong = [(finding.code, finding.subject) for finding in found if finding.severity is Severity.ERROR]
    assert wrong == [("right_missing", NEEDED_RIGHTS[right])]


async def test_a_category_of_ours_that_shuts_the_bot_out_is_named(sandbox: DiscordSandbox) -> None:
    category = add_channel(sandbox.world, home(sandbox), "sessions", ChannelKind.CATEGORY)
    denied = int(Permission.MANAGE_ROLES | Permission.ATTACH_FILES)
    category.overwrites = [Overwrite(target_id=sandbox.world.bot.id, kind=OverwriteKind.MEMBER, deny=denied)]
    found = [finding for finding in await inspect(sandbox) if finding.severity is Severity.ERROR]
    assert {finding.code for finding in found} == {"right_missing_in_category"}
    assert {finding.subject for finding in found} == {"Manage Roles", "Attach Files"}
    assert {finding.params["category"] for finding in found} == {"sessions"}


async def test_server_wide_two_factor_authentication_is_noted(sandbox: DiscordSandbox) -> None:
    assert "two_factor_server" not in {finding.code for finding in await inspect(sandbox)}
    home(sandbox).mfa_level = 1
    [noted] = [finding for finding in await inspect(sandbox) if finding.severity is Severity.WARNING]
    assert noted.code == "two_factor_server"


async def test_session_starts_that_are_nearly_used_up_are_noted(sandbox: DiscordSandbox) -> None:
    for _ in range(900):
        sandbox.context.gateway.session_starts.count()
    [noted] = [finding for finding in await inspect(sandbox) if finding.severity is Severity.WARNING]
    assert (noted.code, noted.params) == ("session_starts_low", {"remaining": 100, "total": 1_000})
