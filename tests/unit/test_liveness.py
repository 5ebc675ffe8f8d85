"""Whatever servers refuse, lack or do not end: no job waits for long beside an idle server that would take it.

The bound and its reasons: docs/scheduling.md, "No job waits beside an idle server".
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.domain.jobs import ServerName
from modules.queue_manager.remaining import FOREIGN_PROMPT_S, foreign_s, remaining_s
from modules.queue_manager.scheduler import Policy, ServerView, pick
from tests.support.fleet_model import NEVER, TICK_S, FleetModel, ModelServer
from tests.support.queue_model import ModelQueue, TableRates

ONE, TWO = ServerName("one"), ServerName("two")
POLICY = Policy()
KEYS = {"flux-a": "flux", "flux-b": "flux", "z": "z", "sdxl": "sdxl"}
COSTS = {"flux-a": 8.0, "flux-b": 5.0, "z": 3.0, "sdxl": 4.0}


def test_a_job_that_the_warm_server_refuses_is_not_left_to_it() -> None:
    queue = ModelQueue()
    huge = queue.accept(1, key="flux")
    cold = ServerView(name=ONE, loaded="sdxl")
    warm = ServerView(name=TWO, loaded="flux")
    assert pick(queue.snapshot(), cold, [warm], TableRates(), POLICY) is None
    refusing = ServerView(name=TWO, loaded="flux", refused={huge.id})
    assert pick(queue.snapshot(), refusing, [cold], TableRates(), POLICY) is None
    choice = pick(queue.snapshot(), cold, [refusing], TableRates(), POLICY)
    assert choice is not None
    assert choice.job_ids == (huge.id,)


def test_a_refused_job_behind_one_that_is_left_to_the_warm_server_is_taken_all_the_same() -> None:
    queue = ModelQueue()
    queue.accept(1, key="flux")
    huge = queue.accept(2, key="flux")
    refusing = ServerView(name=TWO, loaded="flux", refused={huge.id})
    choice = pick(queue.snapshot(), ServerView(name=ONE, loaded="sdxl"), [refusing], TableRates(), POLICY)
    assert choice is not None
    assert huge.id in choice.job_ids


def test_a_server_that_is_busy_with_the_model_in_memory_leaves_the_job_to_an_idle_one_that_ends_it_sooner() -> None:
    queue = ModelQueue()
    queue.accept(1, key="flux")
    idle = ServerView(name=TWO, loaded="sdxl")  # 10 s to load, 1 s to draw
    overdue = ServerView(name=ONE, loaded="flux", free_in_s=10.5)
    assert pick(queue.snapshot(), overdue, [idle], TableRates(), POLICY) is None
    soon = ServerView(name=ONE, loaded="flux", free_in_s=9.5)
    assert pick(queue.snapshot(), soon, [idle], TableRates(), POLICY) is not None


def test_what_is_overdue_is_expected_to_take_as_long_again() -> None:
    assert [remaining_s(due) for due in (30.0, 2.0, 0.0, -1.0, -60.0)] == [30.0, 2.0, 0.0, 1.0, 60.0]


def test_prompts_of_others_count_as_a_guess_each_until_they_were_seen_to_take_longer() -> None:
    assert foreign_s(0, 100.0) == 0.0
    assert foreign_s(2, 3.0) == 2 * FOREIGN_PROMPT_S
    assert foreign_s(1, 90.0) == 90.0


# --- any fleet ------------------------------------------------------------------------------------------------------------


@st.composite
def fleets(draw: st.DrawFn) -> FleetModel:
    """One to four servers with any files, batch sizes and speeds; any of them may be away, overrun, hang, or serve others."""
    queue, names = ModelQueue(), [ServerName(f"gpu-{number}") for number in range(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(1, 12))):
        key, rows = draw(st.sampled_from(sorted(KEYS))), draw(st.integers(1, 2))
        queue.accept(draw(st.integers(1, 5)), key=key, heavy=KEYS[key], cost_s=COSTS[key] * rows, rows=rows)
    jobs = sorted(queue.jobs)
    servers = [
        ModelServer(
            name=name,
            loaded=draw(st.sampled_from([None, "flux", "z", "sdxl"])),
            is_up=draw(st.sampled_from([True, True, True, False])),
            refused=draw(st.frozensets(st.sampled_from(jobs))),
            overrun=draw(st.sampled_from([0.5, 1.0, 1.1, 5.0, 40.0, NEVER])),
            foreign=draw(st.sampled_from([0, 0, 0, 1, 3])),
            foreign_until=draw(st.sampled_from([5.0, 60.0, NEVER])),
        )
        for name in names
    ]
    rates = TableRates(
        caps={name: draw(st.integers(1, 4)) for name in names},
        speeds={name: draw(st.sampled_from([0.5, 1.0, 2.0])) for name in names},
        runs={name: frozenset(draw(st.sets(st.sampled_from(sorted(KEYS))))) for name in names},
    )
    return FleetModel(queue, servers, rates, POLICY)


@settings(max_examples=100, deadline=None)
@given(fleet=fleets())
def test_while_a_job_waits_that_an_idle_server_would_take_batches_go_out_within_the_bound(fleet: FleetModel) -> None:
    longest_s, wanted_since = fleet.longest_s(), dict[ServerName, float]()
    # A server is counted on from H before its run is due to H after it; of several that may come one after the other.
    bound_s = 2 * longest_s * max(1, len(fleet.servers) - 1) + TICK_S
    while fleet.now < 3 * bound_s and fleet.queue.jobs:
        fleet.tick()
        for server in fleet.servers:
            if not fleet.is_wanted(server):
                wanted_since.pop(server.name, None)
                continue
            since = max(wanted_since.setdefault(server.name, fleet.now), fleet.dispatched_at)
            assert fleet.now - since <= bound_s


@settings(max_examples=100, deadline=None)
@given(fleet=fleets())
def test_of_idle_servers_one_always_takes_what_any_of_them_would_take(fleet: FleetModel) -> None:
    """Nobody is busy, so nobody is worth waiting for."""
    for server in fleet.servers:
        server.foreign = 0
    up = [server for server in fleet.servers if server.is_up]
    views = {server.name: server.view(0.0) for server in up}
    snapshot = fleet.queue.snapshot()
    takers = [
        name
        for name, view in views.items()
        if pick(snapshot, view, [one for one in views.values() if one is not view], fleet.rates, POLICY) is not None
    ]
    is_wanted = any(fleet.would_take(server, job) for server in up for job in fleet.queue.jobs.values())
    assert bool(takers) == is_wanted


@pytest.mark.parametrize("overrun", [5.0, NEVER])
def test_a_job_is_taken_from_beside_an_overdue_server_by_the_idle_one_within_twice_a_cold_batch(overrun: float) -> None:
    """For two servers the bound is 2 H: the overdue one has the model, the idle one would have to load it."""
    queue = ModelQueue()
    for _ in range(2):
        queue.accept(1, key="flux", cost_s=8.0)
    rates = TableRates(caps={ONE: 1, TWO: 1}, runs={ONE: frozenset({"flux"}), TWO: frozenset({"flux", "sdxl"})})
    fleet = FleetModel(
        queue, [ModelServer(name=ONE, loaded="flux", overrun=overrun), ModelServer(name=TWO, loaded="sdxl")], rates, POLICY
    )
    bound_s = 2 * fleet.longest_s() + TICK_S
    while queue.jobs and fleet.now < bound_s:
        fleet.tick()
    assert [name for _, name in sorted(fleet.taken.values())] == [ONE, TWO]
