"""The BlobStore's contract: bytes come back as they went in, and go when nothing waits for them."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest
from sqlalchemy import Engine, event, insert

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions, Picture, PictureFormat, PictureInfo
from modules.utils.database import Database
from modules.utils.database.retention import LOOKED_AT_ONCE
from modules.utils.database.settling import keep_pictures
from modules.utils.database.tables import last_picture
from tests.support.builders import FIRST_MOMENT, SteeredClock, a_job_id, a_person, a_picture, a_recipe, a_request
from tests.support.queue_steps import accepted, delivered, exported, generated, oldest, submitted


async def test_a_picture_comes_back_byte_for_byte(database: Database) -> None:
    picture = Picture(data=os.urandom(3_000_000) + b"\0'\\", format=PictureFormat.WEBP, size=Dimensions(2048, 1152))
    assert await database.blobs.get(await database.blobs.put(picture)) == picture


async def test_an_unknown_picture_is_none(database: Database) -> None:
    assert await database.blobs.get(BlobId("00000000-0000-0000-0000-000000000000")) is None
    assert await database.blobs.of_job(a_job_id()) == []


async def test_format_and_size_are_known_without_reading_the_bytes(database: Database) -> None:
    picture = Picture(data=os.urandom(10_000), format=PictureFormat.JPEG, size=Dimensions(640, 1152))
    blob_id = await database.blobs.put(picture)
    asked: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        asked.append(sql)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert await database.blobs.info(blob_id) == PictureInfo(format=picture.format, size=picture.size)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert asked
    assert not any("data" in sql for sql in asked)
    assert await database.blobs.info(BlobId("00000000-0000-0000-0000-000000000000")) is None


async def test_the_last_picture_is_the_newest_upload_or_result(database: Database) -> None:
    person = a_person()
    assert await database.blobs.last_of(person.user_id) is None
    upload = await database.blobs.put(a_picture(1))
    await database.blobs.remember_last(person.user_id, upload)
    assert await database.blobs.last_of(person.user_id) == upload

    [job] = await generated(database, a_request(person, recipe=a_recipe(count=2)))
    assert await database.blobs.last_of(person.user_id) == (await database.blobs.of_job(job.id))[-1]

    await database.blobs.remember_last(person.user_id, upload)
    assert await database.blobs.last_of(person.user_id) == upload


async def test_a_picture_that_is_gone_cannot_be_remembered(database: Database) -> None:
    with pytest.raises(FulletError) as gone:
        await database.blobs.remember_last(a_person().user_id, BlobId("nothing"))
    assert gone.value.code is ErrorCode.PICTURE_GONE


async def test_a_reference_is_kept_for_a_while_and_only_the_newest(database: Database, clock: SteeredClock) -> None:
    person, other = a_person(), a_person()
    first, second = await database.blobs.put(a_picture(1)), await database.blobs.put(a_picture(2))
    assert await database.blobs.reference_of(person.user_id, clock.now()) is None
    await database.blobs.keep_reference(person.user_id, first)
    clock.advance(60)
    await database.blobs.keep_reference(person.user_id, second)
    assert await database.blobs.reference_of(person.user_id, clock.now()) == second
    assert await database.blobs.reference_of(person.user_id, clock.now() + timedelta(seconds=1)) is None
    assert await database.blobs.reference_of(other.user_id, clock.now()) is None

    await database.blobs.drop_reference(person.user_id, first)  # used a moment ago, and replaced since
    assert await database.blobs.reference_of(person.user_id, clock.now()) == second
    await database.blobs.drop_reference(person.user_id)
    assert await database.blobs.reference_of(person.user_id, clock.now()) is None


async def test_a_reference_goes_with_its_picture_and_with_its_person(database: Database, clock: SteeredClock) -> None:
    person = a_person()
    with pytest.raises(FulletError) as gone:
        await database.blobs.keep_reference(person.user_id, BlobId("nothing"))
    assert gone.value.code is ErrorCode.PICTURE_GONE
    await database.blobs.keep_reference(person.user_id, await database.blobs.put(a_picture(1)))
    clock.advance(3600)
    assert await database.blobs.sweep(clock.now()) == 1
    assert await database.blobs.reference_of(person.user_id, FIRST_MOMENT) is None

    erased = await database.blobs.put(a_picture(2))
    await database.blobs.keep_reference(person.user_id, erased)
    export = json.loads(json.dumps(await exported(database, person.user_id)))
    assert [picture["id"] for picture in export["pictures"]] == [erased]
    await database.people.erase(person.user_id)
    assert await database.blobs.reference_of(person.user_id, FIRST_MOMENT) is None
    assert await database.blobs.get(erased) is None


async def test_erasing_a_job_takes_its_pictures_and_where_they_were_posted_and_nobody_elses(database: Database) -> None:
    person = a_person()
    mine, other = await delivered(database, a_request(person), a_request())
    await database.blobs.erase_job(mine.id)
    posted = [await database.jobs.job(job.id) for job in (mine, other)]
    assert [job is not None and job.result_message_id is not None for job in posted] == [False, True]
    assert await database.blobs.of_job(mine.id) == []
    assert await database.blobs.last_of(person.user_id) is None
    assert len(await database.blobs.of_job(other.id)) == 1


async def test_the_sweep_takes_what_is_old_and_unwanted(database: Database, clock: SteeredClock) -> None:
    forgotten = await database.blobs.put(a_picture(1))
    [sent] = await delivered(database, a_request(a_person(1)))
    await delivered(database, a_request(a_person(1)))  # its picture is the person's last one now
    clock.advance(3600)
    fresh = await database.blobs.put(a_picture(2))

    assert await database.blobs.sweep(clock.now() - timedelta(minutes=30)) == 2

    assert await database.blobs.get(forgotten) is None
    assert await database.blobs.of_job(sent.id) == []
    assert await database.blobs.get(fresh) == a_picture(2)


async def test_the_sweep_spares_what_somebody_waits_for(database: Database, clock: SteeredClock) -> None:
    source, reference = await database.blobs.put(a_picture(1)), await database.blobs.put(a_picture(2))
    drawing = await database.blobs.put(a_picture(3))
    last = await database.blobs.put(a_picture(4))
    await database.blobs.remember_last(a_person(9).user_id, last)
    [undelivered] = await generated(database, a_request(a_person(8)))
    await accepted(database, a_request(recipe=a_recipe(source=drawing)))
    await submitted(database, oldest(1))
    [waiting] = await accepted(database, a_request(recipe=a_recipe(source=source, reference=reference)))
    clock.advance(3600)

    assert await database.blobs.sweep(clock.now()) == 0

    for blob_id in (source, reference, drawing, last, *await database.blobs.of_job(undelivered.id)):
        assert await database.blobs.get(blob_id) is not None
    await database.jobs.cancel(waiting.id)
    assert await database.blobs.sweep(clock.now()) == 2


async def _store(database: Database, clock: SteeredClock, count: int) -> list[str]:
    """Pictures of this moment, quickly."""
    return await database.engine.write(keep_pictures, [a_picture(seed) for seed in range(count)], clock.now())


async def test_a_sweep_looks_at_every_picture_once_however_many_must_stay(database: Database, clock: SteeredClock) -> None:
    staying = await _store(database, clock, LOOKED_AT_ONCE + 200)
    lasts = [{"user_id": number, "blob_id": blob_id} for number, blob_id in enumerate(staying)]
    await database.engine.write(lambda connection: connection.execute(insert(last_picture), lasts))
    clock.advance(1)
    await _store(database, clock, LOOKED_AT_ONCE)
    clock.advance(1)
    reads = 0

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal reads
        reads += statement.startswith("SELECT blob.created_at")

    event.listen(Engine, "before_cursor_execute", count)
    try:
        assert await database.blobs.sweep(clock.now()) == LOOKED_AT_ONCE
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert reads <= 5  # three pages, and the one that finds nothing more


async def test_over_the_room_they_may_take_the_oldest_pictures_go_first(database: Database, clock: SteeredClock) -> None:
    pictures = []
    for seed in range(6):
        pictures.append(await database.blobs.put(a_picture(seed)))
        clock.advance(1)
    long_ago = clock.now() - timedelta(days=1)
    sizes = [len(picture.data) for blob_id in pictures if (picture := await database.blobs.get(blob_id))]

    assert await database.blobs.sweep(long_ago, keep_bytes=sum(sizes)) == 0
    assert await database.blobs.sweep(long_ago, keep_bytes=sum(sizes[2:])) == 2
    assert await database.blobs.sweep(long_ago, keep_bytes=sum(sizes[4:]) + 1) == 2

    assert [await database.blobs.get(blob_id) is not None for blob_id in pictures] == [False] * 4 + [True] * 2


async def test_want_of_room_takes_last_pictures_but_nothing_that_is_waited_for(database: Database, clock: SteeredClock) -> None:
    source, reference = await database.blobs.put(a_picture(1)), await database.blobs.put(a_picture(2))
    last = await database.blobs.put(a_picture(4))
    await database.blobs.remember_last(a_person(9).user_id, last)
    [undelivered] = await generated(database, a_request(a_person(8)))
    await accepted(database, a_request(recipe=a_recipe(source=source, reference=reference)))
    clock.advance(3600)

    assert await database.blobs.sweep(clock.now() - timedelta(days=1), keep_bytes=0) == 1

    assert await database.blobs.last_of(a_person(9).user_id) is None
    for blob_id in (source, reference, *await database.blobs.of_job(undelivered.id)):
        assert await database.blobs.get(blob_id) is not None
