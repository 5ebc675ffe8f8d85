"""The SessionStore's contract: the stored id is the proof of ownership, and idle means nothing more to come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from modules.domain.errors import ErrorCode
from modules.domain.people import GuildId, MessageId
from modules.domain.records import MessageKind
from modules.utils.database import Database
from tests.support.builders import FIRST_MOMENT, THE_GUILD, a_person, a_request, a_session
from tests.support.queue_steps import accepted, generated


async def test_a_session_is_found_by_its_person_and_by_its_channel(database: Database) -> None:
    session = a_session()
    await database.sessions.save(session)
    assert await database.sessions.get(THE_GUILD, session.user_id) == session
    assert await database.sessions.by_channel(session.channel_id) == session
    assert await database.sessions.get(GuildId(1), session.user_id) is None
    assert await database.sessions.by_channel(a_session().channel_id) is None


async def test_a_person_has_one_session_and_a_new_channel_replaces_the_old(database: Database) -> None:
    person = a_person()
    old, new = a_session(person), a_session(person)
    await database.sessions.save(old)
    await database.sessions.save(new)
    assert await database.sessions.all(THE_GUILD) == [new]
    assert await database.sessions.by_channel(old.channel_id) is None


async def test_a_channel_never_changes_hands(database: Database) -> None:
    session = a_session()
    await database.sessions.save(session)
    with pytest.raises(ValueError, match="refused"):
        await database.sessions.save(replace(session, user_id=a_person().user_id))
    assert await database.sessions.by_channel(session.channel_id) == session


async def test_activity_is_noted_and_never_goes_back(database: Database) -> None:
    session = a_session()
    await database.sessions.save(session)
    later = FIRST_MOMENT + timedelta(minutes=5)
    await database.sessions.touch(session.channel_id, later)
    await database.sessions.touch(session.channel_id, FIRST_MOMENT - timedelta(hours=1))
    assert await database.sessions.by_channel(session.channel_id) == replace(session, last_active_at=later)


async def test_a_removed_session_is_gone(database: Database) -> None:
    session = a_session()
    await database.sessions.save(session)
    await database.sessions.remove(session.channel_id)
    assert await database.sessions.get(THE_GUILD, session.user_id) is None


async def test_idle_sessions_come_longest_idle_first(database: Database) -> None:
    ages_min = [10, 90, 40, 31]
    sessions = [a_session(last_active_at=FIRST_MOMENT - timedelta(minutes=age_min)) for age_min in ages_min]
    for session in sessions:
        await database.sessions.save(session)
    idle = await database.sessions.idle(THE_GUILD, FIRST_MOMENT - timedelta(minutes=30))
    assert idle == [sessions[1], sessions[2], sessions[3]]
    assert await database.sessions.idle(GuildId(1), FIRST_MOMENT) == []


async def test_a_session_with_something_still_to_come_is_not_idle(database: Database) -> None:
    waiting, drawn, failed, done = (a_person(display_name=name) for name in ("waiting", "drawn", "failed", "done"))
    for person in (waiting, drawn, failed, done):
        await database.sessions.save(a_session(person, last_active_at=FIRST_MOMENT - timedelta(hours=1)))
    over, owed = await generated(database, a_request(done), a_request(drawn))
    await database.outbox.delivered(over.id, MessageKind.RESULT, MessageId(1))
    _queued, broken = await accepted(database, a_request(waiting), a_request(failed))
    await database.jobs.settle_failed(broken.id, ErrorCode.NODE_FAILED, {})

    assert [session.user_id for session in await database.sessions.idle(THE_GUILD, FIRST_MOMENT)] == [done.user_id]

    await database.outbox.delivered(broken.id, MessageKind.FAILURE, None)
    await database.outbox.undeliverable(owed.id, MessageKind.RESULT)
    idle = {session.user_id for session in await database.sessions.idle(THE_GUILD, FIRST_MOMENT)}
    assert idle == {done.user_id, failed.user_id, drawn.user_id}
