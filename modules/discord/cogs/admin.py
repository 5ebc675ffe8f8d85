"""For administrators: `!sync`, `!clearall`, `!getid` in `#admin-tools`, and the `/admin` group."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from modules.discord.answers import defer_privately, show_privately
from modules.discord.checks import is_admin
from modules.discord.cogs.admin_acts import ADMIN, guild_of
from modules.discord.cogs.moderation import Moderation
from modules.discord.suggestions import MAX_SUGGESTIONS
from modules.discord.text_commands import TextContext
from modules.discord.translator import phrase as _
from modules.discord.views.admin_cards import queue_overview, status_card
from modules.discord.views.notices import notice, registration_done, registration_waits
from modules.discord.wording import channel_link, plain
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import ACTIVE_STATES, Job, JobId, JobState, ServerName, from_base36, short_id
from modules.domain.people import GuildId, UserId

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

#: Jobs that `/admin queue` lists.
LISTED_JOBS = 15
#: Jobs that `/admin cancel` and `requeue` look through for an id.
SEARCHED_JOBS = 1_000


class Admin(Moderation):
    """The queue and the servers, and everything of the group's other files."""

    admin = ADMIN

    # --- text commands --------------------------------------------------------------------------------------------------

    async def cog_check(self, context: commands.Context[FulletBot]) -> bool:  # type: ignore[override] # our bot
        """Administrators in `#admin-tools`; administrators elsewhere get a hint, everybody else silence."""
        if context.guild is None:
            return False
        guild_id = GuildId(context.guild.id)
        author = await self.bot.known_guilds.member(guild_id, UserId(context.author.id))
        if author is None or not author.guild_permissions.administrator:
            return False
        tools = await self.bot.rooms.admin_tools(guild_id)
        if tools is not None and context.channel.id != tools.id:
            texts = self.bot.voices.for_guild(context.guild)
            await context.reply(texts("admin.wrong_channel", channel=channel_link(tools.id)), mention_author=False)
            return False
        return tools is not None

    @commands.command(name="sync")
    async def text_sync(self, context: TextContext) -> None:
        """Register the slash commands."""
        texts = self.bot.voices.for_guild(context.guild)
        await context.typing()
        registered = await self.bot.registration.sync(lambda until: context.answer(registration_waits(until, texts)))
        await self.note(context.author, "commands_synced")
        await context.answer(registration_done(registered, texts))

    @commands.command(name="clearall")
    async def text_clear(self, context: TextContext) -> None:
        """Remove all slash commands."""
        assert context.guild is not None
        texts = self.bot.voices.for_guild(context.guild)
        await context.typing()
        guild_id = GuildId(context.guild.id)
        await self.bot.registration.clear(guild_id, lambda until: context.answer(registration_waits(until, texts)))
        await self.note(context.author, "commands_cleared")
        await context.answer(registration_done(None, texts))

    @commands.command(name="getid")
    async def text_ids(self, context: commands.Context[FulletBot]) -> None:
        """The ids that settings ask for."""
        texts = self.bot.voices.for_guild(context.guild)
        assert context.guild is not None
        ids = texts("admin.ids", guild=str(context.guild.id), channel=str(context.channel.id), person=str(context.author.id))
        await context.reply(ids, mention_author=False)

    # --- /admin ---------------------------------------------------------------------------------------------------------

    @admin.command(name="status", description=_("command.admin.status"))
    async def status(self, interaction: discord.Interaction) -> None:
        """Servers, queue, versions."""
        await defer_privately(interaction)
        texts = await self.bot.voices.for_person(interaction)
        status = await self.bot.house.admin.status()
        problems = await asyncio.to_thread(self.bot.house.catalogue.problems)
        room = await self.bot.house.blobs.room()
        view = status_card(status, problems, self.bot.options.version, texts, room)
        await interaction.edit_original_response(view=view)

    @admin.command(name="sync", description=_("command.admin.sync"))
    async def sync(self, interaction: discord.Interaction) -> None:
        """As `!sync`."""
        await defer_privately(interaction)
        registered = await self.bot.registration.sync(partial(self._say_waiting, interaction))
        await self.note(interaction.user, "commands_synced")
        await self.done(interaction, "admin.synced", count=registered)

    @admin.command(name="clearall", description=_("command.admin.clearall"))
    async def clear(self, interaction: discord.Interaction) -> None:
        """As `!clearall`."""
        await defer_privately(interaction)
        await self.bot.registration.clear(guild_of(interaction), partial(self._say_waiting, interaction))
        await self.note(interaction.user, "commands_cleared")
        await self.done(interaction, "admin.cleared")

    @admin.command(name="getid", description=_("command.admin.getid"))
    async def ids(self, interaction: discord.Interaction) -> None:
        """As `!getid`."""
        await self.say(
            interaction,
            "admin.ids",
            guild=str(interaction.guild_id),
            channel=str(interaction.channel_id),
            person=str(interaction.user.id),
        )

    @admin.command(name="queue", description=_("command.admin.queue"))
    async def queue(self, interaction: discord.Interaction) -> None:
        """Who waits and what runs."""
        await defer_privately(interaction)
        texts = await self.bot.voices.for_person(interaction)
        jobs = await self.bot.house.jobs.jobs(states=ACTIVE_STATES, limit=LISTED_JOBS + 1, newest_first=False)
        status = await self.bot.house.admin.status()
        view = queue_overview(jobs[:LISTED_JOBS], status, texts)
        await interaction.edit_original_response(view=view)

    @admin.command(name="pause", description=_("command.admin.pause"))
    async def pause(self, interaction: discord.Interaction) -> None:
        """Start nothing more; places are kept."""
        await defer_privately(interaction)
        await self.bot.house.admin.pause(UserId(interaction.user.id))
        await self.done(interaction, "admin.paused")

    @admin.command(name="resume", description=_("command.admin.resume"))
    async def resume(self, interaction: discord.Interaction) -> None:
        """Go on."""
        await defer_privately(interaction)
        await self.bot.house.admin.resume(UserId(interaction.user.id))
        await self.done(interaction, "admin.resumed")

    @admin.command(name="drain", description=_("command.admin.drain"))
    @app_commands.describe(server=_("command.admin.server"))
    async def drain(self, interaction: discord.Interaction, server: str) -> None:
        """Give a server nothing more."""
        await defer_privately(interaction)
        name = await self._server(server)
        await self.bot.house.admin.drain(name, UserId(interaction.user.id))
        await self.done(interaction, "admin.drained", server=plain(name, 80))

    @admin.command(name="enable", description=_("command.admin.enable"))
    @app_commands.describe(server=_("command.admin.server"))
    async def enable(self, interaction: discord.Interaction, server: str) -> None:
        """Let a server work again."""
        await defer_privately(interaction)
        name = await self._server(server)
        await self.bot.house.admin.enable(name, UserId(interaction.user.id))
        await self.done(interaction, "admin.enabled", server=plain(name, 80))

    @admin.command(name="cancel", description=_("command.admin.cancel"))
    @app_commands.describe(job=_("command.admin.job"))
    async def cancel(self, interaction: discord.Interaction, job: str) -> None:
        """Cancel somebody's job."""
        await defer_privately(interaction)
        cancelled = await self.bot.house.admin.cancel_for(await self._job(job), UserId(interaction.user.id))
        await self.done(interaction, "admin.cancelled", job=short_id(cancelled.id), owner=plain(cancelled.display_name, 80))

    @admin.command(name="requeue", description=_("command.admin.requeue"))
    @app_commands.describe(job=_("command.admin.job"))
    async def requeue(self, interaction: discord.Interaction, job: str) -> None:
        """Put a running job back at its place."""
        await defer_privately(interaction)
        moved = await self.bot.house.admin.requeue(await self._job(job), UserId(interaction.user.id))
        await self.done(interaction, "admin.requeued", job=short_id(moved.id), owner=plain(moved.display_name, 80))

    @admin.command(name="refresh", description=_("command.admin.refresh"))
    async def refresh(self, interaction: discord.Interaction) -> None:
        """Ask every server again what it has; new models become choices at once."""
        await defer_privately(interaction)
        facts = await self.bot.house.admin.refresh(UserId(interaction.user.id))
        await self.bot.registration.sync_changes(partial(self._say_waiting, interaction))
        await self.done(interaction, "admin.refreshed", count=len(facts))

    @drain.autocomplete("server")
    @enable.autocomplete("server")
    async def suggest_server(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """The servers by name."""
        if not is_admin(interaction):
            return []
        servers = (await self.bot.house.admin.status()).servers
        found = [server.name for server in servers if typed.casefold() in server.name.casefold()]
        return [app_commands.Choice(name=name[:100], value=name[:100]) for name in found[:MAX_SUGGESTIONS]]

    @cancel.autocomplete("job")
    @requeue.autocomplete("job")
    async def suggest_job(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """Active jobs: whose, and the id. Prompts are private, also from administrators."""
        if not is_admin(interaction):
            return []
        jobs = await self.bot.house.jobs.jobs(states=ACTIVE_STATES, limit=SEARCHED_JOBS, newest_first=False)
        labels = [(f"{short_id(job.id)} · {job.display_name}"[:100], short_id(job.id)) for job in jobs]
        wanted = typed.casefold()
        return [app_commands.Choice(name=label, value=value) for label, value in labels if wanted in label.casefold()][
            :MAX_SUGGESTIONS
        ]

    # --- inside ---------------------------------------------------------------------------------------------------------

    async def _say_waiting(self, interaction: discord.Interaction, until: datetime | None) -> None:
        texts = await self.bot.voices.for_person(interaction)
        await show_privately(interaction, notice(registration_waits(until, texts)))

    async def _server(self, typed: str) -> ServerName:
        for server in (await self.bot.house.admin.status()).servers:
            if server.name == typed.strip():
                return server.name
        raise FulletError(ErrorCode.CHOICE_UNKNOWN, field="server", value=typed)

    async def _job(self, typed: str) -> JobId:
        wanted = typed.strip().lower()
        jobs: Sequence[Job] = await self.bot.house.jobs.jobs(states=ACTIVE_STATES, limit=SEARCHED_JOBS)
        found = next((job.id for job in jobs if short_id(job.id) == wanted), None) or from_base36(wanted)
        if found is None or not any(job.id == found and job.state is not JobState.GENERATED for job in jobs):
            raise FulletError(ErrorCode.CHOICE_UNKNOWN, field="job", value=typed)
        return found
