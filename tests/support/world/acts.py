"""Acts: each time the program touches the outside. They are counted over all its lives, and trouble comes at chosen ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Trouble(StrEnum):
    """What goes wrong at an act."""

    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"
    ANSWER_LOST = "answer lost"  #: it was done, but the program is told that nobody answered
    COMFY_RESTARTS = "ComfyUI restarts"  #: just before the act: queue and history are gone, files stay
    COMFY_AWAY = "ComfyUI is away"  #: from just before the act on, for a while; it goes on working
    DISCORD_AWAY = "Discord is away"
    GUILD_GONE = "the guild is gone for now"  #: 403 and 404 that say nothing of the channel, and no guild in the cache
    DATABASE_AWAY = "the database is away"


class ProcessDied(BaseException):
    """kill -9: nothing that the program does after this has any effect."""


class AnswerLostError(Exception):
    """The far side did it; turned into what the library in between would raise."""


@dataclass(slots=True)
class Acts:
    """The count, what was done, and what is to go wrong at which number (from 1 on)."""

    plan: Mapping[int, Iterable[Trouble]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    #: What the world does about troubles that are not the program's own death.
    cause: Callable[[Trouble], None] = lambda _: None
    struck: dict[Trouble, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def count(self) -> int:
        return len(self.names)

    def perform(self, process: Process, name: str, effect: Callable[[], T], *, may_lose_answer: bool = False) -> T:
        """Do it, unless the process is dead or dies of it."""
        process.check()
        self.names.append(name)
        troubles = set(self.plan.get(len(self.names), ()))
        for trouble in sorted(troubles):
            self.struck[trouble] += 1
            self.cause(trouble)
        if Trouble.DIES_BEFORE in troubles:
            process.die()
        result = effect()
        if Trouble.DIES_AFTER in troubles:
            process.die()
        if Trouble.ANSWER_LOST in troubles and may_lose_answer:
            raise AnswerLostError
        return result


@dataclass(slots=True)
class Process:
    """One life of the program, as far as the outside is concerned."""

    on_death: Callable[[], None]
    is_dead: bool = False

    def check(self) -> None:
        """Raises ProcessDied for whoever goes on after the end."""
        if self.is_dead:
            raise ProcessDied

    def die(self) -> None:
        """Now."""
        self.is_dead = True
        self.on_death()
        raise ProcessDied
