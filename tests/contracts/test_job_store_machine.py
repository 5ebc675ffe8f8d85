"""Any sequence of steps leaves the store as a plain Python model says: states, slots, accounts, floor, outbox."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, select, text

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import IN_FLIGHT_STATES, Attempt, Job, JobId, JobRequest, JobState
from modules.domain.people import MessageId
from modules.domain.queue import Pick, QueueSnapshot
from modules.domain.records import Limits, MessageKind
from modules.utils.database import Database, open_database
from modules.utils.database.tables import account, active_slot, fairness, job, metadata, outbox
from tests.support.builders import SteeredClock, a_person, a_recipe, a_report, a_request, a_work_class
from tests.support.queue_integrity import broken_rules
from tests.support.queue_steps import THE_BOOT, THE_SERVER, pick_of, pictures_for

T = TypeVar("T")
LIMITS = Limits(active_per_person=2, queue_length=6)
PEOPLE = 4
MAX_BATCH = 3
KEYS = ("a", "b")
Owed = dict[tuple[JobId, MessageKind], bool]
Asked = tuple[int, str, float, float, int]
SOME_KEYS = st.sampled_from([{"a"}, {"b"}, {"a", "b"}])
#: Who asks for what: person, exact key, cost, weight, pictures.
ASKED = st.tuples(
    st.integers(0, PEOPLE - 1),
    st.sampled_from(KEYS),
    st.sampled_from([1.0, 2.0, 8.0]),
    st.sampled_from([1.0, 2.0]),
    st.integers(1, 2),
)


@dataclass
class Line:
    """What the model knows of a job."""

    job: Job
    user: int
    state: JobState = JobState.QUEUED
    attempt: int | None = None
    charge: float = 0.0
    skips: int = 0


@dataclass
class Model:
    """The queue in a few dictionaries: the rules of scheduling.md and durability.md once more, naively."""

    lines: dict[JobId, Line] = field(default_factory=dict)
    vt: dict[int, float] = field(default_factory=dict)
    floor: float = 0.0
    owed: Owed = field(default_factory=dict)
    sent: set[tuple[JobId, MessageKind]] = field(default_factory=set)

    def waiting(self, keys: frozenset[str] = frozenset(KEYS)) -> list[Line]:
        """In the order they were accepted."""
        return [line for line in self.lines.values() if line.state is JobState.QUEUED and line.job.work.exact_key in keys]

    def active(self, user: int) -> list[Line]:
        """They hold the person's slots."""
        return [line for line in self.lines.values() if line.user == user and line.state.is_active]

    def refusal(self, user: int) -> ErrorCode | None:
        """Why a new job of this person may not come in."""
        if len(self.active(user)) >= LIMITS.active_per_person:
            return ErrorCode.ACTIVE_LIMIT_REACHED
        return ErrorCode.QUEUE_FULL if len(self.waiting()) >= LIMITS.queue_length else None

    def accept(self, user: int, job: Job) -> None:
        """Lift who comes back from idle to those who wait for the same."""
        vt = self.vt.get(user, 0.0)
        if all(line.user != user for line in self.waiting()):
            peers = [self.vt[line.user] for line in self.waiting(frozenset({job.work.exact_key}))]
            vt = max(vt, min(peers, default=self.floor))
        self.vt[user] = vt
        self.lines[job.id] = Line(job, user)

    def refund(self, line: Line, *, waits_again: bool) -> None:
        """Exactly the charge, not below the floor."""
        back = max(self.floor, self.vt[line.user] - line.charge)
        self.vt[line.user] = back if waits_again or self.vt[line.user] >= self.floor else self.vt[line.user]
        line.charge, line.attempt = 0.0, None


