"""Nothing lost, nothing sent twice, nothing drawn without need, wherever the program dies. The whole of it: `make soak`."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from tests.support.world import Trouble, mail
from tests.support.world.checker import (
    COST_S,
    DEATHS,
    RECOVERY_ACTS,
    Findings,
    check,
    departure,
    evening,
    pair_plans,
    single_plans,
)

OTHERS = [trouble for trouble in Trouble if trouble not in DEATHS]


@pytest.fixture(scope="module")
def acts() -> int:
    """How many acts a calm evening takes."""
    return evening({}, Findings())


def test_a_death_before_or_after_any_act_costs_nothing(acts: int) -> None:
    findings = check(single_plans(acts, DEATHS))
    print(findings)
    assert findings.deaths == findings.runs == 2 * acts
    assert not findings.wrongs, findings.first_wrong


def test_other_troubles_at_any_act_cost_nothing_either(acts: int) -> None:
    findings = check(itertools.islice(single_plans(acts, OTHERS), 0, None, 3))
    print(findings)
    assert not findings.wrongs, findings.first_wrong


def test_a_second_death_often_in_the_middle_of_the_recovery_costs_nothing(acts: int) -> None:
    findings = check(itertools.islice(pair_plans(range(1, acts + RECOVERY_ACTS + 1)), 3, None, 97))
    print(findings)
    assert findings.deaths > findings.runs
    assert not findings.wrongs, findings.first_wrong


def test_who_leaves_a_batch_ahead_pays_exactly_if_it_ran_whatever_goes_wrong_on_the_way() -> None:
    calm = departure({})
    assert (calm.has_run, calm.given_back) == (False, COST_S)
    single = ({number: (trouble,)} for number, trouble in itertools.product(calm.acts, Trouble))
    during_recovery = range(calm.acts.start, calm.acts.stop + RECOVERY_ACTS)
    double = itertools.islice(pair_plans(during_recovery), 0, None, 9)
    played = {tuple(plan.items()): departure(plan) for plan in (*single, *double)}
    print(f"{len(played)} runs, it ran all the same in {sum(came.has_run for came in played.values())}")
    assert not [plan for plan, came in played.items() if came.given_back != (0.0 if came.has_run else COST_S)]
    assert not [plan for plan, came in played.items() if came.other_paid != COST_S]


def test_the_checker_sees_what_a_forgetful_discord_would_do(acts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nonces and without history a death after a send must end in a second message, or the check proves nothing."""
    monkeypatch.setattr(mail, "NONCE_LIFE", timedelta(seconds=-1))
    monkeypatch.setattr(mail.PostPort, "find_ours", _finds_nothing)
    findings = check(single_plans(acts, [Trouble.DIES_AFTER]))
    assert set(findings.wrongs) == {"posted twice"}


async def _finds_nothing(*_: object) -> None:
    return None
