"""What must be true of the queue's tables at every moment, whoever was killed in the middle of what."""

from __future__ import annotations

from sqlalchemy import Connection, text

from modules.utils.database import Database

#: Each finds rows that break the sentence before it; the value of the first column says which.
_RULES = {
    "an active job holds exactly one slot of its person, every other job none": """
        SELECT job.id FROM job LEFT JOIN active_slot ON active_slot.job_id = job.id AND active_slot.user_id = job.user_id
        WHERE (active_slot.slot IS NULL) = (job.state IN ('queued', 'submitting', 'submitted'))""",
    "a waiting job is in no attempt": """
        SELECT id FROM job WHERE state = 'queued' AND (attempt_id IS NOT NULL OR server IS NOT NULL)""",
    "a job in flight is in an open attempt on its server": """
        SELECT job.id FROM job WHERE state IN ('submitting', 'submitted') AND NOT EXISTS (
            SELECT 1 FROM attempt JOIN attempt_job ON attempt_job.attempt_id = attempt.id
            WHERE attempt.id = job.attempt_id AND attempt_job.job_id = job.id
            AND attempt.server = job.server AND attempt.ended_at IS NULL)""",
    "a drawn job has all its pictures until somebody erases them": """
        SELECT job.id FROM job WHERE state IN ('generated', 'delivered', 'undeliverable')
        AND picture_count <> (SELECT count(*) FROM blob WHERE blob.job_id = job.id)""",
    "no other job has pictures": """
        SELECT job.id FROM job JOIN blob ON blob.job_id = job.id
        WHERE state NOT IN ('generated', 'delivered', 'undeliverable')""",
    "a result's job is there, in one table or the other": """
        SELECT blob.id FROM blob WHERE job_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM job WHERE job.id = blob.job_id)
        AND NOT EXISTS (SELECT 1 FROM archived_job WHERE archived_job.id = blob.job_id)""",
    "no job is in both tables": """
        SELECT job.id FROM job JOIN archived_job ON archived_job.id = job.id OR archived_job.seq = job.seq""",
    "a result is owed exactly while the job is generated": """
        SELECT job.id FROM job LEFT JOIN outbox ON outbox.job_id = job.id AND outbox.kind = 'result'
        WHERE (job.state = 'generated') <> coalesce(outbox.is_owed, false)""",
    "a result was sent exactly if the job is delivered": """
        SELECT job.id FROM job LEFT JOIN outbox ON outbox.job_id = job.id AND outbox.kind = 'result'
        WHERE (job.state = 'delivered') <> (outbox.sent_at IS NOT NULL)""",
    "bad news exist exactly of failed jobs": """
        SELECT job.id FROM job LEFT JOIN outbox ON outbox.job_id = job.id AND outbox.kind = 'failure'
        WHERE (job.state = 'failed') <> (outbox.job_id IS NOT NULL)""",
    "an account holds at least what its person's jobs were charged and not given back": """
        SELECT account.user_id FROM account JOIN job ON job.user_id = account.user_id
        JOIN attempt_job ON attempt_job.job_id = job.id
        GROUP BY account.user_id, account.vt HAVING sum(attempt_job.charge) > account.vt + 0.000001""",
    "nothing is charged for what waits, failed or was sent back": """
        SELECT attempt_job.job_id FROM attempt_job JOIN job ON job.id = attempt_job.job_id
        WHERE attempt_job.charge <> 0 AND (job.state IN ('queued', 'failed') OR attempt_job.requeued_for IS NOT NULL)""",
    "nobody who waits stands below the floor": """
        SELECT account.user_id FROM account JOIN job ON job.user_id = account.user_id AND job.state = 'queued'
        WHERE account.vt < (SELECT floor FROM fairness) - 0.000001""",
}


async def broken_rules(database: Database) -> list[str]:
    """The rules that do not hold, with the rows that break them; empty when all is well."""
    return await database.engine.read(_broken_rules)


def _broken_rules(connection: Connection) -> list[str]:
    broken = [f"{rule}: {rows}" for rule, query in _RULES.items() if (rows := connection.execute(text(query)).scalars().all())]
    if connection.dialect.name == "sqlite":
        broken += [f"SQLite: {row}" for row in connection.execute(text("PRAGMA integrity_check")).scalars() if row != "ok"]
        broken += [f"points nowhere: {row}" for row in connection.execute(text("PRAGMA foreign_key_check"))]
    return broken
