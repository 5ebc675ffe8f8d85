"""How much one transaction of a long work takes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modules.utils.database.pieces import AIM_S, Pace


@given(st.floats(1e-6, 0.5), st.integers(1, 50), st.integers(50, 5_000))
def test_the_pace_finds_the_size_that_takes_as_long_as_is_aimed_at(each_s: float, least: int, most: int) -> None:
    pace = Pace(least=least, most=most)
    for _ in range(30):
        before = pace.size
        pace.note(before, before * each_s)
        assert least <= pace.size <= min(most, 2 * before)
    assert pace.size in (least, most) or pace.size * each_s <= AIM_S < 2 * (pace.size + 1) * each_s


def test_one_slow_moment_makes_the_next_piece_smaller_at_once() -> None:
    pace = Pace(least=1, most=1_000)
    for _ in range(12):
        pace.note(pace.size, 0.000_01)
    assert pace.size == 1_000
    pace.note(1_000, 10 * AIM_S)
    assert pace.size == 100


def test_a_small_last_piece_says_nothing_of_large_ones() -> None:
    pace = Pace(least=10, most=1_000)
    pace.note(3, AIM_S / 2)
    assert pace.size == 10
