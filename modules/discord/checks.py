"""Who may do what, and where: decided without any I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import discord

from modules.discord.blocked_words import blocked_in
from modules.domain.catalogue import ModelSpec, Wish
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Job
from modules.domain.people import GuildId
from modules.domain.records import GuildSettings

#: Shares of the GPUs where nobody says otherwise. Source: docs/scheduling.md, "Weights".
ADMIN_WEIGHT, BOOSTER_WEIGHT, MEMBER_WEIGHT = 4.0, 2.0, 1.0


def check_wish(wish: Wish, spec: ModelSpec, settings: GuildSettings, channel: object) -> None:
    """Raise PROMPT_BLOCKED or MODEL_AGE_RESTRICTED where the guild's rules forbid the wish."""
    if blocked_in(f"{wish.prompt}\n{wish.negative_prompt}", settings.blocked_words) is not None:
        raise FulletError(ErrorCode.PROMPT_BLOCKED)
    if spec.is_age_restricted and not _is_age_restricted(channel):
        raise FulletError(ErrorCode.MODEL_AGE_RESTRICTED, model=spec.label)


def weight_of(
    role_ids: Iterable[int],
    settings: GuildSettings,
    *,
    house: Mapping[int, float] | None = None,
    is_admin: bool = False,
    is_booster: bool = False,
) -> float:
    """A person's share of the GPUs: the greatest their roles give; 1 for a plain member. Never zero or less: everyone is served.

    The guild's own table goes before the house's (ROLE_WEIGHTS). Without any, administrators have 4 and boosters 2: an operator
    who gives a table says it all.
    """
    table = settings.role_weights or house or {}
    weights = [table[role_id] for role_id in role_ids if role_id in table]
    if not table:
        weights = [ADMIN_WEIGHT] * is_admin + [BOOSTER_WEIGHT] * is_booster
    return max((weight for weight in weights if weight > 0), default=MEMBER_WEIGHT)


def is_admin(interaction: discord.Interaction) -> bool:
    """Whether Discord says that this person administers the guild they act in."""
    return interaction.guild_id is not None and interaction.permissions.administrator


def check_owner(job: Job | None, interaction: discord.Interaction) -> Job:
    """The job, if this person may act on it: its owner, or an administrator of its guild. Raises JOB_UNKNOWN, JOB_NOT_YOURS."""
    if job is None or (interaction.guild_id is not None and interaction.guild_id != job.guild_id):
        raise FulletError(ErrorCode.JOB_UNKNOWN)
    if interaction.user.id != job.user_id and not (is_admin(interaction) and interaction.guild_id == job.guild_id):
        raise FulletError(ErrorCode.JOB_NOT_YOURS, owner=job.display_name)
    return job


def check_addressee(message: discord.Message, interaction: discord.Interaction) -> None:
    """A result whose job is gone still says whom it is for. Raises JOB_NOT_YOURS."""
    others = [person for person in message.mentions if person.id != interaction.user.id]
    if others and len(others) == len(message.mentions) and not is_admin(interaction):
        raise FulletError(ErrorCode.JOB_NOT_YOURS, owner=others[0].display_name)


def check_guild(guild_id: int | None, allowed: GuildId | None) -> None:
    """Commands work in the one guild we serve. Raises NOT_IN_A_GUILD, OTHER_GUILD."""
    if guild_id is None:
        raise FulletError(ErrorCode.NOT_IN_A_GUILD)
    if allowed is not None and guild_id != allowed:
        raise FulletError(ErrorCode.OTHER_GUILD)


def _is_age_restricted(channel: object) -> bool:
    match channel:
        case discord.TextChannel() | discord.VoiceChannel() | discord.StageChannel() | discord.Thread():
            return channel.is_nsfw()
        case _:
            return False
