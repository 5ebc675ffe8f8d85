"""Which presses are one gesture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import discord
import pytest

from modules.discord.presses import DOUBLE_PRESS, MOVING_UP, READING_TIME, Presses
from modules.discord.views.buttons import Act, Press
from modules.domain.jobs import JobId
from tests.support.builders import FIRST_MOMENT, a_job_id

JOB = a_job_id()
DOUBLE_PRESS_S, READING_S = DOUBLE_PRESS.total_seconds(), READING_TIME.total_seconds()


@dataclass(frozen=True)
class User:
    """Who pressed."""

    id: int


@dataclass(frozen=True)
class Message:
    """What was pressed on."""

    id: int
    created_at: datetime
    edited_at: datetime | None


@dataclass(frozen=True)
class Pressed:
    """What of an interaction is looked at."""

    user: User
    message: Message | None
    created_at: datetime


@dataclass(slots=True)
class Hand:
    """Presses buttons at moments of its own choosing."""

    presses: Presses
    now: datetime = FIRST_MOMENT
    edited_at: datetime | None = None

    def interaction(self, user: int, message: int | None) -> discord.Interaction:
        """As Discord stamps it."""
        pressed = None if message is None else Message(message, FIRST_MOMENT, self.edited_at)
        return cast("discord.Interaction", Pressed(User(user), pressed, self.now))

    def press(
        self, act: Act, *, after_s: float = 0.0, user: int = 1, message: int | None = 1, argument: str = "", job: JobId = JOB
    ) -> bool:
        """Whether it counted."""
        self.now += timedelta(seconds=after_s)
        press = Press(act=act, job_id=job, argument=argument)
        return not self.presses.is_repeated(self.interaction(user, message), press)

    def card_changes(self, after_s: float) -> None:
        """The message is edited."""
        self.now += timedelta(seconds=after_s)
        self.edited_at = self.now


@pytest.fixture
def hand() -> Hand:
    return Hand(Presses())


@pytest.mark.parametrize("act", sorted(set(Act) - {Act.HISTORY, Act.CANCEL}))
def test_twice_in_one_gesture_is_once_and_later_it_counts_again(hand: Hand, act: Act) -> None:
    assert hand.press(act)
    assert not hand.press(act, after_s=DOUBLE_PRESS_S / 2)
    assert hand.press(act, after_s=DOUBLE_PRESS_S)


@pytest.mark.parametrize("act", [Act.HISTORY, Act.CANCEL])
def test_turning_pages_and_cancelling_are_meant_each_time(hand: Hand, act: Act) -> None:
    assert hand.press(act)
    assert hand.press(act)


def test_another_person_message_or_picture_is_another_press(hand: Hand) -> None:
    assert hand.press(Act.VARY, argument="0")
    assert hand.press(Act.VARY, argument="1")
    assert hand.press(Act.VARY, argument="0", user=2)
    assert hand.press(Act.VARY, argument="0", message=2)


def test_a_menu_that_is_on_no_message_is_never_a_repetition(hand: Hand) -> None:
    assert hand.press(Act.EDIT, message=None)
    assert hand.press(Act.EDIT, message=None)


def test_a_window_that_came_back_ends_the_gesture_of_its_own_message_only(hand: Hand) -> None:
    for message in (1, 2):
        assert hand.press(Act.REMIX, message=message)
    hand.presses.end(hand.interaction(1, 1))
    assert hand.press(Act.REMIX, message=1)
    assert not hand.press(Act.REMIX, message=2)


@pytest.mark.parametrize("after_s", [0.1, 3.9, 30.0])
def test_again_where_cancel_just_was_still_belongs_to_it_however_late_the_card_changed(hand: Hand, after_s: float) -> None:
    assert hand.press(Act.CANCEL)
    hand.card_changes(after_s)
    assert not hand.press(Act.RETRY, after_s=READING_S - 0.1)
    assert hand.press(Act.RETRY, after_s=DOUBLE_PRESS_S)


def test_a_card_that_was_posted_anew_counts_from_then(hand: Hand) -> None:
    assert hand.press(Act.CANCEL)
    assert not hand.press(Act.RETRY, after_s=READING_S - 0.1)


def test_whoever_took_the_time_to_read_means_it(hand: Hand) -> None:
    assert hand.press(Act.CANCEL)
    hand.card_changes(0.1)
    assert hand.press(Act.RETRY, after_s=READING_S)


@pytest.mark.parametrize(("user", "message"), [(2, 1), (1, 2)], ids=["somebody else's", "in the list of /queue"])
def test_another_cancel_has_no_such_tail(hand: Hand, user: int, message: int) -> None:
    assert hand.press(Act.CANCEL, user=user, message=message)
    hand.card_changes(0.1)
    assert hand.press(Act.RETRY)


def test_the_next_jobs_cancel_that_moved_up_in_the_list_is_not_hit_by_the_same_gesture(hand: Hand) -> None:
    first, second = a_job_id(), a_job_id()
    assert hand.press(Act.CANCEL, job=first)
    hand.card_changes(0.3)
    assert not hand.press(Act.CANCEL, job=second, after_s=MOVING_UP.total_seconds() / 2)
    assert hand.press(Act.CANCEL, job=second, after_s=MOVING_UP.total_seconds())


def test_two_jobs_can_be_cancelled_one_right_after_the_other_while_the_list_stands(hand: Hand) -> None:
    hand.now += timedelta(minutes=1)
    assert hand.press(Act.CANCEL, job=a_job_id())
    assert hand.press(Act.CANCEL, job=a_job_id(), after_s=0.2)
