"""Fills a database as years of use would, by bulk SQL: a million finished jobs take about a minute on either database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from modules.domain.jobs import JobId
from modules.domain.people import UserId
from modules.utils.database.tables import archived_job
from tests.support.builders import FIRST_MOMENT, THE_GUILD

#: Rows that one INSERT makes.
CHUNK = 100_000
#: The first Discord ids of people and of interactions in here; far from those that `builders.a_snowflake` counts up.
FIRST_USER = 100_000_000_000_000_000
FIRST_INTERACTION = 200_000_000_000_000_000
#: Spreads consecutive numbers over all ids, as random ids would be. Source: Knuth, The Art of Computer Programming, 6.4.
_SPREAD = 2_654_435_761

_RECIPE = (
    '{"cfg":1.0,"count":1,"loras":[],"model":"flux","negative_prompt":"","prompt":"a lighthouse at dusk, oil on canvas",'
    '"seed":7,"size":[1024,1024],"steps":4,"v":1,"workflow":"flux_image"}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """How much of everything."""

    finished: int  #: jobs that are over, of all people in turn, one every 20 seconds up to `now`
    people: int
    heavy: int = 0  #: further finished jobs, all of `HEAVY_USER`
    waiting: int = 0  #: jobs in the queue, each of a person of their own
    in_flight: int = 8
    owed: int = 20  #: results on their way to their people
    sessions: int = 500  #: Discord allows so many channels in a guild
    picture_bytes: int = 64
    archived: int = 0  #: of the oldest finished jobs, those that have left the hot table
    pictures: int = 20_000  #: the newest finished jobs that still have their picture
    now: datetime = FIRST_MOMENT


#: Somebody with a great many jobs.
HEAVY_USER = UserId(FIRST_USER - 1)


def job_id_of(number: int) -> JobId:
    """The id of the job with this number (from 1, in the order of acceptance)."""
    return JobId(UUID(hex=f"{number * _SPREAD % 2**32:08x}{number:024x}"))


def fill(connection: Connection, filling: Filling) -> None:
    """Put everything in; the database is empty but for its tables."""
    sql = _Sqlite(filling) if connection.dialect.name == "sqlite" else _Postgres(filling)
    total = filling.heavy + filling.finished
    _in_chunks(connection, filling.people, sql.people)
    _in_chunks(connection, total + filling.owed + filling.in_flight + filling.waiting, sql.jobs)
    _in_chunks(connection, total + filling.owed + filling.in_flight, sql.attempts)
    _in_chunks(connection, total + filling.owed, sql.outbox)
    _in_chunks(connection, filling.pictures, sql.pictures)
    if filling.archived:
        for statement in sql.archive(filling.archived):
            connection.execute(text(statement))
    for statement in sql.rest():
        connection.execute(text(statement))


def analyze(connection: Connection) -> None:
    """Have the planner count what is there."""
    connection.exec_driver_sql("ANALYZE")


def _in_chunks(connection: Connection, count: int, statements: Callable[[int, int], Sequence[str]]) -> None:
    for first in range(1, count + 1, CHUNK):
        for statement in statements(first, min(count, first + CHUNK - 1)):
            connection.execute(text(statement.replace(":", r"\:")))


class _Sql:
    """The statements, in words both databases know; what differs is asked of the subclass."""

    def __init__(self, filling: Filling) -> None:
        self.filling = filling
        self.finished = filling.heavy + filling.finished

    def numbers(self, first: int, last: int) -> str:
        raise NotImplementedError

    def uuid(self, number: str) -> str:
        raise NotImplementedError

    def ago(self, seconds: str) -> str:
        raise NotImplementedError

    def data(self) -> str:
        raise NotImplementedError

    def people(self, first: int, last: int) -> Sequence[str]:
        these = self.numbers(first, last)
        return (
            f"INSERT INTO account (user_id, vt, weight) SELECT {FIRST_USER} + i, (i * 7 % 1000) * 0.01, 1 FROM {these}",
            f"INSERT INTO person (user_id, language) SELECT {FIRST_USER} + i, 'es' FROM {these}",
        )

    def jobs(self, first: int, last: int) -> Sequence[str]:
        fill, owed_up_to = self.filling, self.finished + self.filling.owed
        flying_up_to = owed_up_to + fill.in_flight
        user = f"CASE WHEN i <= {fill.heavy} THEN {HEAVY_USER} ELSE {FIRST_USER} + i % {fill.people} END"
        state = (
            f"CASE WHEN i > {flying_up_to} THEN 'queued' WHEN i > {owed_up_to} THEN 'submitted' WHEN i > {self.finished} THEN"
            " 'generated' WHEN i % 50 = 3 THEN 'failed' WHEN i % 50 = 7 THEN 'cancelled' WHEN i % 500 = 11 THEN 'undeliverable'"
            " ELSE 'delivered' END"
        )
        is_drawn = f"i <= {owed_up_to} AND i % 50 NOT IN (3, 7)"
        upload = "CASE WHEN i % 10 = 1 THEN 'upload-' || (i / 10) END"
        columns = {
            "id": self.uuid("i"),
            "interaction_id": f"{FIRST_INTERACTION} + i",
            "user_id": user,
            "guild_id": str(THE_GUILD),
            "display_name": "'somebody'",
            "language": "'en'",
            "origin": "'imagine'",
            "recipe": f"'{_RECIPE}'",
            "prompt": "'a lighthouse at dusk, oil on canvas'",
            "picture_count": "1",
            "source_id": upload,
            "reference_id": "CASE WHEN i % 100 = 2 THEN 'upload-' || (i / 10) END",
            "exact_key": "'key-' || (i % 12)",
            "heavy_key": "'heavy-' || (i % 3)",
            "needs": "'[\"class:KSampler\"]'",
            "is_mergeable": self.true(),
            "cost_s": "3",
            "state": state,
            "attempt_id": f"CASE WHEN i <= {flying_up_to} THEN {self.uuid('i')} END",
            "server": f"CASE WHEN i <= {flying_up_to} THEN 'gpu-' || (i % 4) END",
            "accepted_at": self.ago(f"({self.finished} - i) * 20"),
            "generated_at": f"CASE WHEN {is_drawn} THEN {self.ago(f'({self.finished} - i) * 20 - 10')} END",
            "channel_id": f"300000000000000000 + i % {fill.people}",
            "result_message_id": f"CASE WHEN {is_drawn} THEN 400000000000000000 + i END",
        }
        names, values = ", ".join(columns), ", ".join(columns.values())
        waiting = self.numbers(max(first, owed_up_to + 1), last)
        return (
            f"INSERT INTO job ({names}) SELECT {values} FROM {self.numbers(first, last)}",
            f"INSERT INTO active_slot (user_id, slot, job_id) SELECT {FIRST_USER} + i % {fill.people}, i, {self.uuid('i')}"
            f" FROM {waiting}",
        )

    def archive(self, count: int) -> Sequence[str]:
        """As the program moves them, but all at once."""
        names = ", ".join(column.name for column in archived_job.columns)
        over = f"seq <= {count} AND state NOT IN ('undeliverable')"
        gone = "NOT EXISTS (SELECT 1 FROM job WHERE job.id = "
        return (
            f"INSERT INTO archived_job ({names}) SELECT {names} FROM job WHERE {over}",
            f"DELETE FROM outbox WHERE job_id IN (SELECT id FROM job WHERE {over})",
            f"DELETE FROM attempt_job WHERE job_id IN (SELECT id FROM job WHERE {over})",
            f"DELETE FROM job WHERE {over}",
            f"DELETE FROM attempt WHERE {gone}attempt.id)",
        )

    def true(self) -> str:
        raise NotImplementedError

    def attempts(self, first: int, last: int) -> Sequence[str]:
        these, over = self.numbers(first, last), f"i <= {self.finished + self.filling.owed}"
        ended = f"CASE WHEN {over} THEN {self.ago('0')} END"
        return (
            "INSERT INTO attempt (id, server, boot_id, claimed_at, submitted_at, ended_at) SELECT"
            f" {self.uuid('i')}, 'gpu-' || (i % 4), {self.uuid('1')}, {self.ago('9')}, {self.ago('8')}, {ended} FROM {these}",
            "INSERT INTO attempt_job (attempt_id, position, job_id, charge) SELECT"
            f" {self.uuid('i')}, 0, {self.uuid('i')}, 0 FROM {these}",
        )

    def outbox(self, first: int, last: int) -> Sequence[str]:
        is_owed = f"i > {self.finished}"
        return (
            "INSERT INTO outbox (job_id, kind, is_owed, due_at, created_at, sent_at) SELECT"
            f" {self.uuid('i')}, CASE WHEN i % 50 = 3 THEN 'failure' ELSE 'result' END, {is_owed}, {self.ago('5')},"
            f" {self.ago('5')}, CASE WHEN {is_owed} THEN NULL ELSE {self.ago('4')} END"
            f" FROM {self.numbers(first, last)} WHERE i % 50 <> 7",
        )

    def pictures(self, first: int, last: int) -> Sequence[str]:
        """Of the newest finished jobs; every tenth of those has its upload as well."""
        newest = self.finished + self.filling.owed
        at = self.ago(f"(i - {self.filling.owed}) * 20")
        columns = "id, format, width_px, height_px, created_at, job_id, picture_index, data"
        drawn = f"'result-' || ({newest} + 1 - i), 'png', 1024, 1024, {at}, {self.uuid(f'({newest} + 1 - i)')}, 0, {self.data()}"
        upload = f"'upload-' || (({newest} + 1 - i) / 10), 'png', 1024, 1024, {at}, NULL, NULL, {self.data()}"
        these = self.numbers(first, last)
        return (
            f"INSERT INTO blob ({columns}) SELECT {drawn} FROM {these} WHERE ({newest} + 1 - i) % 50 NOT IN (3, 7)",
            f"INSERT INTO blob ({columns}) SELECT {upload} FROM {these} WHERE ({newest} + 1 - i) % 10 = 1",
            f"INSERT INTO reference_picture (user_id, blob_id, kept_at) SELECT {FIRST_USER} + i,"
            f" 'upload-' || (({newest} + 1 - i) / 10), {at} FROM {these} WHERE ({newest} + 1 - i) % 10 = 1",
            f"INSERT INTO last_picture (user_id, blob_id) SELECT {FIRST_USER} + ({newest} + 1 - i) % {self.filling.people},"
            f" 'result-' || ({newest} + 1 - i) FROM {these} WHERE ({newest} + 1 - i) % 50 NOT IN (3, 7)"
            f" ON CONFLICT (user_id) DO NOTHING",
        )

    def rest(self) -> Sequence[str]:
        people, these = self.filling.people, self.numbers(1, self.filling.sessions)
        at = self.ago("i * 60")
        servers = self.numbers(0, 3)
        return (
            "INSERT INTO session (guild_id, user_id, channel_id, last_active_at) SELECT"
            f" {THE_GUILD}, {FIRST_USER} + i * 7 % {people}, 300000000000000000 + i * 7 % {people}, {at} FROM {these} WHERE 1 = 1"
            " ON CONFLICT DO NOTHING",
            f"INSERT INTO lease (server, boot_id, expires_at) SELECT 'gpu-' || i, {self.uuid('1')}, {self.ago('-60')} FROM"
            f" {servers}",
            f"INSERT INTO audit (at, actor_id, act, subject, details) SELECT {self.ago('i')}, 1, 'queue_paused', '', '{{}}'"
            f" FROM {self.numbers(1, 1000)}",
        )


class _Sqlite(_Sql):
    def numbers(self, first: int, last: int) -> str:
        counted = f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
        return f"({counted} SELECT i FROM n WHERE i <= {last}) AS numbers"

    def uuid(self, number: str) -> str:
        return f"printf('%08x%024x', ({number} * {_SPREAD}) & 4294967295, {number})"

    def ago(self, seconds: str) -> str:
        now = self.filling.now.strftime("%Y-%m-%d %H:%M:%S")
        return f"strftime('%Y-%m-%d %H:%M:%f000', '{now}', (-({seconds})) || ' seconds')"

    def data(self) -> str:
        return f"randomblob({self.filling.picture_bytes})"

    def true(self) -> str:
        return "1"


class _Postgres(_Sql):
    def numbers(self, first: int, last: int) -> str:
        return f"generate_series({first}::bigint, {last}::bigint) AS numbers (i)"

    def uuid(self, number: str) -> str:
        spread = f"lpad(to_hex((({number})::bigint * {_SPREAD}) & 4294967295), 8, '0')"
        return f"({spread} || lpad(to_hex(({number})::bigint), 24, '0'))::uuid"

    def ago(self, seconds: str) -> str:
        return f"timestamptz '{self.filling.now.isoformat()}' - ({seconds}) * interval '1 second'"

    def data(self) -> str:
        block = "decode(md5(i::text || 'x'), 'hex')"  # repeats, but PostgreSQL is told not to compress
        return (
            block
            if self.filling.picture_bytes <= 16
            else f"decode(repeat(md5(i::text), {self.filling.picture_bytes // 16}), 'hex')"
        )

    def true(self) -> str:
        return "true"
