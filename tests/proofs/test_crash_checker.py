"""Nothing lost, nothing sent twice, nothing drawn without need, wherever the program dies. The whole of it: `make soak`."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from tests.support.world import Trouble, mail
from tests.support.world.checker import DEATHS, RECOVERY_ACTS, Findings, check, evening, pair_plans, single_plans

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
    findings = check(itertools.islice(pair_plans(acts + RECOVERY_ACTS), 3, None, 97))
    print(findings)
    assert findings.deaths > findings.runs
    assert not findings.wrongs, findings.first_wrong


def test_the_checker_sees_what_a_forgetful_discord_would_do(acts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nonces and without history a death after a send must end in a second message, or the check proves nothing."""
    monkeypatch.setattr(mail, "NONCE_LIFE", timedelta(seconds=-1))
    monkeypatch.setattr(mail.PostPort, "find_ours", _finds_nothing)
    findings = check(single_plans(acts, [Trouble.DIES_AFTER]))
    assert set(findings.wrongs) == {"posted twice"}


async def _finds_nothing(*_: object) -> None:
    return None
