"""Breakers, learned batch sizes, and the budget for retries."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from modules.queue_manager.health import (
    CLEAN_BATCHES_TO_GROW,
    FAILURE_WINDOW_S,
    LONGEST_PROBE_S,
    RETRY_RESERVE,
    RETRY_SHARE,
    RETRY_TRICKLE_S,
    Breaker,
    BreakerState,
    LearnedCaps,
    RetryBudget,
    Tally,
)
from tests.support.builders import a_job_id


def a_proven_breaker() -> Breaker:
    breaker = Breaker()
    breaker.succeeded()
    return breaker


def test_three_failures_in_half_a_minute_open_a_breaker_and_two_do_not() -> None:
    breaker = a_proven_breaker()
    assert [breaker.failed(at) for at in (0.0, 10.0, 20.0)] == [False, False, True]
    slow = a_proven_breaker()
    assert [slow.failed(at) for at in (0.0, 20.0, FAILURE_WINDOW_S + 1)] == [False, False, False]


def test_a_server_on_probation_has_no_second_chance_and_a_good_probe_gives_it_one() -> None:
    breaker = Breaker()
    assert breaker.failed(0.0)
    breaker.probed()
    assert breaker.failed(1.0), "half open: the first failure opens it again"
    breaker.probed()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_a_probe_of_a_proven_server_takes_nothing_from_it() -> None:
    breaker = a_proven_breaker()
    breaker.probed()
    assert breaker.state is BreakerState.CLOSED


def test_pauses_between_probes_double_up_to_two_minutes_and_start_anew_after_success() -> None:
    breaker, rng = Breaker(), random.Random(1)
    pauses = [breaker.probe_in_s(rng) for _ in range(40)]
    assert all(2.0**n <= pause <= 2.0 ** (n + 1) for n, pause in enumerate(pauses[:6]))
    assert all(LONGEST_PROBE_S / 2 <= pause <= LONGEST_PROBE_S for pause in pauses[7:])
    breaker.succeeded()
    assert breaker.probe_in_s(rng) <= 2.0


def test_caps_halve_at_once_and_grow_by_one_after_many_clean_batches_never_above_what_is_allowed() -> None:
    caps = LearnedCaps()
    assert caps.limit("flux", 8) == 8
    assert caps.ran_out_of_memory("flux", 8) == 4
    assert caps.ran_out_of_memory("flux", 4) == 2
    assert (caps.limit("flux", 8), caps.limit("other", 8), caps.limit("flux", 1)) == (2, 8, 1)
    for _ in range(CLEAN_BATCHES_TO_GROW):
        caps.ran_clean("flux")
    assert (caps.limit("flux", 8), caps.known()) == (3, {"flux": 3})
    assert caps.ran_out_of_memory("flux", 1) == 1
    assert caps.ran_out_of_memory("flux", 4) == 1, "one job of four pictures, larger than any batch, raises no cap"


@given(steps=st.lists(st.tuples(st.booleans(), st.floats(0, 20)), min_size=1, max_size=200))
def test_retries_never_exceed_their_share_of_what_is_dispatched(steps: list[tuple[bool, float]]) -> None:
    budget, now, first, retries = RetryBudget(0.0), 0.0, 0, 0
    for is_retry, pause in steps:
        now += pause
        job_id = a_job_id()
        if is_retry:
            budget.is_owed(job_id)
        if job_id in budget.held_back(now):
            budget.is_over(job_id)
            continue
        budget.dispatched([job_id])
        retries, first = retries + is_retry, first + (not is_retry)
    assert retries <= RETRY_RESERVE + RETRY_SHARE * first + now / RETRY_TRICKLE_S + 1e-6


def test_a_retry_that_was_held_back_has_its_turn_in_time() -> None:
    budget = RetryBudget(0.0)
    jobs = [a_job_id() for _ in range(12)]
    for job_id in jobs:
        budget.is_owed(job_id)
    budget.dispatched(jobs[:11])
    assert list(budget.held_back(0.0)) == [jobs[11]]
    assert list(budget.held_back(RETRY_TRICKLE_S)) == [jobs[11]]
    assert list(budget.held_back(2 * RETRY_TRICKLE_S)) == []


def test_the_tally_forgets_after_a_minute() -> None:
    tally = Tally()
    tally.add(0.0, 4)
    tally.add(50.0, 2)
    assert (tally.last_minute(59.0), tally.last_minute(61.0), tally.last_minute(200.0)) == (6, 2, 0)
