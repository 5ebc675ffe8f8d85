"""What becomes of jobs in flight: submitted, generated, failed, cancelled, back in the queue; and the end of their attempt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, insert, select, true, update

from modules.domain.errors import ErrorCode, Param
from modules.domain.images import Picture
from modules.domain.jobs import IN_FLIGHT_STATES, AttemptId, Job, JobId, JobState
from modules.domain.people import UserId
from modules.domain.records import MessageKind
from modules.domain.servers import RunReport
from modules.utils.database.codecs import job_of
from modules.utils.database.conditions import IS_IN_FLIGHT, is_in
from modules.utils.database.steps import free_slot, move, refund, upsert
from modules.utils.database.tables import attempt, attempt_job, blob, job, last_picture, outbox
from modules.utils.database.wakeups import Topic, tell

# Built once: building a statement takes longer than running one like these.
_MEMBERS = (
    select(attempt.c.server, attempt_job.c.job_id, job.c.user_id)
    .join(attempt_job, attempt_job.c.attempt_id == attempt.c.id)
    .join(job, job.c.id == attempt_job.c.job_id)
    .where(attempt.c.id == bindparam("this_attempt"))
)
_IN_FLIGHT = select(func.count()).where(job.c.attempt_id == bindparam("this_attempt"), IS_IN_FLIGHT)
_KEEP = insert(blob)
_OWE = insert(outbox)


def mark_submitted(connection: Connection, attempt_id: AttemptId, now: datetime) -> None:
    """See `JobStore.mark_submitted`."""
    submitting = (job.c.attempt_id == attempt_id, IS_IN_FLIGHT, is_in(JobState.SUBMITTING))
    connection.execute(update(job).where(*submitting).values(state=JobState.SUBMITTED))
    connection.execute(
        update(attempt).where(attempt.c.id == attempt_id).values(submitted_at=func.coalesce(attempt.c.submitted_at, now))
    )


def settle_generated(
    connection: Connection,
    attempt_id: AttemptId,
    job_id: JobId,
    pictures: Sequence[Picture],
    report: RunReport,
    now: datetime,
) -> bool:
    """See `JobStore.settle_generated`. A result of an attempt the job has left counts as well, if it is the first."""
    server, shared_by = _made_by(connection, attempt_id, job_id)
    won = move(
        connection,
        job_id,
        JobState.GENERATED,
        only_from=IN_FLIGHT_STATES,  # not the way back of what could not be delivered
        attempt_id=attempt_id,
        server=server,
        shared_by=shared_by,
        generated_at=now,
        started_at=report.started_at,
        worked_s=report.worked_s,
    )
    if won is None:
        return False
    if len(pictures) != won.picture_count:
        raise ValueError(f"{len(pictures)} pictures for a job of {won.picture_count}")
    blob_ids = keep_pictures(connection, pictures, now, job_id)
    free_slot(connection, job_id)
    _owe(connection, job_id, MessageKind.RESULT, now)
    upsert(connection, last_picture, {"user_id": won.user_id}, {"blob_id": blob_ids[-1]})
    return True


def keep_pictures(connection: Connection, pictures: Sequence[Picture], now: datetime, job_id: JobId | None = None) -> list[str]:
    """Store pictures; with `job_id` as that job's results, in order."""
    blob_ids = [str(uuid4()) for _ in pictures]
    connection.execute(
        _KEEP,
        [
            {
                "id": blob_id,
                "format": picture.format.value,
                "width_px": picture.size.width_px,
                "height_px": picture.size.height_px,
                "created_at": now,
                "job_id": job_id,
                "picture_index": None if job_id is None else index,
                "data": picture.data,
            }
            for index, (blob_id, picture) in enumerate(zip(blob_ids, pictures, strict=True))
        ],
    )
    return blob_ids


def settle_failed(
    connection: Connection,
    job_id: JobId,
    code: ErrorCode,
    params: Mapping[str, Param],
    attempt_id: AttemptId | None,
    now: datetime,
    *,
    is_waiting: bool = False,
) -> bool:
    """See `JobStore.settle_failed`; runs exclusively."""
    failed = move(
        connection,
        job_id,
        JobState.FAILED,
        of_attempt=attempt_id,
        only_from={JobState.QUEUED} if is_waiting else None,
        error_code=code.value,
        error_params=dict(params),
    )
    if failed is None:
        return False
    if failed.attempt_id is not None:
        refund(connection, failed.user_id, failed.attempt_id, job_id, waits_again=False)
    free_slot(connection, job_id)
    _owe(connection, job_id, MessageKind.FAILURE, now)
    tell(connection, Topic.QUEUE)
    return True


