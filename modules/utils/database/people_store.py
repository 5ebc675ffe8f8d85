"""What we remember of people and guilds, and how we forget it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import fields

from sqlalchemy import Connection, Integer, Table, bindparam, select

from modules.domain.people import ChannelId, GuildId, UserId
from modules.domain.ports import Clock
from modules.domain.recipes import ModelName
from modules.domain.records import GuildSettings, PersonSettings
from modules.domain.stores import Change
from modules.utils.database import erasing, exporting
from modules.utils.database.codecs import forms_from_json, forms_to_json
from modules.utils.database.engine import Engine
from modules.utils.database.erasing import is_being_erased
from modules.utils.database.exporting import Rows
from modules.utils.database.steps import upsert
from modules.utils.database.tables import (
    archived_job,
    guild,
    job,
    person,
)
from modules.utils.database.types import AnySelect

#: How far back the completion of prompts looks.
PROMPTS_READ = 500
#: Columns and the fields they hold; a row already has a `count` of its own, as every tuple does.
_SETTINGS = {"picture_count" if field.name == "count" else field.name: field.name for field in fields(PersonSettings)}
del _SETTINGS["user_id"]

# Built once: building a statement takes longer than running one like these.
_THE_PERSON = select(person).where(person.c.user_id == bindparam("of_user"))
_THE_GUILD = select(guild).where(guild.c.guild_id == bindparam("of_guild"))


class SqlPeopleStore:
    """Implements the `PeopleStore` port."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def settings(self, user_id: UserId) -> PersonSettings:
        """The house defaults for whoever set nothing."""
        return await self._engine.read(_settings, user_id)

    async def change_settings(self, user_id: UserId, change: Change[PersonSettings]) -> PersonSettings:
        """Read, change and keep them in one exclusive transaction."""
        return await self._engine.exclusive(_change_settings, user_id, change)

    async def save_settings(self, settings: PersonSettings) -> None:
        """All of them, whatever they were: for tests and for moving a database. People change theirs by `change_settings`."""
        await self._engine.exclusive(_save_settings, settings)

    async def guild(self, guild_id: GuildId) -> GuildSettings:
        """Empty for a guild whose admins chose nothing."""
        return await self._engine.read(_guild, guild_id)

    async def change_guild(self, guild_id: GuildId, change: Change[GuildSettings]) -> tuple[GuildSettings, GuildSettings]:
        """The same for a guild: its settings before and after."""
        return await self._engine.exclusive(_change_guild, guild_id, change)

    async def save_guild(self, settings: GuildSettings) -> None:
        """All of them, whatever they were; see `save_settings`."""
        await self._engine.exclusive(_save_guild, settings)

    async def recent_prompts(self, user_id: UserId, starting: str, limit: int) -> Sequence[str]:
        """The person's own distinct prompts that contain `starting` (in any case, in any script), newest first."""
        return await self._engine.read(_recent_prompts, user_id, starting, limit)

    def export(self, user_id: UserId) -> AsyncIterator[tuple[str, Rows]]:
        """Everything stored about a person, as JSON-ready rows by the name of their table, in pages."""
        return exporting.export(self._engine, user_id)

    async def erase(self, user_id: UserId) -> None:
        """Forget a person: settings, prompts, pictures. A ban and the account of service stay, or both could be shaken off."""
        await erasing.erase(self._engine, user_id, self._clock.now())

    async def finish_erasures(self) -> int:
        """Go on with those that a stop or a kill has interrupted; how many people that were."""
        return await erasing.finish(self._engine)


def _settings(connection: Connection, user_id: UserId) -> PersonSettings:
    row = connection.execute(_THE_PERSON, {"of_user": user_id}).one_or_none()
    if row is None:
        return PersonSettings(user_id=user_id)
    return PersonSettings(
        user_id=user_id,
        model=None if row.model is None else ModelName(row.model),
        size=row.size,
        count=row.picture_count,
        language=row.language,
        is_quiet=row.is_quiet,
        is_spoiler=row.is_spoiler,
        is_banned=row.is_banned,
        forms=forms_from_json(row.forms),
    )


def _change_settings(connection: Connection, user_id: UserId, change: Change[PersonSettings]) -> PersonSettings:
    before = _settings(connection, user_id)
    after = change(before)
    if after != before:
        _save_settings(connection, after)
    return after


def _change_guild(
    connection: Connection, guild_id: GuildId, change: Change[GuildSettings]
) -> tuple[GuildSettings, GuildSettings]:
    before = _guild(connection, guild_id)
    after = change(before)
    if after != before:
        _save_guild(connection, after)
    return before, after


def _save_settings(connection: Connection, settings: PersonSettings) -> None:
    columns = {column: getattr(settings, field) for column, field in _SETTINGS.items()}
    columns["forms"] = forms_to_json(settings.forms)
    upsert(connection, person, {"user_id": settings.user_id}, columns)


def _guild(connection: Connection, guild_id: GuildId) -> GuildSettings:
    row = connection.execute(_THE_GUILD, {"of_guild": guild_id}).one_or_none()
    if row is None:
        return GuildSettings(guild_id=guild_id)
    return GuildSettings(
        guild_id=guild_id,
        blocked_words=tuple(row.blocked_words),
        audit_channel_id=None if row.audit_channel_id is None else ChannelId(row.audit_channel_id),
        role_weights={int(role_id): weight for role_id, weight in row.role_weights.items()},
    )


def _save_guild(connection: Connection, settings: GuildSettings) -> None:
    upsert(
        connection,
        guild,
        {"guild_id": settings.guild_id},
        {
            "blocked_words": list(settings.blocked_words),
            "audit_channel_id": settings.audit_channel_id,
            "role_weights": {str(role_id): weight for role_id, weight in settings.role_weights.items()},
        },
    )


def _recent_prompts(connection: Connection, user_id: UserId, starting: str, limit: int) -> Sequence[str]:
    """Filtered here: SQLite folds the case of ASCII only."""
    prompts: list[str] = []
    for query in _PROMPTS:
        if (at_most := PROMPTS_READ - len(prompts)) > 0:
            prompts += connection.execute(query, {"of_user": user_id, "at_most": at_most}).scalars()
    wanted = starting.strip().casefold()
    return list(dict.fromkeys(prompt for prompt in prompts if wanted in prompt.casefold()))[:limit]


def _prompts_in(jobs: Table) -> AnySelect:
    own = (jobs.c.user_id == bindparam("of_user"), jobs.c.prompt != "", ~is_being_erased(jobs))
    return select(jobs.c.prompt).where(*own).order_by(jobs.c.seq.desc()).limit(bindparam("at_most", type_=Integer))


#: The newest stand in the first.
_PROMPTS = (_prompts_in(job), _prompts_in(archived_job))
