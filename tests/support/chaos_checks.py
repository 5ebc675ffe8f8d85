"""What a storm's records must show: no GPU idle beside work, and nobody called away who was there. Pure, over plain intervals.

Instants are seconds since the epoch, intervals are pairs of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

Interval = tuple[float, float]

#: How long after its return a server may still be called lost, and left alone: what it forgot in a restart is looked for twice,
#: 5 s apart, and three such losses within 30 s make the program wait 2 to 4 s before it asks again.
FOUND_OUT_WITHIN_S = 15.0
_LOST = re.compile(r"^(\S+) \[warning\s*\] server_lost .*\bserver=(\S+)", re.MULTILINE)


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same moments as few intervals, in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def without(intervals: Iterable[Interval], taken: Iterable[Interval]) -> list[Interval]:
    """What is left of them outside `taken`."""
    left: list[Interval] = []
    holes = union(taken)
    for start, end in union(intervals):
        at = start
        for hole_start, hole_end in holes:
            if hole_end <= at or hole_start >= end:
                continue
            if hole_start > at:
                left.append((at, hole_start))
            at = max(at, hole_end)
        if at < end:
            left.append((at, end))
    return left


def both(first: Iterable[Interval], second: Iterable[Interval]) -> list[Interval]:
    """The moments in both."""
    others = union(second)
    return [
        (max(start, other_start), min(end, other_end))
        for start, end in union(first)
        for other_start, other_end in others
        if max(start, other_start) < min(end, other_end)
    ]


def longest(intervals: Iterable[Interval]) -> Interval:
    """The longest of them; an empty one where there is none."""
    return max(intervals, key=lambda one: one[1] - one[0], default=(0.0, 0.0))


def idle_beside_work(
    whole: Interval, *, busy: Iterable[Interval], unusable: Iterable[Interval], waiting: Iterable[Interval]
) -> Interval:
    """The longest stretch in which a GPU ran nothing and could have, while at least one job waited that nobody had taken yet."""
    return longest(both(without([whole], [*busy, *unusable]), waiting))


def called_away_while_there(log: str, down: Mapping[str, Sequence[Interval]]) -> list[str]:
    """The servers the program said it lost although they were up, by the times at which they were really down."""
    wrong = []
    for moment, server in _LOST.findall(log):
        at = datetime.fromisoformat(moment).astimezone(UTC).timestamp()
        if not any(start - 1.0 <= at <= end + FOUND_OUT_WITHIN_S for start, end in down.get(server, ())):
            wrong.append(f"{server} was called lost at {moment} and was there")
    return wrong