def cancel(connection: Connection, job_id: JobId) -> tuple[Job, JobState] | None:
    """See `JobStore.cancel`; runs exclusively. Up to SUBMITTING it never ran as far as we know; later `end_attempt` knows."""
    before = connection.execute(select(job.c.state).where(job.c.id == job_id).with_for_update()).scalar_one_or_none()
    cancelled = move(connection, job_id, JobState.CANCELLED)
    if before is None or cancelled is None:
        return None
    if before == JobState.SUBMITTING:
        refund(connection, cancelled.user_id, cancelled.attempt_id, job_id, waits_again=False)
    free_slot(connection, job_id)
    tell(connection, Topic.QUEUE)
    return job_of(cancelled), JobState(before)


def requeue(
    connection: Connection,
    attempt_id: AttemptId,
    job_ids: Collection[JobId],
    reason: ErrorCode,
    *,
    counts: bool,
    server_died: bool,
    alone: bool,
) -> Sequence[JobId]:
    """See `JobStore.requeue`; runs exclusively."""
    moved: list[JobId] = []
    for job_id in dict.fromkeys(job_ids):
        back = move(
            connection,
            job_id,
            JobState.QUEUED,
            of_attempt=attempt_id,
            attempt_id=None,
            server=None,
            shared_by=1,
            failed_attempts=job.c.failed_attempts + int(counts),
            server_deaths=job.c.server_deaths + int(server_died),
            runs_alone=true() if alone else job.c.runs_alone,
        )
        if back is None:
            continue
        refund(connection, UserId(back.user_id), attempt_id, job_id, waits_again=True)
        connection.execute(
            update(attempt_job)
            .where(attempt_job.c.attempt_id == attempt_id, attempt_job.c.job_id == job_id)
            .values(requeued_for=reason.value)
        )
        moved.append(job_id)
    if moved:
        tell(connection, Topic.QUEUE)
    return moved


def end_attempt(
    connection: Connection, attempt_id: AttemptId, report: RunReport | None, form: str, now: datetime, *, has_begun: bool
) -> None:
    """See `JobStore.end_attempt`. Raises ValueError while a job is still in flight in it: nobody would ever look for it again."""
    if connection.execute(_IN_FLIGHT, {"this_attempt": attempt_id}).scalar_one():
        raise ValueError("an attempt ends after the last of its jobs is settled")
    facts: dict[str, object] = {"ended_at": func.coalesce(attempt.c.ended_at, now)}
    if form:
        facts["form"] = form
    if report is not None:
        facts |= {"phase": report.phase.value, "started_at": report.started_at, "worked_s": report.worked_s}
        facts["failure"] = None if report.failure is None else report.failure.code.value
        _tell_settled_jobs(connection, attempt_id, report)
    connection.execute(update(attempt).where(attempt.c.id == attempt_id).values(facts))
    if not has_begun:
        _refund_cancelled(connection, attempt_id)


def _refund_cancelled(connection: Connection, attempt_id: AttemptId) -> None:
    """What was cancelled in an attempt that never began. Only that: a job drawn by an earlier attempt pays here for its own."""
    cancelled = connection.execute(
        select(job.c.id, job.c.user_id)
        .join(attempt_job, attempt_job.c.job_id == job.c.id)
        .where(attempt_job.c.attempt_id == attempt_id, attempt_job.c.charge > 0, job.c.state == JobState.CANCELLED)
    ).all()
    for gone in cancelled:
        refund(connection, gone.user_id, attempt_id, gone.id, waits_again=False)
    if cancelled:
        tell(connection, Topic.QUEUE)


def _tell_settled_jobs(connection: Connection, attempt_id: AttemptId, report: RunReport) -> None:
    """Jobs whose pictures came before the attempt was over learn its times now."""
    members = select(attempt_job.c.job_id).where(attempt_job.c.attempt_id == attempt_id)
    made_by_it = (job.c.id.in_(members), job.c.attempt_id == attempt_id, job.c.generated_at.is_not(None))
    connection.execute(
        update(job)
        .where(*made_by_it)
        .values(
            started_at=func.coalesce(job.c.started_at, report.started_at), worked_s=func.coalesce(job.c.worked_s, report.worked_s)
        )
    )


def _made_by(connection: Connection, attempt_id: AttemptId, job_id: JobId) -> tuple[str, int]:
    """The server a result comes from and how many people shared the attempt. Raises ValueError for a job that was not in it."""
    members = connection.execute(_MEMBERS, {"this_attempt": attempt_id}).all()
    if job_id not in {member.job_id for member in members}:
        raise ValueError("the job was never part of this attempt")
    return members[0].server, len({member.user_id for member in members})


def _owe(connection: Connection, job_id: JobId, kind: MessageKind, now: datetime) -> None:
    connection.execute(_OWE, {"job_id": job_id, "kind": kind, "is_owed": True, "due_at": now, "created_at": now})
    tell(connection, Topic.OUTBOX)
