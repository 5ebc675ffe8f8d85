"""Nothing lost, nothing sent twice, nothing drawn without need, wherever the program dies. The whole of it: `make soak`."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from sqlalchemy import bindparam, update
from sqlalchemy.sql.dml import ReturningUpdate

from modules.domain.jobs import JobId, JobState
from modules.utils.database import settling, steps
from modules.utils.database.tables import job
from tests.support.world import Trouble, mail
from tests.support.world.checker import (
    COST_S,
    DEATHS,
    NONCES_EXPIRE,
    RECOVERY_ACTS,
    SPLIT_ROLES,
    USUAL,
    Findings,
    calm_acts,
    check,
    departure,
    evening,
    pair_plans,
    single_plans,
)

OTHERS = [trouble for trouble in Trouble if trouble not in (*DEATHS, Trouble.GUILD_GONE)]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """What the program logs in thousands of lives is read by nobody, and costs more than the lives."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


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
    findings = check(itertools.islice(single_plans(acts, OTHERS), 0, None, 4))
    print(findings)
    assert not findings.wrongs, findings.first_wrong


def test_a_second_death_often_in_the_middle_of_the_recovery_costs_nothing(acts: int) -> None:
    findings = check(itertools.islice(pair_plans(range(1, acts + RECOVERY_ACTS + 1)), 3, None, 193))
    print(findings)
    assert findings.deaths > findings.runs
    assert not findings.wrongs, findings.first_wrong


def test_who_leaves_a_batch_ahead_pays_exactly_if_it_ran_whatever_goes_wrong_on_the_way() -> None:
    calm = departure({})
    assert (calm.has_run, calm.given_back) == (False, COST_S)
    single = ({number: (trouble,)} for number, trouble in itertools.product(calm.acts, Trouble))
    during_recovery = range(calm.acts.start, calm.acts.stop + RECOVERY_ACTS)
    double = itertools.islice(pair_plans(during_recovery), 0, None, 19)
    played = {tuple(plan.items()): departure(plan) for plan in (*single, *double)}
    print(f"{len(played)} runs, it ran all the same in {sum(came.has_run for came in played.values())}")
    assert not [plan for plan, came in played.items() if came.given_back != (0.0 if came.has_run else COST_S)]
    assert not [plan for plan, came in played.items() if came.other_paid != COST_S]


def test_with_nonces_that_expired_what_was_posted_is_found_by_looking(acts: int) -> None:
    """Whoever is away stays away for longer than Discord knows a nonce: only the search keeps a result from being repeated."""
    findings = check(itertools.islice(single_plans(acts, (*DEATHS, Trouble.ANSWER_LOST)), 0, None, 7), NONCES_EXPIRE)
    lost_answers = ({at: (Trouble.ANSWER_LOST, Trouble.DISCORD_AWAY)} for at in range(1, acts + 1, 7))
    outages = check(lost_answers, NONCES_EXPIRE)
    print(findings, outages, sep="\n")
    assert not findings.wrongs, findings.first_wrong
    assert not outages.wrongs, outages.first_wrong


def test_a_guild_that_is_gone_for_now_costs_nothing_at_any_act(acts: int) -> None:
    """Neither a second channel nor a private message nor an end that says "undeliverable": it is waited for."""
    findings = check(itertools.islice(single_plans(acts, [Trouble.GUILD_GONE]), 0, None, 2))
    print(findings)
    assert not findings.wrongs, findings.first_wrong
    assert not findings.jobs[JobState.UNDELIVERABLE]


def test_with_the_courier_as_a_process_of_its_own_each_may_die_alone() -> None:
    split_acts = evening({}, Findings(), SPLIT_ROLES)
    findings = check(itertools.islice(single_plans(split_acts, (*DEATHS, Trouble.GUILD_GONE)), 0, None, 7), SPLIT_ROLES)
    print(findings)
    assert findings.deaths >= split_acts // 4
    assert not findings.wrongs, findings.first_wrong


# --- the checker is checked: with a means of safety taken out of the program it must report what then goes wrong -----------


def test_without_the_search_the_checker_finds_second_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emptied, in runs whose nonces have expired: nonces that Discord still knows would cover it."""
    monkeypatch.setattr(mail.PostPort, "find_ours", _finds_nothing)
    sends = [number for number, name in enumerate(calm_acts(), start=1) if name == "discord send"]
    findings = check(({number: (Trouble.DIES_AFTER,)} for number in sends), NONCES_EXPIRE)
    print(findings)
    assert findings.wrongs["posted twice"]


def test_without_requeueing_the_checker_finds_lost_jobs(acts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "requeue", _requeues_nothing)
    findings = check(itertools.islice(single_plans(acts, [Trouble.COMFY_RESTARTS]), 0, None, 4), replace(USUAL, long_s=900.0))
    print(findings)
    assert findings.wrongs


def test_without_compare_and_set_the_checker_finds_what_two_writers_do(acts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_step", _step_from_anywhere)
    findings = check(itertools.islice(single_plans(acts, DEATHS), 0, None, 20), replace(USUAL, long_s=900.0))
    print(findings)
    assert findings.wrongs["posted, not delivered"]


async def _finds_nothing(*_: object) -> None:
    return None


def _requeues_nothing(*_: object, **__: object) -> list[JobId]:
    return []


def _step_from_anywhere(later: JobState, sources: object, *, is_of_attempt: bool) -> ReturningUpdate[Any]:
    """As `steps._step`, whatever state and attempt the job is in."""
    return update(job).where(job.c.id == bindparam("this_job")).values(state=later).returning(job)
