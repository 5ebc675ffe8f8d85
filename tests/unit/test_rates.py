"""What is learned of servers' speed, and what is said before anything is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.domain.jobs import ServerName
from modules.queue_manager.first_steps import FirstSteps
from modules.queue_manager.rates import FIRST_SWITCH_S, MAX_KINDS, Calibration, LearnedRates
from tests.support.builders import a_waiting_job

ONE, TWO = ServerName("one"), ServerName("two")


def some_rates() -> LearnedRates:
    return LearnedRates(can_run=lambda _server, _key: True, cap=lambda _server, _key: 4)


def learn(
    rates: LearnedRates,
    worked_s: float,
    *,
    rows: int = 1,
    key: str = "k",
    heavy: str = "h",
    was_loaded: bool = True,
    loading_s: float | None = None,
    server: ServerName = ONE,
) -> None:
    job = a_waiting_job(1, seq=1, exact_key=key, heavy_key=heavy, cost_s=4.0)
    rates.learn(server, job=job, rows=rows, worked_s=worked_s, was_loaded=was_loaded, reference_s=4.0 * rows, loading_s=loading_s)


def test_before_any_measurement_the_cost_and_a_guess_must_do() -> None:
    rates, job = some_rates(), a_waiting_job(1, seq=1, cost_s=4.0)
    assert rates.batch_s(ONE, job, 3) == pytest.approx(12.0)
    assert rates.switch_s(ONE, "flux") == FIRST_SWITCH_S
    assert rates.lead_s(ONE) == 0.0


def test_what_was_measured_for_just_this_counts_then_its_line_then_the_servers_speed() -> None:
    rates = some_rates()
    learn(rates, 2.0, rows=1, key="k")
    learn(rates, 3.0, rows=2, key="k")
    known = a_waiting_job(1, seq=1, exact_key="k", cost_s=4.0)
    assert rates.batch_s(ONE, known, 2) == pytest.approx(3.0)
    assert rates.batch_s(ONE, known, 4) == pytest.approx(5.0), "one more picture is one second more"
    unknown = a_waiting_job(1, seq=1, exact_key="new", cost_s=4.0)
    assert 1.0 < rates.batch_s(ONE, unknown, 1) < 2.5, "a fast server is expected to be fast with new work, too"


def test_loading_is_learned_apart_from_drawing() -> None:
    rates = some_rates()
    learn(rates, 2.0)
    learn(rates, 9.0, was_loaded=False)
    assert rates.switch_s(ONE, "h") == pytest.approx(7.0)
    assert rates.switch_s(ONE, "another") == pytest.approx(7.0), "the mean of what is known here"
    assert rates.batch_s(ONE, a_waiting_job(1, seq=1, exact_key="k", cost_s=4.0), 1) == pytest.approx(2.0)


@pytest.mark.parametrize("worked_s", [14.0, 28.0, 7.0])
def test_a_first_run_that_loaded_teaches_both_until_each_is_measured(worked_s: float) -> None:
    """4 s were expected for the picture and 10 s for loading; what came instead is shared out as it was expected."""
    rates, job = some_rates(), a_waiting_job(1, seq=1, exact_key="k", heavy_key="h", cost_s=4.0)
    learn(rates, worked_s, was_loaded=False)
    assert rates.batch_s(ONE, job, 1) == pytest.approx(worked_s * 4 / 14)
    assert rates.switch_s(ONE, "h") == pytest.approx(worked_s * 10 / 14)
    learn(rates, 6.0)
    assert rates.batch_s(ONE, job, 1) == pytest.approx(6.0)
    assert rates.batch_s(ONE, a_waiting_job(1, seq=1, exact_key="new", cost_s=2.0), 1) == pytest.approx(3.0)
    learn(rates, 8.0, was_loaded=False)
    assert rates.switch_s(ONE, "h") == pytest.approx(2.0), "measured now: the guess has gone"


def test_loading_that_was_seen_needs_no_guess() -> None:
    rates, job = some_rates(), a_waiting_job(1, seq=1, exact_key="k", heavy_key="h", cost_s=4.0)
    learn(rates, 11.0, was_loaded=False, loading_s=6.0)
    assert rates.switch_s(ONE, "h") == pytest.approx(6.0)
    assert rates.batch_s(ONE, job, 1) == pytest.approx(5.0)
    learn(rates, 9.0, heavy="other", key="never alone", was_loaded=False, loading_s=2.0)
    assert rates.switch_s(ONE, "other") == pytest.approx(2.0)


@given(st.floats(0.0, 60.0), st.floats(0.01, 20.0), st.integers(1, 5), st.integers(1, 5))
def test_the_first_steps_tell_how_long_loading_took(loading_s: float, step_s: float, first: int, further: int) -> None:
    """Whichever steps were heard of."""
    steps, began_at = FirstSteps(), 100.0
    for step in (first, first + further):
        assert steps.loading_s is None
        steps.note(began_at, began_at + loading_s + step * step_s, step)
    assert steps.loading_s == pytest.approx(loading_s, abs=1e-6)
    steps.note(began_at, began_at + 1_000.0, first + further + 1)
    assert steps.loading_s == pytest.approx(loading_s, abs=1e-6), "a pause later on is none"


def test_steps_of_another_sampler_and_a_single_step_tell_nothing() -> None:
    steps = FirstSteps()
    for at in (3.0, 5.0, 8.0):
        steps.note(0.0, at, 1)
    assert steps.loading_s is None


def test_a_server_that_has_shown_nothing_is_taken_for_one_like_the_others() -> None:
    rates = some_rates()
    learn(rates, 6.0)
    learn(rates, 13.0, was_loaded=False)
    assert rates.batch_s(TWO, a_waiting_job(1, seq=1, exact_key="k", cost_s=4.0), 1) == pytest.approx(6.0)
    assert rates.batch_s(TWO, a_waiting_job(1, seq=1, exact_key="new", cost_s=2.0), 1) == pytest.approx(3.0)
    assert rates.switch_s(TWO, "h") == pytest.approx(7.0)
    assert rates.switch_s(TWO, "another") == pytest.approx(7.0)


def test_work_that_only_another_server_has_done_is_scaled_by_how_fast_each_is() -> None:
    """One needs 1.5 s for a second of cost, two needs 3: what takes one 6 s takes two 12 s."""
    rates = some_rates()
    learn(rates, 6.0, key="k")
    learn(rates, 12.0, key="other", server=TWO)
    assert rates.batch_s(TWO, a_waiting_job(1, seq=1, exact_key="k", cost_s=4.0), 1) == pytest.approx(12.0)


@given(st.dictionaries(st.integers(1, 8), st.floats(0.1, 100.0), min_size=1), st.integers(1, 8))
def test_more_pictures_of_a_batch_never_take_less_than_nothing_nor_more_than_in_turn(known: dict[int, float], rows: int) -> None:
    rates, job = some_rates(), a_waiting_job(1, seq=1, exact_key="k", cost_s=4.0)
    for count, seconds in known.items():
        learn(rates, seconds, rows=count)
    expected_s = rates.batch_s(ONE, job, rows)
    each = [seconds / count for count, seconds in known.items()]
    if rows in known:
        assert expected_s == pytest.approx(known[rows])
    else:
        assert expected_s > 0
        if rows > max(known):
            assert known[max(known)] - 1e-9 <= expected_s <= rows * max(each) + 1e-9


def test_the_lead_grows_with_how_wrong_predictions_are() -> None:
    rates = some_rates()
    for worked_s in (4.0, 4.0, 10.0, 4.0, 4.0):
        learn(rates, worked_s)
    assert rates.lead_s(ONE) > 3.0


def test_kinds_of_work_that_come_and_go_do_not_pile_up() -> None:
    rates = some_rates()
    for number in range(MAX_KINDS + 50):
        learn(rates, 2.0, key=f"k{number}")
    assert len(rates._servers[ONE].batches) == MAX_KINDS


@given(st.lists(st.floats(0.5, 2.0), min_size=40, max_size=300))
def test_calibration_covers_what_it_promises(ratios: list[float]) -> None:
    calibration = Calibration()
    for ratio in ratios:
        calibration.add(10.0, 10.0 * ratio)
    safe = calibration.quantile(0.9)
    assert sum(ratio <= safe + 1e-9 for ratio in ratios) >= 0.9 * len(ratios)
    assert calibration.quantile(0.5) <= safe


def test_a_forecast_of_less_than_a_second_teaches_nothing() -> None:
    calibration = Calibration()
    for _ in range(50):
        calibration.add(0.2, 5.0)
    assert calibration.quantile(0.5) == 1.0
