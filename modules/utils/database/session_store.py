"""Private channels by person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, select, update

from modules.domain.people import ChannelId, GuildId, UserId
from modules.domain.sessions import Session
from modules.utils.database.conditions import IS_OWED, IS_TO_COME
from modules.utils.database.engine import Engine
from modules.utils.database.steps import upsert
from modules.utils.database.tables import job, outbox, session
from modules.utils.database.types import AnyRow, AnySelect

#: Built once: building a statement takes longer than running one like these.
_OF_PERSON = select(session).where(session.c.guild_id == bindparam("of_guild"), session.c.user_id == bindparam("of_user"))
_IN_CHANNEL = select(session).where(session.c.channel_id == bindparam("in_channel"))


class SqlSessionStore:
    """Implements the `SessionStore` port."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self, guild_id: GuildId, user_id: UserId) -> Session | None:
        """The person's session in this guild."""
        return await self._engine.read(_one, _OF_PERSON, {"of_guild": guild_id, "of_user": user_id})

    async def by_channel(self, channel_id: ChannelId) -> Session | None:
        """The session that lives in this channel."""
        return await self._engine.read(_one, _IN_CHANNEL, {"in_channel": channel_id})

    async def save(self, session: Session) -> None:
        """Create it, or note its new channel. Raises ValueError when the channel is another person's."""
        await self._engine.write(_save, session)

    async def touch(self, channel_id: ChannelId, at: datetime) -> None:
        """Note activity; time never goes back, even if the clock does."""
        await self._engine.write(_touch, channel_id, at)

    async def remove(self, channel_id: ChannelId) -> None:
        """Forget it."""
        await self._engine.write(_remove, channel_id)

    async def all(self, guild_id: GuildId) -> Sequence[Session]:
        """Every session of the guild, longest idle first."""
        return await self._engine.read(_all, guild_id)

    async def idle(self, guild_id: GuildId, since: datetime) -> Sequence[Session]:
        """Sessions without activity since then and with nothing more to come, longest idle first."""
        return await self._engine.read(_idle, guild_id, since)


def _session_of(row: AnyRow) -> Session:
    return Session(
        user_id=UserId(row.user_id),
        guild_id=GuildId(row.guild_id),
        channel_id=ChannelId(row.channel_id),
        last_active_at=row.last_active_at,
    )


def _one(connection: Connection, query: AnySelect, of: Mapping[str, int]) -> Session | None:
    row = connection.execute(query, of).one_or_none()
    return None if row is None else _session_of(row)


def _save(connection: Connection, saved: Session) -> None:
    upsert(
        connection,
        session,
        {"guild_id": saved.guild_id, "user_id": saved.user_id},
        {"channel_id": saved.channel_id, "last_active_at": saved.last_active_at},
    )


def _touch(connection: Connection, channel_id: ChannelId, at: datetime) -> None:
    later = (session.c.channel_id == channel_id) & (session.c.last_active_at < at)
    connection.execute(update(session).where(later).values(last_active_at=at))


def _remove(connection: Connection, channel_id: ChannelId) -> None:
    connection.execute(delete(session).where(session.c.channel_id == channel_id))


def _all(connection: Connection, guild_id: GuildId) -> Sequence[Session]:
    query = select(session).where(session.c.guild_id == guild_id).order_by(session.c.last_active_at, session.c.channel_id)
    return [_session_of(row) for row in connection.execute(query)]


def _idle(connection: Connection, guild_id: GuildId, since: datetime) -> Sequence[Session]:
    """Two questions of few rows each: whose jobs are not over, and who is owed a message."""
    to_come = exists().where(job.c.user_id == session.c.user_id, job.c.guild_id == session.c.guild_id, IS_TO_COME)
    owed_jobs = select(outbox.c.job_id).where(IS_OWED)
    owed_people = select(job.c.user_id).where(job.c.id.in_(owed_jobs), job.c.guild_id == guild_id)
    query = (
        select(session)
        .where(session.c.guild_id == guild_id, session.c.last_active_at < since)
        .where(~to_come, session.c.user_id.not_in(owed_people))
        .order_by(session.c.last_active_at, session.c.channel_id)
    )
    return [_session_of(row) for row in connection.execute(query)]
