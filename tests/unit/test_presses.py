"""Which presses are one gesture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import discord
import pytest

from modules.discord.presses import AFTER_CANCEL_S, DOUBLE_PRESS_S, Presses
from modules.discord.views.buttons import Act, Press
from tests.support.builders import SteeredClock, a_job_id

JOB = a_job_id()


@dataclass(frozen=True)
class WithId:
    """A person or a message."""

    id: int


@dataclass(frozen=True)
class Pressed:
    """What of an interaction is looked at."""

    user: WithId
    message: WithId | None


def an_interaction(user: int = 1, message: int | None = 1) -> discord.Interaction:
    return cast("discord.Interaction", Pressed(WithId(user), None if message is None else WithId(message)))


@dataclass(slots=True)
class Hand:
    """Presses buttons at moments of its own choosing."""

    clock: SteeredClock
    presses: Presses

    def press(self, act: Act, *, after_s: float = 0.0, user: int = 1, message: int | None = 1, argument: str = "") -> bool:
        """Whether it counted."""
        self.clock.advance(after_s)
        return not self.presses.is_repeated(an_interaction(user, message), Press(act=act, job_id=JOB, argument=argument))


@pytest.fixture
def hand() -> Hand:
    clock = SteeredClock()
    return Hand(clock, Presses(clock))


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
    hand.presses.end(an_interaction(message=1))
    assert hand.press(Act.REMIX, message=1)
    assert not hand.press(Act.REMIX, message=2)


def test_again_where_cancel_just_was_still_belongs_to_it(hand: Hand) -> None:
    assert hand.press(Act.CANCEL)
    assert not hand.press(Act.RETRY, after_s=AFTER_CANCEL_S - 0.1)
    assert hand.press(Act.RETRY, after_s=DOUBLE_PRESS_S)


def test_whoever_goes_on_pressing_cancel_is_given_the_whole_time_from_the_last_press(hand: Hand) -> None:
    assert hand.press(Act.CANCEL)
    assert hand.press(Act.CANCEL, after_s=AFTER_CANCEL_S - 0.1)
    assert not hand.press(Act.RETRY, after_s=AFTER_CANCEL_S - 0.1)


@pytest.mark.parametrize(("user", "message"), [(2, 1), (1, 2)], ids=["somebody else's", "in the list of /queue"])
def test_another_cancel_has_no_such_tail(hand: Hand, user: int, message: int) -> None:
    assert hand.press(Act.CANCEL, user=user, message=message)
    assert hand.press(Act.RETRY)
