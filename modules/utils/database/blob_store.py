"""Bytes of pictures, in the database: one place to back up, and every process sees them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select, update

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions, Picture, PictureFormat, PictureInfo
from modules.domain.jobs import JobId
from modules.domain.people import UserId
from modules.domain.ports import Clock
from modules.domain.records import DiskRoom
from modules.utils.database import retention
from modules.utils.database.engine import Engine
from modules.utils.database.settling import keep_pictures
from modules.utils.database.steps import upsert
from modules.utils.database.tables import archived_job, blob, job, last_picture, reference_picture

# Built once: building a statement takes longer than running one like these.
_THE_BLOB = select(blob).where(blob.c.id == bindparam("this_blob"))
_ITS_INFO = select(blob.c.format, blob.c.width_px, blob.c.height_px).where(blob.c.id == bindparam("this_blob"))
_OF_JOB = select(blob.c.id).where(blob.c.job_id == bindparam("this_job")).order_by(blob.c.picture_index)


class SqlBlobStore:
    """Implements the `BlobStore` port."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def put(self, picture: Picture) -> BlobId:
        """Keep a picture."""
        [blob_id] = await self._engine.write(keep_pictures, [picture], self._clock.now())
        return BlobId(blob_id)

    async def get(self, blob_id: BlobId) -> Picture | None:
        """None when it is gone (retention, erased)."""
        return await self._engine.read(_get, blob_id)

    async def info(self, blob_id: BlobId) -> PictureInfo | None:
        """Its format and size without its bytes; None when it is gone."""
        return await self._engine.read(_info, blob_id)

    async def of_job(self, job_id: JobId) -> Sequence[BlobId]:
        """The result pictures of a job in order; empty when they are gone."""
        return await self._engine.read(_of_job, job_id)

    async def last_of(self, user_id: UserId) -> BlobId | None:
        """The last picture of a person's session."""
        return await self._engine.read(_last_of, user_id)

    async def remember_last(self, user_id: UserId, blob_id: BlobId) -> None:
        """Note an upload as the last picture. Raises PICTURE_GONE."""
        await self._engine.write(_remember_last, user_id, blob_id)

    async def reference_of(self, user_id: UserId, since: datetime) -> BlobId | None:
        """The picture a person's next edit is to look at as well, if it was kept since then."""
        return await self._engine.read(_reference_of, user_id, since)

    async def keep_reference(self, user_id: UserId, blob_id: BlobId) -> None:
        """Note it, in place of an earlier one. Raises PICTURE_GONE."""
        await self._engine.write(_keep_reference, user_id, blob_id, self._clock.now())

    async def drop_reference(self, user_id: UserId, blob_id: BlobId | None = None) -> None:
        """It was used, or is not wanted any more; with `blob_id` only if it is still that one."""
        await self._engine.write(_drop_reference, user_id, blob_id)

    async def erase_job(self, job_id: JobId) -> None:
        """Delete the pictures of a job, and forget where they were posted."""
        await self._engine.write(_erase_job, job_id)

    async def sweep(self, older_than: datetime, *, keep_bytes: int | None = None) -> int:
        """Delete pictures nothing waits for, oldest first; how many went."""
        async with self._engine.room_to_delete():
            return await retention.sweep(self._engine, older_than, keep_bytes)

    async def room(self) -> DiskRoom | None:
        """The disk that pictures are kept on; None where it is another machine's."""
        return await self._engine.room()


def _get(connection: Connection, blob_id: BlobId) -> Picture | None:
    row = connection.execute(_THE_BLOB, {"this_blob": blob_id}).one_or_none()
    if row is None:
        return None
    return Picture(data=bytes(row.data), format=PictureFormat(row.format), size=Dimensions(row.width_px, row.height_px))


def _info(connection: Connection, blob_id: BlobId) -> PictureInfo | None:
    row = connection.execute(_ITS_INFO, {"this_blob": blob_id}).one_or_none()
    return None if row is None else PictureInfo(format=PictureFormat(row.format), size=Dimensions(row.width_px, row.height_px))


def _of_job(connection: Connection, job_id: JobId) -> Sequence[BlobId]:
    return [BlobId(blob_id) for blob_id in connection.execute(_OF_JOB, {"this_job": job_id}).scalars()]


def _last_of(connection: Connection, user_id: UserId) -> BlobId | None:
    found = connection.execute(select(last_picture.c.blob_id).where(last_picture.c.user_id == user_id)).scalar_one_or_none()
    return None if found is None else BlobId(found)


def _remember_last(connection: Connection, user_id: UserId, blob_id: BlobId) -> None:
    _need(connection, blob_id)
    upsert(connection, last_picture, {"user_id": user_id}, {"blob_id": blob_id})


def _need(connection: Connection, blob_id: BlobId) -> None:
    if connection.execute(select(blob.c.id).where(blob.c.id == blob_id)).first() is None:
        raise FulletError(ErrorCode.PICTURE_GONE)


def _reference_of(connection: Connection, user_id: UserId, since: datetime) -> BlobId | None:
    kept = reference_picture.c
    found = connection.execute(select(kept.blob_id).where(kept.user_id == user_id, kept.kept_at >= since)).scalar_one_or_none()
    return None if found is None else BlobId(found)


def _keep_reference(connection: Connection, user_id: UserId, blob_id: BlobId, now: datetime) -> None:
    _need(connection, blob_id)
    upsert(connection, reference_picture, {"user_id": user_id}, {"blob_id": blob_id, "kept_at": now})


def _drop_reference(connection: Connection, user_id: UserId, blob_id: BlobId | None) -> None:
    mine = delete(reference_picture).where(reference_picture.c.user_id == user_id)
    connection.execute(mine if blob_id is None else mine.where(reference_picture.c.blob_id == blob_id))


def _erase_job(connection: Connection, job_id: JobId) -> None:
    connection.execute(delete(blob).where(blob.c.job_id == job_id))
    for jobs in (job, archived_job):
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(result_message_id=None))
