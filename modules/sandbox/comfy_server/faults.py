"""Faults on request: what goes wrong, when, and how often.

`POST /sandbox/faults` takes `{"kind": ..., "times": 1, "match": {...}, ...details}`. `times` null means until cleared.
All given conditions of `match` must hold; what a fault does not know about itself (a path, when it strikes in the
executor) is ignored there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    # while a prompt runs
    OOM = "oom"
    NODE_ERROR = "node_error"
    CUDA_ERROR = "cuda_error"
    HANG = "hang"
    SLOW = "slow"
    CRASH = "crash"
    DEAD_WORKER = "dead_worker"
    # what is written
    TRUNCATE_OUTPUT = "truncate_output"
    MISSING_OUTPUT = "missing_output"
    FEWER_IMAGES = "fewer_images"
    WRONG_SIZE = "wrong_size"
    DELAY_HISTORY = "delay_history"
    DISK_FULL = "disk_full"
    # on the wire
    HTML = "html"
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    TOO_LARGE = "413"
    LOG_IN = "302"
    SERVER_ERROR = "5xx"
    SLOW_ANSWER = "slow_answer"
    HUGE_ANSWER = "huge_answer"
    TRUNCATED_ANSWER = "truncated_answer"
    PROMPT_TRIPS = "500"
    REJECT = "reject"
    LOST_ANSWER = "lost_answer"
    WS_DROP = "ws_drop"
    WS_FLAP = "ws_flap"
    WS_SILENT = "ws_silent"


class BadFaultError(ValueError):
    """The request for a fault makes no sense; the text says why."""


@dataclass(frozen=True, slots=True)
class Match:
    """When a fault strikes. None asks nothing."""

    text: str | None = None  #: part of any text in the graph
    path: str | None = None  #: start of the request's path, without /api
    method: str | None = None
    prompt_id: str | None = None
    node: str | None = None  #: class of the node that is about to run
    rows_over: int | None = None  #: more rows than this in one sampling pass
    step: int | None = None  #: at this sampling step (crash, ws_drop)


@dataclass(slots=True)
class Fault:
    id: int
    kind: FaultKind
    left: int | None
    match: Match
    details: Mapping[str, object]
    struck: int = 0

    def seconds(self, default: float) -> float:
        return self.number("seconds", default)

    def number(self, name: str, default: float) -> float:
        value = self.details.get(name, default)
        return float(value) if isinstance(value, int | float) else default

    def integer(self, name: str, default: int) -> int:
        value = self.details.get(name, default)
        return value if isinstance(value, int) else default

    def text(self, name: str, default: str) -> str:
        value = self.details.get(name, default)
        return value if isinstance(value, str) else default

    def as_json(self) -> dict[str, object]:
        return {"id": self.id, "kind": self.kind.value, "left": self.left, "struck": self.struck, **self.details}


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known at the place that asks whether something should go wrong now."""

    texts: tuple[str, ...] = ()
    path: str | None = None
    method: str | None = None
    prompt_id: str | None = None
    node: str | None = None
    rows: int | None = None
    step: int | None = None


def _fits(match: Match, moment: Moment) -> bool:
    if match.text is not None and not any(match.text in text for text in moment.texts):
        return False
    if match.path is not None and not (moment.path or "").startswith(match.path):
        return False
    if match.rows_over is not None and (moment.rows is None or moment.rows <= match.rows_over):
        return False
    exact = (
        (match.method, moment.method),
        (match.prompt_id, moment.prompt_id),
        (match.node, moment.node),
        (match.step, moment.step),
    )
    return all(wanted is None or wanted == seen for wanted, seen in exact)


@dataclass(slots=True)
class Faults:
    """The faults that wait to strike, oldest first."""

    _waiting: list[Fault] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, kind: FaultKind, *, times: int | None = 1, match: Match | None = None, **details: object) -> Fault:
        fault = Fault(next(self._numbers), kind, times, match or Match(), details)
        self._waiting.append(fault)
        return fault

    def add_json(self, body: Mapping[str, object]) -> Fault:
        """Raises `BadFaultError` when the body is not understood."""
        rest = dict(body)
        try:
            kind = FaultKind(str(rest.pop("kind", None)))
        except ValueError:
            raise BadFaultError(f"kind must be one of: {', '.join(FaultKind)}") from None
        times = rest.pop("times", 1)
        if times is not None and (not isinstance(times, int) or times < 1):
            raise BadFaultError("times must be a whole number from 1, or null for 'until cleared'")
        conditions = rest.pop("match", {})
        if not isinstance(conditions, dict):
            raise BadFaultError("match must be an object")
        try:
            match = Match(**conditions)
        except TypeError:
            raise BadFaultError(f"match knows only: {', '.join(Match.__dataclass_fields__)}") from None
        return self.add(kind, times=times, match=match, **{str(name): value for name, value in rest.items()})

    def strike(self, kinds: Iterable[FaultKind], moment: Moment) -> Fault | None:
        """The first waiting fault of these kinds that fits; it is used up by this."""
        wanted = frozenset(kinds)
        for fault in self._waiting:
            if fault.kind in wanted and _fits(fault.match, moment):
                self.use(fault)
                return fault
        return None

    def peek(self, kind: FaultKind, moment: Moment) -> Fault | None:
        """The fault that would strike, without using it up."""
        return next((fault for fault in self._waiting if fault.kind is kind and _fits(fault.match, moment)), None)

    def use(self, fault: Fault) -> None:
        """Count a strike; a fault that has none left is forgotten."""
        fault.struck += 1
        if fault.left is not None:
            fault.left -= 1
            if fault.left == 0:
                self._waiting.remove(fault)

    def clear(self, kind: FaultKind | None = None) -> int:
        """Forget the waiting faults of one kind, or all; how many there were."""
        before = len(self._waiting)
        self._waiting = [fault for fault in self._waiting if kind is not None and fault.kind is not kind]
        return before - len(self._waiting)

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._waiting))
