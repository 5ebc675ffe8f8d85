"""What people who wait are told: never an earlier moment twice. Over any fleet, with overdue runs and other people's prompts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings

from modules.domain.jobs import JobId, ServerName
from modules.queue_manager.forecast import Forecast
from modules.queue_manager.promises import Promises
from modules.queue_manager.scheduler import Policy
from tests.support.builders import a_job_id
from tests.support.fleet_model import NEVER, FleetModel, ModelServer
from tests.support.queue_model import ModelQueue, TableRates
from tests.unit.test_liveness import fleets

ONE = ServerName("one")


@dataclass(slots=True)
class _Heard:
    """What one person heard since the queue before them last moved ahead."""

    ahead: int
    first: float
    last: float


@settings(max_examples=100, deadline=None)
@given(fleet=fleets())
def test_no_moment_is_told_twice_unless_the_queue_moved_ahead(fleet: FleetModel) -> None:
    heard: dict[JobId, _Heard] = {}
    for _ in range(150):
        fleet.tick()
        flying = sum(len(server.running) for server in fleet.servers)
        told = fleet.told()
        now_heard = {}
        for job_id, one in told.items():
            moment = fleet.now + one.ends_in_s
            ahead = flying + sum(other.position < one.position for other in told.values())
            before = heard.get(job_id)
            if before is None or ahead < before.ahead:
                now_heard[job_id] = _Heard(ahead, moment, moment)
                continue
            assert moment >= before.last - 1e-6, "an earlier moment than before"
            overdue_s = fleet.now - before.first
            assert one.ends_in_s >= overdue_s - 1e-6, "the same hope again, although it was in vain"
            now_heard[job_id] = _Heard(ahead, before.first, moment)
            assert one.starts_in_s <= one.ends_in_s
        heard = now_heard


def test_who_waits_behind_a_batch_that_never_ends_hears_few_moments_each_twice_as_far() -> None:
    queue = ModelQueue()
    for _ in range(2):
        queue.accept(1, cost_s=10.0)
    server = ModelServer(name=ONE, loaded="flux", overrun=NEVER)
    fleet = FleetModel(queue, [server], TableRates(caps={ONE: 1}), Policy())
    broken, told_moment = 0, NEVER
    while fleet.now < 3600:
        fleet.tick()
        [one] = fleet.told().values()
        if fleet.now > told_moment:
            broken += 1
            told_moment = NEVER
        if told_moment == NEVER:
            told_moment = fleet.now + one.ends_in_s
    assert broken <= 8, "an hour is ten, doubled eight times and a half"


@pytest.mark.parametrize("what", ["ahead", "server"])
def test_an_earlier_moment_is_told_when_the_queue_really_moved_ahead(what: str) -> None:
    promises, job_id = Promises(), a_job_id()
    far, near = (Forecast(position=2, starts_in_s=seconds, ends_in_s=seconds + 5.0) for seconds in (60.0, 20.0))
    first = promises.kept({job_id: far}, now=0.0, in_flight=4, servers=[ONE])[job_id]
    assert first == far
    again = promises.kept({job_id: near}, now=10.0, in_flight=4, servers=[ONE])[job_id]
    assert (again.starts_in_s, again.ends_in_s) == (50.0, 55.0)
    moved = (
        promises.kept({job_id: near}, now=20.0, in_flight=3, servers=[ONE])
        if what == "ahead"
        else promises.kept({job_id: near}, now=20.0, in_flight=4, servers=[ONE, ServerName("two")])
    )
    assert moved[job_id] == near
