"""What we remember of people and guilds, and how we forget it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, or_, select, union, update

from modules.domain.jobs import ACTIVE_STATES, JobId, JobState
from modules.domain.people import ChannelId, GuildId, UserId
from modules.domain.recipes import ModelName
from modules.domain.records import GuildSettings, PersonSettings
from modules.utils.database.codecs import forms_from_json, forms_to_json, recipe_from_json, recipe_to_json
from modules.utils.database.conditions import is_in
from modules.utils.database.engine import Engine
from modules.utils.database.steps import move, upsert
from modules.utils.database.tables import (
    account,
    attempt,
    attempt_job,
    blob,
    guild,
    job,
    last_picture,
    outbox,
    person,
    reference_picture,
    session,
)
from modules.utils.database.types import AnyRow

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

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def settings(self, user_id: UserId) -> PersonSettings:
        """The house defaults for whoever set nothing."""
        return await self._engine.read(_settings, user_id)

    async def save_settings(self, settings: PersonSettings) -> None:
        """All of them."""
        await self._engine.write(_save_settings, settings)

    async def guild(self, guild_id: GuildId) -> GuildSettings:
        """Empty for a guild whose admins chose nothing."""
        return await self._engine.read(_guild, guild_id)

    async def save_guild(self, settings: GuildSettings) -> None:
        """All of them."""
        await self._engine.write(_save_guild, settings)

    async def recent_prompts(self, user_id: UserId, starting: str, limit: int) -> Sequence[str]:
        """The person's own distinct prompts that contain `starting` (in any case, in any script), newest first."""
        return await self._engine.read(_recent_prompts, user_id, starting, limit)

    async def export(self, user_id: UserId) -> Mapping[str, object]:
        """Everything stored about a person, as JSON-ready values."""
        return await self._engine.read(_export, user_id)

    async def erase(self, user_id: UserId) -> None:
        """Forget a person: settings, prompts, pictures. A ban and the account of service stay, or both could be shaken off."""
        await self._engine.exclusive(_erase, user_id)


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
    query = (
        select(job.c.prompt).where(job.c.user_id == user_id, job.c.prompt != "").order_by(job.c.seq.desc()).limit(PROMPTS_READ)
    )
    wanted = starting.strip().casefold()
    found = (prompt for prompt in connection.execute(query).scalars() if wanted in prompt.casefold())
    return list(dict.fromkeys(found))[:limit]


def _export(connection: Connection, user_id: UserId) -> Mapping[str, object]:
    def rows(table_query: Any) -> list[dict[str, object]]:
        return [_json_ready(row) for row in connection.execute(table_query)]

    pictures = select(
        blob.c.id, blob.c.job_id, blob.c.picture_index, blob.c.format, blob.c.width_px, blob.c.height_px, blob.c.created_at
    )
    return {
        "user_id": str(user_id),
        "settings": rows(select(person).where(person.c.user_id == user_id)),
        "account": rows(select(account).where(account.c.user_id == user_id)),
        "sessions": rows(select(session).where(session.c.user_id == user_id)),
        "jobs": rows(select(job).where(job.c.user_id == user_id).order_by(job.c.seq)),
        "pictures": rows(pictures.where(blob.c.id.in_(_pictures_of(user_id))).order_by(blob.c.created_at)),
    }


def _json_ready(row: AnyRow) -> dict[str, object]:
    """Instants in ISO 8601; ids as text, since JSON's usual readers cannot hold 64 bits."""
    ready: dict[str, object] = {}
    for name, value in row._mapping.items():
        match value:
            case datetime():
                ready[name] = value.isoformat()
            case None | bool() | float() | str() | list() | dict():
                ready[name] = value
            case int() if not name.endswith("_id"):
                ready[name] = value
            case _:
                ready[name] = str(value)
    return ready


def _pictures_of(user_id: UserId) -> Any:
    """Ids of everything a person made, uploaded for a job or for the next one, or is shown as their last picture."""
    own = job.c.user_id == user_id
    return union(
        select(blob.c.id).join(job, job.c.id == blob.c.job_id).where(own),
        select(job.c.source_id).where(own, job.c.source_id.is_not(None)),
        select(job.c.reference_id).where(own, job.c.reference_id.is_not(None)),
        select(last_picture.c.blob_id).where(last_picture.c.user_id == user_id),
        select(reference_picture.c.blob_id).where(reference_picture.c.user_id == user_id),
    )


def _erase(connection: Connection, user_id: UserId) -> None:
    pictures = connection.execute(_pictures_of(user_id)).scalars().all()
    over = (job.c.user_id == user_id) & ~is_in(*ACTIVE_STATES)
    connection.execute(delete(job).where(over, ~_is_in_open_attempt()))
    for row in connection.execute(select(job).where(over)).all():
        _scrub(connection, row)
    connection.execute(delete(last_picture).where(last_picture.c.user_id == user_id))
    connection.execute(delete(reference_picture).where(reference_picture.c.user_id == user_id))
    _delete_unused(connection, pictures)
    banned = connection.execute(select(person.c.is_banned).where(person.c.user_id == user_id)).scalar()
    connection.execute(delete(person).where(person.c.user_id == user_id))
    if banned:
        _save_settings(connection, PersonSettings(user_id=user_id, is_banned=True))


def _is_in_open_attempt() -> ColumnElement[bool]:
    """The batch order of an open attempt decides whose picture is whose: its jobs keep their rows until it ends."""
    return exists().where(
        attempt_job.c.job_id == job.c.id, attempt.c.id == attempt_job.c.attempt_id, attempt.c.ended_at.is_(None)
    )


def _scrub(connection: Connection, row: AnyRow) -> None:
    """Take everything out of a job that must stay but what its attempt needs: how many pictures, and where."""
    recipe = replace(recipe_from_json(row.recipe), prompt="", negative_prompt="", source=None, reference=None)
    connection.execute(
        update(job)
        .where(job.c.id == row.id)
        .values(recipe=recipe_to_json(recipe), prompt="", display_name="", source_id=None, reference_id=None)
    )
    connection.execute(delete(blob).where(blob.c.job_id == row.id))
    connection.execute(delete(outbox).where(outbox.c.job_id == row.id))
    move(connection, JobId(row.id), JobState.UNDELIVERABLE)  # where a result was still owed; elsewhere no legal step


def _delete_unused(connection: Connection, pictures: Sequence[str]) -> None:
    """Uploads of this person, unless a job that stays (another's, or an active one) starts from them."""
    is_used = exists().where(or_(job.c.source_id == blob.c.id, job.c.reference_id == blob.c.id))
    connection.execute(delete(blob).where(blob.c.id.in_(pictures), blob.c.job_id.is_(None), ~is_used))
