"""The scheduler: the worked example, the oracle, and the invariants of docs/scheduling.md."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import combinations
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modules.domain.jobs import JobId, ServerName
from modules.domain.people import UserId
from modules.domain.queue import WaitingJob
from modules.queue_manager.forecast import forecast
from modules.queue_manager.scheduler import Line, Policy, ServerView, pick
from tests.support.naive_scheduler import naive_pick
from tests.support.queue_model import ModelQueue, TableRates

ONE = ServerName("one")
STRICT = Policy(window=0.0, max_skips=1)
POLICY = Policy()


def an_idle(name: str = "one", loaded: str | None = None) -> ServerView:
    return ServerView(name=ServerName(name), loaded=loaded)


def served_one_by_one(queue: ModelQueue, policy: Policy = POLICY) -> list[WaitingJob]:
    """The order in which a single server with batches of one would draw everything."""
    order: list[WaitingJob] = []
    rates, loaded = TableRates(caps={ONE: 1}), None
    while (choice := pick(queue.snapshot(), an_idle(loaded=loaded), [], rates, policy)) is not None:
        order += queue.apply(choice)
        loaded = choice.heavy_key
    return order


def test_three_people_with_one_model_are_served_in_turns() -> None:
    queue = ModelQueue()
    names = {queue.accept(user).id: label for user, label in [(1, "A1"), (1, "A2"), (2, "B1"), (3, "C1"), (3, "C2"), (1, "A3")]}
    assert [names[job.id] for job in served_one_by_one(queue, STRICT)] == ["A1", "B1", "C1", "A2", "C2", "A3"]


def test_a_batch_holds_four_different_people_when_four_wait() -> None:
    queue = ModelQueue()
    for user in (1, 1, 2, 2, 3, 3, 4, 4):
        queue.accept(user)
    choice = pick(queue.snapshot(), an_idle(), [], TableRates(), POLICY)
    assert choice is not None
    assert {queue.jobs[job_id].user_id for job_id in choice.job_ids} == {1, 2, 3, 4}


def test_the_loaded_model_is_kept_inside_the_window_and_left_outside_it() -> None:
    queue = ModelQueue()
    for _ in range(3):
        queue.accept(1, key="warm")
    queue.accept(2, key="cold")
    rates = TableRates(caps={ONE: 1})
    kept: list[str] = []
    while len(kept) < 4 and (choice := pick(queue.snapshot(), an_idle(loaded="warm"), [], rates, POLICY)) is not None:
        kept.append(queue.apply(choice)[0].exact_key)
    assert kept == ["warm", "warm", "cold", "warm"]


def test_work_is_left_to_a_server_that_has_the_model_and_ends_sooner() -> None:
    queue = ModelQueue()
    queue.accept(1, key="flux", cost_s=3.0)
    warm = ServerView(name=ServerName("two"), loaded="flux", free_in_s=2.0)
    assert pick(queue.snapshot(), an_idle(loaded="other"), [warm], TableRates(), POLICY) is None
    busy = ServerView(name=ServerName("two"), loaded="flux", free_in_s=60.0)
    assert pick(queue.snapshot(), an_idle(loaded="other"), [busy], TableRates(), POLICY) is not None


def test_weight_is_share_not_rank() -> None:
    queue = ModelQueue()
    for _ in range(40):
        queue.accept(1, weight=4.0)
        queue.accept(2, weight=1.0)
    first = served_one_by_one(queue)[:25]
    assert [job.user_id for job in first].count(UserId(1)) == pytest.approx(20, abs=1)


def test_whoever_comes_to_an_empty_queue_does_not_start_far_below_the_one_who_just_left() -> None:
    queue = ModelQueue()
    for _ in range(10):
        queue.accept(1)
    served_one_by_one(queue)
    assert queue.accounts[UserId(1)].vt - queue.floor <= 1.0  # the cost of one job
    queue.accept(2)
    queue.accept(1)
    levels = [account.vt for account in queue.accounts.values()]
    assert max(levels) - min(levels) <= 1.0


def test_a_job_larger_than_any_batch_goes_alone() -> None:
    queue = ModelQueue()
    large = queue.accept(1, rows=4)
    queue.accept(2, rows=1)
    choice = pick(queue.snapshot(), an_idle(), [], TableRates(caps={ONE: 2}), POLICY)
    assert choice is not None
    assert choice.job_ids == (large.id,)


# --- any queue: the fast scheduler says what the plain one says -----------------------------------------------------------

KEYS = {"flux-a": "flux", "flux-b": "flux", "z": "z", "sdxl": "sdxl"}
COSTS = {"flux-a": 8.0, "flux-b": 5.0, "z": 3.0, "sdxl": 4.0}


@st.composite
def queues(draw: st.DrawFn) -> ModelQueue:
    queue = ModelQueue()
    for _ in range(draw(st.integers(1, 24))):
        key = draw(st.sampled_from(sorted(KEYS)))
        rows = draw(st.integers(1, 3))
        queue.accept(
            draw(st.integers(1, 7)),
            key=key,
            heavy=KEYS[key],
            cost_s=COSTS[key] * rows,
            rows=rows,
            weight=draw(st.sampled_from([1.0, 2.0, 4.0])),
        )
    return queue


def some_of(queue: ModelQueue) -> st.SearchStrategy[frozenset[JobId]]:
    """Jobs that a server refuses: none, some, or all."""
    return st.frozensets(st.sampled_from(sorted(queue.jobs)))


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    queue=queues(),
    loaded=st.sampled_from([None, "flux", "z", "sdxl"]),
    busy_s=st.sampled_from([0.0, 2.0, 40.0]),
    window=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    steps=st.integers(1, 6),
)
def test_the_fast_scheduler_decides_as_the_plain_one(
    data: st.DataObject, queue: ModelQueue, loaded: str | None, busy_s: float, window: float, steps: int
) -> None:
    policy, refused = Policy(window=window), some_of(queue)
    names = [ONE, ServerName("two"), ServerName("three")]
    rates = TableRates(
        caps={ONE: 3}, runs={name: data.draw(st.frozensets(st.sampled_from(sorted(KEYS)), min_size=2)) for name in names}
    )
    others = [
        ServerView(
            name=ServerName(name),
            loaded=data.draw(st.sampled_from([None, "flux", "z", "sdxl"])),
            free_in_s=data.draw(st.sampled_from([0.0, 3.0, 30.0])),
            refused=data.draw(refused),
        )
        for name in ("two", "three")
    ]
    here = data.draw(refused)
    line = Line(queue.snapshot(), policy)
    for _ in range(steps):
        server = ServerView(name=ONE, loaded=loaded, free_in_s=busy_s, refused=here)
        expected = naive_pick(queue.snapshot(), server, others, rates, policy)
        assert pick(queue.snapshot(), server, others, rates, policy) == expected
        again = line.pick(server, others, rates)  # as the forecast goes on with one line
        assert (again and (again.job_ids, again.charges)) == (expected and (expected.job_ids, expected.charges))
        if expected is None:
            return
        queue.apply(expected)
        loaded = expected.heavy_key


@settings(max_examples=100, deadline=None)
@given(queue=queues())
def test_a_forecast_is_what_then_happens_when_times_are_as_expected(queue: ModelQueue) -> None:
    rates = TableRates(caps={ONE: 2})
    expected = dict(forecast(queue.snapshot(), [an_idle()], rates, POLICY))
    now, loaded, position = 0.0, None, 0
    while (choice := pick(queue.snapshot(), an_idle(loaded=loaded), [], rates, POLICY)) is not None:
        batch = queue.apply(choice)
        position += 1
        started = now
        now += (0.0 if loaded == choice.heavy_key else 10.0) + rates.batch_s(ONE, batch[0], sum(job.rows for job in batch))
        loaded = choice.heavy_key
        for job in batch:
            told = expected.pop(job.id)
            assert told.position == position
            assert (told.starts_in_s, told.ends_in_s) == pytest.approx((started, now))
    assert not expected


SERVERS = [ServerName("fast"), ServerName("slow")]


# --- the invariants, over any history -------------------------------------------------------------------------------------


class QueueHistory(RuleBasedStateMachine):
    """Accept, cancel, pick, finish, fail, servers up and down, weights; after each step the invariants hold."""

    servers: ClassVar = {ServerName("fast"): 3, ServerName("slow"): 1}
    c_max = max(COSTS.values())

    def __init__(self) -> None:
        super().__init__()
        self.queue = ModelQueue()
        self.rates = TableRates(caps=self.servers)
        self.down: set[ServerName] = set()
        self.loaded: dict[ServerName, str | None] = dict.fromkeys(self.servers)
        self.flying: dict[ServerName, list[WaitingJob]] = {name: [] for name in self.servers}
        self.accepted = self.over = 0
        self.overtaken: dict[UserId, list[tuple[int, int]]] = defaultdict(list)
        self.weights: dict[int, float] = {}
        self.service: dict[UserId, float] = defaultdict(float)
        self.waiting_since: dict[tuple[UserId, UserId], dict[UserId, float]] = {}

    @rule(user=st.integers(1, 5), key=st.sampled_from(sorted(KEYS)), weight=st.sampled_from([1.0, 2.0, 4.0]))
    def accept(self, user: int, key: str, weight: float) -> None:
        weight = self.weights.setdefault(user, weight)
        waits = any(job.user_id == user for job in self.queue.jobs.values())
        before = self.queue.accounts.get(UserId(user))
        floor = min((self.queue.accounts[job.user_id].vt for job in self.queue.jobs.values()), default=self.queue.floor)
        self.queue.accept(user, key=key, heavy=KEYS[key], cost_s=COSTS[key], weight=weight)
        self.accepted += 1
        if not waits:
            assert self.queue.accounts[UserId(user)].vt >= floor, "unused share was banked"
        elif before is not None:
            assert self.queue.accounts[UserId(user)].vt == before.vt

    @precondition(lambda self: self.queue.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        del self.queue.jobs[data.draw(st.sampled_from(sorted(self.queue.jobs)))]
        self.over += 1

    @rule(name=st.sampled_from(SERVERS))
    def dispatch(self, name: ServerName) -> None:
        if name in self.down or self.flying[name]:
            return
        others = [ServerView(name=other, loaded=self.loaded[other]) for other in self.servers if other not in {*self.down, name}]
        before = self.queue.snapshot()
        choice = pick(before, ServerView(name=name, loaded=self.loaded[name]), others, self.rates, POLICY)
        if choice is None:
            assert not before.jobs or others, "work waits, nobody else could do it, and the server idles"
            return
        batch = self.queue.apply(choice)
        self._check_batch(name, batch, before.jobs)
        for job in batch:
            self.service[job.user_id] += job.cost_s / self.weights[job.user_id]
        self.flying[name], self.loaded[name] = batch, choice.heavy_key

    def _check_batch(self, name: ServerName, batch: list[WaitingJob], waiting: tuple[WaitingJob, ...]) -> None:
        assert len({job.exact_key for job in batch}) == 1
        assert sum(job.rows for job in batch) <= self.servers[name]
        for job in batch:
            older = [one for one in waiting if one.user_id == job.user_id and one.seq < job.seq and one not in batch]
            assert all(one.exact_key != job.exact_key for one in older), "first in, first out per person and key"
            assert all(one.skips < POLICY.max_skips for one in older), "overtaken more than K times by one's own"
        left = {job.user_id: job for job in waiting if job.exact_key == batch[0].exact_key and job not in batch}
        served = [job.user_id for job in batch]
        for user in {user for user in served if served.count(user) > 1}:
            for other in left.keys() - set(served):
                behind = self.queue.accounts[other].vt
                dearer = self.queue.accounts[user].vt - COSTS[batch[0].exact_key] / self.weights[user]
                in_turn = next(one for one in sorted(waiting, key=lambda one: one.seq) if one.user_id == other)
                barred = in_turn.skips >= POLICY.max_skips and in_turn.exact_key != batch[0].exact_key
                assert behind >= dearer or barred, "twice in a batch while a less-served person waited for the same"

    @rule(name=st.sampled_from(SERVERS))
    def finish(self, name: ServerName) -> None:
        self.over += len(self.flying[name])
        self.flying[name] = []

    @rule(name=st.sampled_from(SERVERS))
    def lose_server(self, name: ServerName) -> None:
        for job in self.flying[name]:
            self.queue.put_back(job)
            self.service[job.user_id] -= job.cost_s / self.weights[job.user_id]
        self.flying[name], self.loaded[name] = [], None
        self.down.add(name)

    @rule(name=st.sampled_from(SERVERS))
    def server_is_back(self, name: ServerName) -> None:
        self.down.discard(name)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.accepted == len(self.queue.jobs) + sum(map(len, self.flying.values())) + self.over

    @invariant()
    def the_spread_is_bounded(self) -> None:
        """Everyone may run everywhere here, so all who wait share their servers."""
        levels = [self.queue.accounts[user].vt for user in {job.user_id for job in self.queue.jobs.values()}]
        if levels:
            assert max(levels) - min(levels) <= POLICY.window * self.c_max + self.c_max / 1.0 + 1e-9

    @invariant()
    def service_of_two_who_both_wait_differs_by_a_bound(self) -> None:
        """2 (Δ + c_max / w_min), over any interval in which both wait throughout."""
        waiting = sorted({job.user_id for job in self.queue.jobs.values()})
        pairs = set(combinations(waiting, 2))
        self.waiting_since = {pair: since for pair, since in self.waiting_since.items() if pair in pairs}
        for first, second in pairs:
            since = self.waiting_since.setdefault((first, second), dict(self.service))
            gained = [self.service[user] - since.get(user, 0.0) for user in (first, second)]
            assert abs(gained[0] - gained[1]) <= 2 * (POLICY.window * self.c_max + self.c_max) + 1e-9


QueueHistory.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestQueueHistory = QueueHistory.TestCase


def test_whoever_keeps_waiting_is_served_however_many_flood_the_queue() -> None:
    """Bounded overtaking: the wait of a polite person does not grow with a flooder's queue."""
    waits = []
    for flood in (10, 1_000):
        queue = ModelQueue()
        for _ in range(flood):
            queue.accept(1)
        polite = queue.accept(2)
        waits.append(served_one_by_one(queue).index(polite))
    assert waits[0] == waits[1] <= 2


def test_a_decision_among_a_thousand_people_agrees_with_the_plain_one() -> None:
    rng, queue = random.Random(7), ModelQueue()
    for user in range(1_000):
        key = rng.choice(sorted(KEYS))
        queue.accept(user, key=key, heavy=KEYS[key], cost_s=COSTS[key])
    queue.jobs = dict(list(queue.jobs.items())[:300])
    view = an_idle(loaded="z")
    assert pick(queue.snapshot(), view, [], TableRates(), POLICY) == naive_pick(queue.snapshot(), view, [], TableRates(), POLICY)
