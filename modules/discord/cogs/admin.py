"""For administrators: `!sync`, `!clearall`, `!getid` in `#admin-tools`, and the `/admin` group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from modules.discord.checks import is_admin
from modules.discord.failures import Refusal, show_privately
from modules.discord.suggestions import MAX_SUGGESTIONS
from modules.discord.translator import phrase as _
from modules.discord.views.admin_cards import audit_card, queue_overview, status_card
from modules.discord.views.layout import Accent
from modules.discord.views.notices import notice
from modules.discord.wording import channel_link, plain
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import ACTIVE_STATES, Job, JobId, JobState, ServerName, from_base36, short_id
from modules.domain.people import ChannelId, GuildId, UserId
from modules.domain.records import AuditEntry

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

#: Jobs that `/admin queue` lists.
LISTED_JOBS = 15
#: Acts that `/admin audit` lists.
LISTED_ACTS = 20
#: Jobs that `/admin cancel` and `requeue` look through for an id.
SEARCHED_JOBS = 1_000


class Admin(commands.Cog):
    """Everything is checked against what Discord says of the person at that moment; nothing is cached."""

    admin = app_commands.Group(
        name="admin",
        description=_("command.admin.description"),
        default_permissions=discord.Permissions(administrator=True),
        guild_only=True,
    )

    def __init__(self, bot: FulletBot) -> None:
        self.bot = bot

    # --- text commands --------------------------------------------------------------------------------------------------

    async def cog_check(self, context: commands.Context[FulletBot]) -> bool:  # type: ignore[override] # our bot
        """Administrators in `#admin-tools`; administrators elsewhere get a hint, everybody else silence."""
        author = context.author
        if context.guild is None or not isinstance(author, discord.Member) or not author.guild_permissions.administrator:
            return False
        tools = await self.bot.rooms.admin_tools(context.guild)
        if tools is not None and context.channel.id != tools.id:
            texts = self.bot.voices.for_guild(context.guild)
            await context.reply(texts("admin.wrong_channel", channel=channel_link(tools.id)), mention_author=False)
            return False
        return tools is not None

    @commands.command(name="sync")
    async def text_sync(self, context: commands.Context[FulletBot]) -> None:
        """Register the slash commands."""
        registered = await self.bot.sync_commands()
        await context.reply(self.bot.voices.for_guild(context.guild)("admin.synced", count=registered or 0), mention_author=False)

    @commands.command(name="clearall")
    async def text_clear(self, context: commands.Context[FulletBot]) -> None:
        """Remove all slash commands."""
        await self.bot.clear_commands(context.guild)
        await context.reply(self.bot.voices.for_guild(context.guild)("admin.cleared"), mention_author=False)

    @commands.command(name="getid")
    async def text_ids(self, context: commands.Context[FulletBot]) -> None:
        """The ids that settings ask for."""
        texts = self.bot.voices.for_guild(context.guild)
        assert context.guild is not None
        ids = texts("admin.ids", guild=str(context.guild.id), channel=str(context.channel.id), person=str(context.author.id))
        await context.reply(ids, mention_author=False)

    # --- /admin ---------------------------------------------------------------------------------------------------------

    async def interaction_check(self, interaction: discord.Interaction, /) -> bool:
        """Discord hides the group from others; a server may have opened it, so we look ourselves."""
        if not is_admin(interaction):
            raise Refusal(FulletError(ErrorCode.ADMINS_ONLY))
        return True

    @admin.command(name="status", description=_("command.admin.status"))
    async def status(self, interaction: discord.Interaction) -> None:
        """Servers, queue, versions."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        texts = await self.bot.voices.for_person(interaction)
        status = await self.bot.house.admin.status()
        view = status_card(status, self.bot.house.catalogue.problems(), self.bot.options.version, texts)
        await interaction.edit_original_response(view=view)

    @admin.command(name="sync", description=_("command.admin.sync"))
    async def sync(self, interaction: discord.Interaction) -> None:
        """As `!sync`."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        registered = await self.bot.sync_commands()
        await self._say(interaction, "admin.synced", count=registered or 0)

    @admin.command(name="clearall", description=_("command.admin.clearall"))
    async def clear(self, interaction: discord.Interaction) -> None:
        """As `!clearall`."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        await self.bot.clear_commands(interaction.guild)
        await self._say(interaction, "admin.cleared")

    @admin.command(name="getid", description=_("command.admin.getid"))
    async def ids(self, interaction: discord.Interaction) -> None:
        """As `!getid`."""
        await self._say(
            interaction,
            "admin.ids",
            guild=str(interaction.guild_id),
            channel=str(interaction.channel_id),
            person=str(interaction.user.id),
        )

    @admin.command(name="queue", description=_("command.admin.queue"))
    async def queue(self, interaction: discord.Interaction) -> None:
        """Who waits and what runs."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        texts = await self.bot.voices.for_person(interaction)
        jobs = await self.bot.house.jobs.jobs(states=ACTIVE_STATES, limit=LISTED_JOBS + 1, newest_first=False)
        status = await self.bot.house.admin.status()
        view = queue_overview(jobs[:LISTED_JOBS], status, texts)
        await interaction.edit_original_response(view=view)

    @admin.command(name="pause", description=_("command.admin.pause"))
    async def pause(self, interaction: discord.Interaction) -> None:
        """Start nothing more; places are kept."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        await self.bot.house.admin.pause(UserId(interaction.user.id))
        await self._done(interaction, "admin.paused")

    @admin.command(name="resume", description=_("command.admin.resume"))
    async def resume(self, interaction: discord.Interaction) -> None:
        """Go on."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        await self.bot.house.admin.resume(UserId(interaction.user.id))
        await self._done(interaction, "admin.resumed")

    @admin.command(name="drain", description=_("command.admin.drain"))
    @app_commands.describe(server=_("command.admin.server"))
    async def drain(self, interaction: discord.Interaction, server: str) -> None:
        """Give a server nothing more."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        name = await self._server(server)
        await self.bot.house.admin.drain(name, UserId(interaction.user.id))
        await self._done(interaction, "admin.drained", server=plain(name, 80))

    @admin.command(name="enable", description=_("command.admin.enable"))
    @app_commands.describe(server=_("command.admin.server"))
    async def enable(self, interaction: discord.Interaction, server: str) -> None:
        """Let a server work again."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        name = await self._server(server)
        await self.bot.house.admin.enable(name, UserId(interaction.user.id))
        await self._done(interaction, "admin.enabled", server=plain(name, 80))

    @admin.command(name="cancel", description=_("command.admin.cancel"))
    @app_commands.describe(job=_("command.admin.job"))
    async def cancel(self, interaction: discord.Interaction, job: str) -> None:
        """Cancel somebody's job."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        cancelled = await self.bot.house.admin.cancel_for(await self._job(job), UserId(interaction.user.id))
        await self._done(interaction, "admin.cancelled", job=short_id(cancelled.id), owner=plain(cancelled.display_name, 80))

    @admin.command(name="requeue", description=_("command.admin.requeue"))
    @app_commands.describe(job=_("command.admin.job"))
    async def requeue(self, interaction: discord.Interaction, job: str) -> None:
        """Put a running job back at its place."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        moved = await self.bot.house.admin.requeue(await self._job(job), UserId(interaction.user.id))
        await self._done(interaction, "admin.requeued", job=short_id(moved.id), owner=plain(moved.display_name, 80))

    @admin.command(name="refresh", description=_("command.admin.refresh"))
    async def refresh(self, interaction: discord.Interaction) -> None:
        """Ask every server again what it has; new models become choices at once."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        facts = await self.bot.house.admin.refresh(UserId(interaction.user.id))
        await self.bot.sync_commands(only_if_changed=True)
        await self._done(interaction, "admin.refreshed", count=len(facts))

    @admin.command(name="words", description=_("command.admin.words"))
    @app_commands.describe(action=_("command.admin.action"), word=_("command.admin.word"))
    @app_commands.choices(
        action=[
            app_commands.Choice(name=_("command.admin.action_add"), value="add"),
            app_commands.Choice(name=_("command.admin.action_remove"), value="remove"),
        ]
    )
    async def words(self, interaction: discord.Interaction, action: str = "", word: str = "") -> None:
        """Show the blocked words, or change one. None is blocked until an administrator says so."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        settings = await self.bot.house.people.guild(_guild(interaction))
        blocked = with_word(settings.blocked_words, action, word)
        if blocked != settings.blocked_words:
            await self.bot.house.people.save_guild(replace(settings, blocked_words=blocked))
            await self._note(interaction, f"word_{action}", plain(word, 60))
        shown = ", ".join(plain(one, 60) for one in blocked)
        await self._say(interaction, "admin.words" if shown else "admin.words_none", **({"words": shown} if shown else {}))

    @admin.command(name="ban", description=_("command.admin.ban"))
    @app_commands.describe(member=_("command.admin.member"))
    async def ban(self, interaction: discord.Interaction, member: discord.Member) -> None:
        """Keep somebody from generating; what waits is cancelled."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        settings = await self.bot.house.people.settings(UserId(member.id))
        await self.bot.house.people.save_settings(replace(settings, is_banned=True))
        for job in await self.bot.house.jobs.jobs(user_id=UserId(member.id), states=ACTIVE_STATES):
            await self.bot.house.admin.cancel_for(job.id, UserId(interaction.user.id))
        await self._note(interaction, "person_banned", str(member.id))
        await self._done(interaction, "admin.banned", person=member.mention)

    @admin.command(name="unban", description=_("command.admin.unban"))
    @app_commands.describe(member=_("command.admin.member"))
    async def unban(self, interaction: discord.Interaction, member: discord.Member) -> None:
        """Let them generate again."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        settings = await self.bot.house.people.settings(UserId(member.id))
        await self.bot.house.people.save_settings(replace(settings, is_banned=False))
        await self._note(interaction, "person_unbanned", str(member.id))
        await self._done(interaction, "admin.unbanned", person=member.mention)

    @admin.command(name="weight", description=_("command.admin.weight"))
    @app_commands.describe(role=_("command.admin.role"), times=_("command.admin.times"))
    async def weight(
        self, interaction: discord.Interaction, role: discord.Role, times: app_commands.Range[float, 0.1, 10.0]
    ) -> None:
        """A role's share of the GPUs."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        settings = await self.bot.house.people.guild(_guild(interaction))
        await self.bot.house.people.save_guild(replace(settings, role_weights={**settings.role_weights, role.id: times}))
        await self._note(interaction, "role_weight_set", f"{role.id}: {times:g}")
        await self._done(interaction, "admin.weight", role=plain(role.name, 60), weight=times)

    @admin.command(name="audit", description=_("command.admin.audit"))
    @app_commands.describe(told_in=_("command.admin.channel"))
    async def audit(self, interaction: discord.Interaction, told_in: discord.TextChannel | None = None) -> None:
        """What administrators did, newest first; with `told_in`: tell it there from now on."""
        await interaction.response.defer(ephemeral=True, thinking=True)
        if told_in is not None:
            settings = await self.bot.house.people.guild(_guild(interaction))
            await self.bot.house.people.save_guild(replace(settings, audit_channel_id=ChannelId(told_in.id)))
            await self._note(interaction, "audit_channel_set", str(told_in.id))
            await self._done(interaction, "admin.audit_channel", channel=told_in.mention)
            return
        texts = await self.bot.voices.for_person(interaction)
        trail = await self.bot.house.control.audit_trail(limit=LISTED_ACTS)
        await show_privately(interaction, audit_card(trail, texts))

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
            raise FulletError(ErrorCode.JOB_UNKNOWN)
        return found

    async def _say(self, interaction: discord.Interaction, key: str, **params: str | int | float) -> None:
        texts = await self.bot.voices.for_person(interaction)
        await show_privately(interaction, notice(texts(key, **params)))

    async def _done(self, interaction: discord.Interaction, key: str, **params: str | int | float) -> None:
        """To the one who did it, and a line for all administrators."""
        await self._say(interaction, key, **params)
        tools = await self._audit_channel(interaction)
        if tools is not None:
            texts = self.bot.voices.for_guild(interaction.guild)
            line = texts("admin.line", person=interaction.user.mention, act=texts(key, **params))
            await tools.send(view=notice(line, accent=Accent.GREY), allowed_mentions=discord.AllowedMentions.none())

    async def _audit_channel(self, interaction: discord.Interaction) -> discord.TextChannel | None:
        """Where acts are told: the chosen channel while it is there, else `#admin-tools`."""
        if interaction.guild is None:
            return None
        chosen = (await self.bot.house.people.guild(_guild(interaction))).audit_channel_id
        channel = interaction.guild.get_channel(chosen) if chosen else None
        return channel if isinstance(channel, discord.TextChannel) else await self.bot.rooms.admin_tools(interaction.guild)

    async def _note(self, interaction: discord.Interaction, act: str, subject: str) -> None:
        """Acts of the people's side; those of the queue are noted where they are done."""
        now = self.bot.house.clock.now()
        await self.bot.house.control.audit(AuditEntry(at=now, actor_id=UserId(interaction.user.id), act=act, subject=subject))


def with_word(words: tuple[str, ...], action: str, word: str) -> tuple[str, ...]:
    """The blocked words after a change; the same word in other capitals is the same word."""
    wanted = " ".join(word.split()).casefold()
    if not wanted or action not in {"add", "remove"}:
        return words
    others = tuple(one for one in words if one.casefold() != wanted)
    return (*others, wanted) if action == "add" else others


def _guild(interaction: discord.Interaction) -> GuildId:
    assert interaction.guild_id is not None, "the group is for guilds only"
    return GuildId(interaction.guild_id)
