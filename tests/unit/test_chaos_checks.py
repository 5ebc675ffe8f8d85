"""The storm's own checks would notice what they are for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.chaos_checks import both, called_away_while_there, idle_beside_work, longest, union, without

intervals = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: (min(pair), max(pair) + 1)), max_size=6)
MOMENT = "2026-01-05T10:00:00.000000Z"
AT = 1767607200.0


def moments(found: list[tuple[float, float]]) -> set[int]:
    return {second for start, end in found for second in range(int(start), int(end))}


@given(intervals, intervals)
def test_intervals_are_sets_of_moments(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> None:
    assert moments(union(first)) == moments(first)
    assert moments(without(first, second)) == moments(first) - moments(second)
    assert moments(both(first, second)) == moments(first) & moments(second)


def test_an_idle_gpu_beside_a_waiting_job_is_seen_and_a_busy_or_absent_one_is_not() -> None:
    whole, waiting = (0.0, 100.0), [(20.0, 40.0)]
    assert idle_beside_work(whole, busy=[], unusable=[], waiting=waiting) == (20.0, 40.0)
    assert idle_beside_work(whole, busy=[(25.0, 38.0)], unusable=[], waiting=waiting) == (20.0, 25.0)
    assert idle_beside_work(whole, busy=[(20.0, 30.0)], unusable=[(35.0, 90.0)], waiting=waiting) == (30.0, 35.0)
    assert idle_beside_work(whole, busy=[], unusable=[], waiting=[]) == (0.0, 0.0)
    assert longest([]) == (0.0, 0.0)


def test_a_server_called_lost_while_it_was_there_is_seen() -> None:
    line = f"{MOMENT} [warning  ] server_lost                    answer=None error=server_broken server=127.0.0.1:8188\n"
    assert called_away_while_there(line, {"127.0.0.1:8188": [(AT - 3.0, AT + 1.0)]}) == []
    assert len(called_away_while_there(line, {"127.0.0.1:8188": [(AT - 60.0, AT - 50.0)]})) == 1
    assert len(called_away_while_there(line, {"127.0.0.1:9999": [(AT - 3.0, AT + 1.0)]})) == 1
