"""What administrators may forbid and weigh: words, people, roles' shares; and the trail of what they did."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import discord
from discord import app_commands

from modules.discord.answers import defer_privately, show_privately
from modules.discord.blocked_words import MOST_WORDS, folded, is_word, with_word, without_word
from modules.discord.checks import is_admin
from modules.discord.cogs.admin_acts import ADMIN, AdminActs, guild_of
from modules.discord.posting import Attached
from modules.discord.suggestions import MAX_SUGGESTIONS
from modules.discord.translator import phrase as _
from modules.discord.views.admin_cards import audit_card, words_card
from modules.discord.wording import plain
from modules.domain.errors import FulletError
from modules.domain.jobs import ACTIVE_STATES
from modules.domain.people import ChannelId, UserId
from modules.domain.records import GuildSettings

#: Acts that `/admin audit` lists.
LISTED_ACTS = 20


class Moderation(AdminActs):
    """The part of the `/admin` group that is about people. All of it is off until an administrator says so."""

    @ADMIN.command(name="words", description=_("command.admin.words"))
    @app_commands.describe(action=_("command.admin.action"), word=_("command.admin.word"))
    @app_commands.choices(
        action=[
            app_commands.Choice(name=_("command.admin.action_add"), value="add"),
            app_commands.Choice(name=_("command.admin.action_remove"), value="remove"),
        ]
    )
    async def words(self, interaction: discord.Interaction, action: str = "", word: str = "") -> None:
        """Show the blocked words, or change one."""
        await defer_privately(interaction)
        if action == "add" and not is_word(word):
            await self.say(interaction, "admin.word_refused", limit=MOST_WORDS)
            return

        def changed(settings: GuildSettings) -> GuildSettings:
            words = settings.blocked_words
            match action:
                case "add":
                    return replace(settings, blocked_words=with_word(words, word)) if len(words) < MOST_WORDS else settings
                case "remove":
                    return replace(settings, blocked_words=without_word(words, word))
                case _:
                    return settings

        old, new = await self.bot.house.people.change_guild(guild_of(interaction), changed)
        before, after = old.blocked_words, new.blocked_words
        if action == "add" and len(before) >= MOST_WORDS:
            await self.say(interaction, "admin.word_refused", limit=MOST_WORDS)
            return
        if after != before:
            await self.note(interaction.user, f"word_{action}", plain(word, 60))
            said = "admin.word_add" if action == "add" else "admin.word_remove"
            await self.tell(interaction, said, word=plain(word, 60))
        texts = await self.bot.voices.for_person(interaction)
        whole = Attached(name="words.txt", data="\n".join(after).encode())
        view, is_cut = words_card(after, whole.name, texts)
        await show_privately(interaction, view, [whole.as_file()] if is_cut else [])

    @words.autocomplete("word")
    async def suggest_word(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """Those that are blocked, to allow one again."""
        if not is_admin(interaction):
            return []
        blocked = (await self.bot.house.people.guild(guild_of(interaction))).blocked_words
        found = [word for word in blocked if folded(typed).strip() in folded(word)]
        return [app_commands.Choice(name=word, value=word) for word in found[:MAX_SUGGESTIONS]]

    @ADMIN.command(name="ban", description=_("command.admin.ban"))
    @app_commands.describe(member=_("command.admin.member"))
    async def ban(self, interaction: discord.Interaction, member: discord.User) -> None:
        """Keep somebody from generating; what is theirs in the queue is cancelled. They may have left the guild."""
        await defer_privately(interaction)
        await self._set_ban(member, is_banned=True)
        await self.note(interaction.user, "person_banned", str(member.id))
        for job in await self.bot.house.jobs.jobs(user_id=UserId(member.id), states=ACTIVE_STATES):
            with contextlib.suppress(FulletError):  # it ended by itself in this moment
                await self.bot.house.admin.cancel_for(job.id, UserId(interaction.user.id))
        await self.done(interaction, "admin.banned", person=member.mention)

    @ADMIN.command(name="unban", description=_("command.admin.unban"))
    @app_commands.describe(member=_("command.admin.member"))
    async def unban(self, interaction: discord.Interaction, member: discord.User) -> None:
        """Let them generate again."""
        await defer_privately(interaction)
        await self._set_ban(member, is_banned=False)
        await self.note(interaction.user, "person_unbanned", str(member.id))
        await self.done(interaction, "admin.unbanned", person=member.mention)

    @ADMIN.command(name="weight", description=_("command.admin.weight"))
    @app_commands.describe(role=_("command.admin.role"), times=_("command.admin.times"))
    async def weight(
        self, interaction: discord.Interaction, role: discord.Role, times: app_commands.Range[float, 0.1, 10.0]
    ) -> None:
        """A role's share of the GPUs."""
        await defer_privately(interaction)
        await self.bot.house.people.change_guild(
            guild_of(interaction), lambda guild: replace(guild, role_weights={**guild.role_weights, role.id: times})
        )
        await self.note(interaction.user, "role_weight_set", f"{role.name}: {times:g}")
        await self.done(interaction, "admin.weight", role=plain(role.name, 60), weight=times)

    @ADMIN.command(name="audit", description=_("command.admin.audit"))
    @app_commands.describe(told_in=_("command.admin.channel"))
    async def audit(self, interaction: discord.Interaction, told_in: discord.TextChannel | None = None) -> None:
        """What administrators did, newest first; with `told_in`: tell it there from now on."""
        await defer_privately(interaction)
        if told_in is not None:
            channel_id = ChannelId(told_in.id)
            await self.bot.house.people.change_guild(
                guild_of(interaction), lambda guild: replace(guild, audit_channel_id=channel_id)
            )
            await self.note(interaction.user, "audit_channel_set", str(told_in.id))
            await self.done(interaction, "admin.audit_channel", channel=told_in.mention)
            return
        texts = await self.bot.voices.for_person(interaction)
        trail = await self.bot.house.control.audit_trail(limit=LISTED_ACTS)
        await show_privately(interaction, audit_card(trail, texts))

    async def _set_ban(self, member: discord.abc.User, *, is_banned: bool) -> None:
        await self.bot.house.people.change_settings(UserId(member.id), lambda settings: replace(settings, is_banned=is_banned))