class QueueMachine(RuleBasedStateMachine):
    """Drives store and model side by side."""

    open_store: Callable[[], Coroutine[object, object, tuple[Database, AsyncExitStack]]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.requests: list[JobRequest] = []
        self.attempts: list[Attempt] = []
        self.ended: set[int] = set()
        self.clock = SteeredClock()

    def run(self, work: Awaitable[T]) -> T:
        """On the machine's own loop."""

        async def awaited() -> T:
            return await work

        return self.runner.run(awaited())

    @initialize(asked=st.lists(ASKED, min_size=4, max_size=8), claims=st.lists(SOME_KEYS, max_size=4))
    def begin(self, asked: list[Asked], claims: list[set[str]]) -> None:
        """A new database with some history: some wait, some run, nobody's account is as it was at the start."""
        self.database, self.stack = self.run(type(self).open_store())
        for asking in asked:
            self._accept(*asking)
        for keys in claims:
            self._claim(keys, [0], PEOPLE)

    def teardown(self) -> None:
        """What must hold at any time held to the end; close it."""
        assert self.run(broken_rules(self.database)) == []
        self.run(self.stack.aclose())
        self.runner.close()

    def any_job(self, number: int) -> Line:
        """One of all jobs there ever were."""
        return list(self.model.lines.values())[number % len(self.model.lines)]

    # --- rules ----------------------------------------------------------------------------------------------------------

    @rule(asking=ASKED)
    def accept(self, asking: Asked) -> None:
        self._accept(*asking)

    def _accept(self, user: int, key: str, cost: float, weight: float, count: int) -> None:
        request = a_request(a_person(user + 1, weight=weight), recipe=a_recipe(count=count), work=a_work_class(key, cost_s=cost))
        expected = self.model.refusal(user)
        if expected is not None:
            with pytest.raises(FulletError, match=expected.value):
                self.run(self.database.jobs.accept(request, LIMITS, sharing={key}))
            return
        accepted, is_new = self.run(self.database.jobs.accept(request, LIMITS, sharing={key}))
        assert is_new
        self.requests.append(request)
        self.model.accept(user, accepted)

    @precondition(lambda self: self.requests)
    @rule(number=st.integers(0, 99))
    def replay(self, number: int) -> None:
        again, is_new = self.run(self.database.jobs.accept(self.requests[number % len(self.requests)], LIMITS))
        assert not is_new
        assert self.model.lines[again.id].state is again.state

    @rule(
        keys=st.sets(st.sampled_from(KEYS), min_size=1),
        choice=st.lists(st.integers(0, 9), min_size=1, max_size=MAX_BATCH),
        people=st.integers(1, 5),
    )
    def claim(self, keys: set[str], choice: list[int], people: int) -> None:
        self._claim(keys, choice, people)

    @rule(keys=SOME_KEYS, choice=st.integers(0, 9), asking=ASKED)
    def serve_one_and_let_another_in(self, keys: set[str], choice: int, asking: Asked) -> None:
        """The usual course of things, which single steps at random seldom take."""
        before = len(self.attempts)
        self._claim(keys, [choice], PEOPLE)
        if len(self.attempts) > before:
            self.submit(before)
            self.draw(before, 0)
            self.end(before, has_begun=True)
        self._accept(*asking)

    def _claim(self, keys: set[str], choice: list[int], people: int) -> None:
        seen = self._expected_view(frozenset(keys), people)
        picks: list[Pick] = []

        def decide(snapshot: QueueSnapshot) -> Pick:
            assert [(waiting.id, waiting.skips) for waiting in snapshot.jobs] == [(line.job.id, line.skips) for line in seen]
            chosen = list(dict.fromkeys(snapshot.jobs[number % len(snapshot.jobs)].id for number in choice))
            skipped = [waiting.id for waiting in snapshot.jobs if waiting.id not in chosen][:1]
            picks.append(pick_of(snapshot, chosen, skipped))
            return picks[0]

        attempt = self.run(self.database.jobs.claim(THE_SERVER, THE_BOOT, keys, decide, max_people=people))
        assert (attempt is not None) == bool(seen)
        if attempt is not None:
            self._note_claim(picks[0], attempt)

    def _expected_view(self, keys: frozenset[str], people: int) -> list[Line]:
        waiting = self.model.waiting(keys)
        first_seq = {line.user: line.job.seq for line in reversed(waiting)}
        least = sorted(first_seq, key=lambda user: (self.model.vt[user], first_seq[user]))[:people]
        return [line for line in waiting if line.user in least]

    def _note_claim(self, pick: Pick, attempt: Attempt) -> None:
        assert tuple(taken.id for taken in attempt.jobs) == pick.job_ids
        self.attempts.append(attempt)
        for job_id in pick.job_ids:
            line = self.model.lines[job_id]
            account_weight = self.run(self._weight_of(line.user))
            line.state, line.attempt, line.charge = (
                JobState.SUBMITTING,
                len(self.attempts) - 1,
                line.job.work.cost_s / account_weight,
            )
            self.model.vt[line.user] += line.charge
        for job_id in pick.skipped:
            self.model.lines[job_id].skips += 1
        everybody = [self.model.vt[line.user] for line in self.model.waiting()]
        self.model.floor = max(self.model.floor, min([pick.floor, *everybody]))

    async def _weight_of(self, user: int) -> float:
        weight: float = await self.database.engine.read(
            lambda connection: connection.execute(select(account.c.weight).where(account.c.user_id == user + 1)).scalar_one()
        )
        return weight

    @precondition(lambda self: self.attempts)
    @rule(number=st.integers(0, 99))
    def submit(self, number: int) -> None:
        at = number % len(self.attempts)
        self.run(self.database.jobs.mark_submitted(self.attempts[at].id))
        for line in self.model.lines.values():
            if line.attempt == at and line.state is JobState.SUBMITTING:
                line.state = JobState.SUBMITTED

    @precondition(lambda self: self.attempts)
    @rule(number=st.integers(0, 99), which=st.integers(0, 9))
    def draw(self, number: int, which: int) -> None:
        at = number % len(self.attempts)
        members = self.attempts[at].jobs
        drawn = members[which % len(members)]
        line = self.model.lines[drawn.id]
        won = self.run(self.database.jobs.settle_generated(self.attempts[at].id, drawn.id, pictures_for(drawn), a_report()))
        assert won == (line.state in IN_FLIGHT_STATES)
        if won:
            line.state = JobState.GENERATED
            self.model.owed[drawn.id, MessageKind.RESULT] = True

    @precondition(lambda self: self.model.lines)
    @rule(number=st.integers(0, 99), attempt_number=st.none() | st.integers(0, 99))
    def fail(self, number: int, attempt_number: int | None) -> None:
        line = self.any_job(number)
        at = attempt_number % len(self.attempts) if attempt_number is not None and self.attempts else None
        only_in = None if at is None else self.attempts[at].id
        won = self.run(self.database.jobs.settle_failed(line.job.id, ErrorCode.NODE_FAILED, {}, attempt_id=only_in))
        assert won == (line.state.is_active and (at is None or line.attempt == at))
        if won:
            line.state = JobState.FAILED
            self.model.refund(line, waits_again=False)
            self.model.owed[line.job.id, MessageKind.FAILURE] = True

    @precondition(lambda self: self.attempts)
    @rule(number=st.integers(0, 99), chosen=st.sets(st.integers(0, 3)))
    def requeue(self, number: int, chosen: set[int]) -> None:
        at = number % len(self.attempts)
        members = [member.id for index, member in enumerate(self.attempts[at].jobs) if index in chosen]
        expected = [
            job_id
            for job_id in members
            if self.model.lines[job_id].attempt == at and self.model.lines[job_id].state in IN_FLIGHT_STATES
        ]
        assert self.run(self.database.jobs.requeue(self.attempts[at].id, members, ErrorCode.INTERRUPTED)) == expected
        for job_id in expected:
            self.model.lines[job_id].state = JobState.QUEUED
            self.model.refund(self.model.lines[job_id], waits_again=True)

    @precondition(lambda self: self.model.lines)
    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        self._cancel(self.any_job(number))

    def _cancel(self, line: Line) -> None:
        answer = self.run(self.database.jobs.cancel(line.job.id))
        assert (answer and answer[1]) == (line.state if line.state.is_active else None)
        if answer is not None:
            if line.state is JobState.SUBMITTING:
                self.model.refund(line, waits_again=False)
            line.state = JobState.CANCELLED

    @precondition(lambda self: self.attempts)
    @rule(number=st.integers(0, 99), has_begun=st.booleans())
    def end(self, number: int, *, has_begun: bool) -> None:
        at = number % len(self.attempts)
        is_too_early = any(line.attempt == at and line.state in IN_FLIGHT_STATES for line in self.model.lines.values())
        try:
            self.run(self.database.jobs.end_attempt(self.attempts[at].id, a_report(), has_begun=has_begun))
        except ValueError:
            assert is_too_early
        else:
            assert not is_too_early
            self.ended.add(at)
            if not has_begun:
                self._note_that_it_never_began(at)

    @precondition(lambda self: self.attempts)
    @rule(number=st.integers(0, 99), leaving=st.sets(st.integers(0, MAX_BATCH - 1)))
    def cancel_some_and_take_the_batch_back(self, number: int, leaving: set[int]) -> None:
        """What comes of a batch ahead; single steps at random seldom take this way either."""
        at = number % len(self.attempts)
        self.submit(at)
        for index, member in enumerate(self.attempts[at].jobs):
            if index in leaving:
                self._cancel(self.model.lines[member.id])
        self.requeue(at, set(range(MAX_BATCH)))
        self.end(at, has_begun=False)

    def _note_that_it_never_began(self, at: int) -> None:
        for line in self.model.lines.values():
            if line.attempt == at and line.state is JobState.CANCELLED:
                self.model.refund(line, waits_again=False)

    @precondition(lambda self: self.model.owed)
    @rule(number=st.integers(0, 99), gives_up=st.booleans())
    def courier(self, number: int, gives_up: bool) -> None:
        job_id, kind = list(self.model.owed)[number % len(self.model.owed)]
        if gives_up:
            self.run(self.database.outbox.undeliverable(job_id, kind))
            later = JobState.UNDELIVERABLE
            changes = self.model.owed[job_id, kind]
        else:
            changes = self.run(self.database.outbox.delivered(job_id, kind, MessageId(1)))
            assert changes == ((job_id, kind) not in self.model.sent)
            self.model.sent.add((job_id, kind))
            later = JobState.DELIVERED
        self.model.owed[job_id, kind] = False
        if changes and kind is MessageKind.RESULT:
            self.model.lines[job_id].state = later

    @precondition(lambda self: self.model.owed)
    @rule(number=st.integers(0, 99))
    def send_again(self, number: int) -> None:
        """A person presses the button under what could not be delivered, or somebody forges that press for any job."""
        line = self.any_job(number)
        is_given_up = line.state is JobState.UNDELIVERABLE
        assert self.run(self.database.outbox.send_again(line.job.id)) == is_given_up
        if is_given_up:
            line.state = JobState.GENERATED
            self.model.owed[line.job.id, MessageKind.RESULT] = True

    @rule()
    def restart(self) -> None:
        """Everything is still there after the program was started anew."""
        self.run(self.stack.aclose())
        self.database, self.stack = self.run(type(self).open_store_again())

    open_store_again: Callable[[], Coroutine[object, object, tuple[Database, AsyncExitStack]]]

    # --- what must hold after every step --------------------------------------------------------------------------------

    @invariant()
    def store_and_model_agree(self) -> None:
        if not hasattr(self, "database"):
            return
        states, slots, vt, floor, owed = self.run(self.database.engine.read(_everything))
        assert states == {line.job.id: line.state for line in self.model.lines.values()}
        assert slots == {line.job.id: line.user + 1 for line in self.model.lines.values() if line.state.is_active}
        assert vt == pytest.approx({user + 1: value for user, value in self.model.vt.items()})
        assert floor == pytest.approx(self.model.floor)
        assert owed == self.model.owed

    @invariant()
    def every_accepted_job_waits_runs_or_is_over(self) -> None:
        for line in self.model.lines.values():
            assert (line.state is JobState.QUEUED) + (line.state in IN_FLIGHT_STATES) + line.state.is_over == 1


def _everything(
    connection: Connection,
) -> tuple[dict[JobId, JobState], dict[JobId, int], dict[int, float], float, Owed]:
    jobs = connection.execute(select(job.c.id, job.c.state))
    slots = connection.execute(select(active_slot))
    accounts = connection.execute(select(account))
    messages = connection.execute(select(outbox))
    return (
        {JobId(row.id): JobState(row.state) for row in jobs},
        {JobId(row.job_id): row.user_id for row in slots},
        {row.user_id: row.vt for row in accounts},
        connection.execute(select(fairness.c.floor)).scalar_one(),
        {(JobId(row.job_id), MessageKind(row.kind)): row.is_owed for row in messages},
    )


async def _opened(url: str) -> tuple[Database, AsyncExitStack]:
    stack = AsyncExitStack()
    database = await stack.enter_async_context(open_database(url, data_dir=Path(), clock=SteeredClock()))
    return database, stack


async def _emptied(url: str) -> tuple[Database, AsyncExitStack]:
    """The same PostgreSQL database for every example: a new one takes longer than the example."""
    database, stack = await _opened(url)
    tables = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables if table.name != "fairness")
    await database.engine.write(
        lambda connection: [
            connection.execute(text(command)) for command in (f"TRUNCATE {tables} CASCADE", "UPDATE fairness SET floor = 0")
        ]
    )
    return database, stack


def _copy_into(folder: Path, migrated: Path) -> None:
    for left in folder.iterdir():
        left.unlink()
    shutil.copyfile(migrated, folder / "fullet.db")


def _machine(
    first: Callable[[], Coroutine[object, object, tuple[Database, AsyncExitStack]]], again: object
) -> type[QueueMachine]:
    return type("Machine", (QueueMachine,), {"open_store": staticmethod(first), "open_store_again": staticmethod(again)})  # type: ignore[arg-type]


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def test_sqlite_does_what_the_model_says(migrated_file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fullet.db"

        async def fresh() -> tuple[Database, AsyncExitStack]:
            _copy_into(Path(folder), migrated_file)
            return await _opened(f"sqlite:///{path}")

        run_state_machine_as_test(
            _machine(fresh, lambda: _opened(f"sqlite:///{path}")),
            settings=settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=QUIET),
        )


@pytest.mark.postgres
def test_postgresql_does_what_the_model_says(postgres_url: str) -> None:
    run_state_machine_as_test(
        _machine(lambda: _emptied(postgres_url), lambda: _opened(postgres_url)),
        settings=settings(max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=QUIET),
    )
