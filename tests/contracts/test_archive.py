"""Jobs that were over a while ago: out of the queue's table, and found as before by whoever asks for them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, Table, event, func, insert, select, update

from modules.domain.errors import ErrorCode
from modules.domain.jobs import Job, JobId, JobState
from modules.domain.people import MessageId
from modules.domain.records import MessageKind, PersonSettings
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from modules.utils.database.tables import archived_job, attempt, blob, erasure, job
from tests.support.builders import SteeredClock, a_person, a_picture, a_recipe, a_report, a_request, a_snowflake
from tests.support.full_database import HEAVY_USER, Filling, fill
from tests.support.queue_integrity import broken_rules
from tests.support.queue_steps import accepted, claimed, delivered, exactly, exported, generated, submitted

A_WHILE = 7 * 24 * 3600.0


async def rows(database: Database, table: Table) -> int:
    def count(connection: Connection) -> int:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()

    return await database.engine.read(count)


async def archive(database: Database, clock: SteeredClock) -> int:
    return await database.jobs.archive(clock.now() - timedelta(days=1))


async def stored(database: Database, job_id: JobId) -> Job:
    found = await database.jobs.job(job_id)
    assert found is not None
    return found


async def test_what_was_over_leaves_the_table_of_the_queue_and_reads_as_before(database: Database, clock: SteeredClock) -> None:
    person = a_person()
    source = await database.blobs.put(a_picture(9))
    [sent] = await delivered(database, a_request(person, recipe=a_recipe("a fox", source=source, seed=2**64 - 1)))
    failed, cancelled = await accepted(database, a_request(person), a_request(person, recipe=a_recipe("a barn")))
    await database.jobs.settle_failed(failed.id, ErrorCode.NODE_FAILED, {"node": "KSampler"})
    await database.outbox.delivered(failed.id, MessageKind.FAILURE, MessageId(a_snowflake()))
    await database.jobs.cancel(cancelled.id)
    before = [await stored(database, one.id) for one in (sent, failed, cancelled)]
    pictures = await database.blobs.of_job(sent.id)
    export = await exported(database, person.user_id)
    clock.advance(A_WHILE)
    [fresh] = await accepted(database, a_request(person, recipe=a_recipe("a lake")))

    assert await archive(database, clock) == 3
    assert await archive(database, clock) == 0

    assert (await rows(database, job), await rows(database, archived_job), await rows(database, attempt)) == (1, 3, 0)
    assert [await stored(database, one.id) for one in (sent, failed, cancelled)] == before
    assert await database.jobs.jobs(user_id=person.user_id) == [fresh, *reversed(before)]
    assert await database.jobs.jobs(user_id=person.user_id, newest_first=False, limit=2) == before[:2]
    assert await database.jobs.jobs(user_id=person.user_id, before_seq=cancelled.seq, states={JobState.DELIVERED}) == [before[0]]
    assert await database.jobs.jobs(user_id=person.user_id, states={JobState.QUEUED}) == [fresh]
    assert await database.blobs.of_job(sent.id) == pictures
    assert await database.people.recent_prompts(person.user_id, "", 10) == ["a lake", "a barn", "a lighthouse at dusk", "a fox"]
    after = await exported(database, person.user_id)
    assert json.dumps(after["jobs"][:3]) == json.dumps(export["jobs"])
    assert after["pictures"] == export["pictures"]
    assert await broken_rules(database) == []


async def test_what_is_owed_or_can_be_sent_again_or_is_in_an_open_attempt_stays(database: Database, clock: SteeredClock) -> None:
    [owed] = await generated(database)
    [undeliverable] = await generated(database)
    await database.outbox.undeliverable(undeliverable.id, MessageKind.RESULT)
    [bad_news, waiting] = await accepted(database, a_request(), a_request())
    await database.jobs.settle_failed(bad_news.id, ErrorCode.NODE_FAILED, {})
    mine, theirs = await accepted(database, a_request(), a_request())
    shared = await submitted(database, exactly(mine.id, theirs.id))
    await database.jobs.cancel(mine.id)
    clock.advance(A_WHILE)

    assert await archive(database, clock) == 0
    assert await rows(database, job) == 6

    await database.jobs.settle_generated(shared.id, theirs.id, [a_picture()], a_report())
    await database.jobs.end_attempt(shared.id, a_report())
    assert await archive(database, clock) == 1  # the cancelled one; the picture of the other is owed
    await database.blobs.erase_job(undeliverable.id)
    assert await archive(database, clock) == 1  # without its picture it can no longer be sent again
    assert await database.outbox.delivered(owed.id, MessageKind.RESULT, MessageId(a_snowflake()))
    assert await archive(database, clock) == 1
    assert (await stored(database, waiting.id)).state is JobState.QUEUED


async def test_deleting_the_pictures_of_an_archived_job_forgets_where_they_were_posted(
    database: Database, clock: SteeredClock
) -> None:
    [sent] = await delivered(database)
    clock.advance(A_WHILE)
    await archive(database, clock)
    await database.blobs.erase_job(sent.id)
    assert (await stored(database, sent.id)).result_message_id is None
    assert await database.blobs.of_job(sent.id) == []


async def test_an_upload_that_an_archived_job_of_another_person_starts_from_outlives_its_owner(
    database: Database, clock: SteeredClock
) -> None:
    owner, other = a_person(), a_person()
    upload = await database.blobs.put(a_picture(1))
    await database.blobs.remember_last(owner.user_id, upload)
    await delivered(database, a_request(owner, recipe=a_recipe(source=upload)))
    [theirs] = await delivered(database, a_request(other, recipe=a_recipe(reference=upload)))
    clock.advance(A_WHILE)
    await archive(database, clock)

    await database.people.erase(owner.user_id)

    assert await database.blobs.get(upload) is not None
    await database.people.erase(other.user_id)
    assert await database.blobs.get(upload) is None
    assert await database.jobs.job(theirs.id) is None


async def test_an_archived_person_is_forgotten_wholly(database: Database, clock: SteeredClock) -> None:
    person = a_person()
    source = await database.blobs.put(a_picture(9))
    old = await delivered(database, *(a_request(person, recipe=a_recipe("a secret", source=source)) for _ in range(3)))
    clock.advance(A_WHILE)
    await archive(database, clock)
    await delivered(database, a_request(person, recipe=a_recipe("a newer secret")))

    await database.people.erase(person.user_id)

    assert "secret" not in json.dumps(await exported(database, person.user_id))
    assert await database.jobs.jobs(user_id=person.user_id) == []
    assert await database.jobs.job(old[0].id) is None
    assert [await rows(database, table) for table in (job, archived_job, blob, attempt, erasure)] == [0] * 5


async def test_a_scrubbed_job_is_deleted_once_its_attempt_is_over(database: Database, clock: SteeredClock) -> None:
    person = a_person()
    mine, theirs = await accepted(database, a_request(person), a_request())
    shared = await claimed(database, exactly(mine.id, theirs.id))
    await database.jobs.cancel(mine.id)
    await database.people.erase(person.user_id)
    assert (await stored(database, mine.id)).is_erased
    await database.jobs.settle_generated(shared.id, theirs.id, [a_picture()], a_report())
    await database.jobs.end_attempt(shared.id, a_report())
    clock.advance(A_WHILE)
    await archive(database, clock)
    assert await database.jobs.job(mine.id) is None
    assert await rows(database, archived_job) == 0


@pytest.fixture
async def heavy(database: Database) -> Database:
    """A person with 1,500 jobs, half of them archived."""
    await database.engine.write(fill, Filling(finished=40, people=10, heavy=1_500, archived=750, waiting=3, pictures=1_200))
    return database


async def test_erasing_many_jobs_hides_them_at_once_and_goes_on_after_a_kill(
    heavy: Database, database_url: str, tmp_path: Path
) -> None:
    await heavy.people.save_settings(PersonSettings(user_id=HEAVY_USER, language="es"))
    newest = (await heavy.jobs.jobs(user_id=HEAVY_USER, limit=1))[0]
    others = await rows(heavy, job) + await rows(heavy, archived_job) - 1_500
    loop, has_begun, deleted = asyncio.get_running_loop(), asyncio.Event(), 0

    def notice(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal deleted
        deleted += statement.startswith("DELETE FROM job")
        if deleted == 3:
            loop.call_soon_threadsafe(has_begun.set)

    event.listen(Engine, "before_cursor_execute", notice)
    erasing = asyncio.create_task(heavy.people.erase(HEAVY_USER))
    await has_begun.wait()
    erasing.cancel()
    await asyncio.wait({erasing})
    event.remove(Engine, "before_cursor_execute", notice)
    left = await rows(heavy, job) + await rows(heavy, archived_job) - others
    assert 0 < left < 1_500

    async with open_database(database_url, data_dir=tmp_path, clock=SystemClock()) as again:
        assert await again.jobs.jobs(user_id=HEAVY_USER) == []
        assert await again.jobs.job(newest.id) is None
        assert await again.people.recent_prompts(HEAVY_USER, "", 10) == []
        export = await exported(again, HEAVY_USER)
        assert (export["jobs"], export["pictures"], export["settings"]) == ([], [], [])
        [fresh] = await accepted(again, a_request(a_person(HEAVY_USER)))
        assert await again.jobs.jobs(user_id=HEAVY_USER) == [fresh]

        assert await again.people.finish_erasures() == 1

        assert await again.jobs.jobs(user_id=HEAVY_USER) == [fresh]
        assert await rows(again, job) + await rows(again, archived_job) == others + 1
        assert await again.people.finish_erasures() == 0
        lost = ("a result's job", "no job is in both", "points nowhere")  # the filling breaks other rules itself
        assert [rule for rule in await broken_rules(again) if rule.startswith(lost)] == []


async def test_every_transaction_of_an_erasure_and_of_the_archive_is_short(heavy: Database, clock: SteeredClock) -> None:
    """Counted in rows, since this machine's clock is not ours alone; `make bench-queue` measures the seconds."""
    sizes: list[int] = []

    def notice(_connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM job"):
            sizes.append(cursor.rowcount)  # type: ignore[attr-defined]

    event.listen(Engine, "after_cursor_execute", notice)
    await heavy.jobs.archive(clock.now() + timedelta(days=1))
    await heavy.people.erase(HEAVY_USER)
    event.remove(Engine, "after_cursor_execute", notice)
    assert len(sizes) > 3
    assert max(sizes) <= 500


async def test_an_erasure_spares_what_is_asked_for_after_it(database: Database) -> None:
    person = a_person()
    await delivered(database, a_request(person))
    await database.people.erase(person.user_id)
    [fresh] = await accepted(database, a_request(person))
    await database.people.finish_erasures()
    assert await database.jobs.jobs(user_id=person.user_id) == [fresh]


async def test_a_person_with_a_job_that_cannot_be_read_is_forgotten_all_the_same(database: Database) -> None:
    """Its failure is still owed, so that the row stays for the courier; nothing of its person may be left in it."""
    person = a_person()
    owed, open_one, theirs = await accepted(
        database, a_request(person, recipe=a_recipe("a secret")), a_request(person, recipe=a_recipe("a secret")), a_request()
    )
    await claimed(database, exactly(open_one.id, theirs.id))
    await database.jobs.cancel(open_one.id)
    await database.jobs.settle_failed(owed.id, ErrorCode.UNEXPECTED, {}, is_waiting=True)

    def spoil(connection: Connection) -> None:
        connection.execute(update(job).where(job.c.user_id == person.user_id).values(recipe={"words": "a secret"}))

    await database.engine.write(spoil)
    await database.people.erase(person.user_id)
    assert "secret" not in json.dumps(await exported(database, person.user_id))
    assert (await stored(database, open_one.id)).is_erased
    assert await database.jobs.job(owed.id) is None


async def test_what_was_still_drawn_when_its_person_was_erased_is_delivered(database: Database) -> None:
    """An erasure of many jobs takes a while, and after a kill it goes on at the next start."""
    person = a_person()
    [drawn] = await accepted(database, a_request(person))
    [failing] = await accepted(database, a_request(person))
    attempt_of_it = await claimed(database, exactly(drawn.id))

    def begin(connection: Connection) -> None:
        """As an erasure leaves it that a kill has interrupted."""
        connection.execute(insert(erasure).values(user_id=person.user_id, up_to_seq=failing.seq, asked_at=SystemClock().now()))

    await database.engine.write(begin)
    await database.jobs.settle_generated(attempt_of_it.id, drawn.id, [a_picture()], a_report())
    await database.jobs.end_attempt(attempt_of_it.id, a_report())
    await database.jobs.settle_failed(failing.id, ErrorCode.NO_SERVER_HAS_IT, {}, is_waiting=True)
    for _ in range(2):
        assert (await stored(database, drawn.id)).state is JobState.GENERATED
        assert (await stored(database, failing.id)).state is JobState.FAILED
        assert len(await database.blobs.of_job(drawn.id)) == 1
        assert {item.job_id for item in await database.outbox.due(SystemClock().now())} == {drawn.id, failing.id}
        await database.people.finish_erasures()
