"""Jobs that no server can draw any more: their files left every server. Decided without I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from modules.domain.jobs import WorkClass
from modules.queue_manager.crew import Colleague

#: With every server there and asked, a job whose files none of them has waits this long for them to come back: somebody may be
#: moving a folder, or starting a server anew.
GONE_AFTER_S = 5 * 60.0
#: While a server that had them, or was never asked, is away, it waits longer: a GPU that is off at night is nobody's fault.
AWAY_AFTER_S = 24 * 3600.0


class Outlook(Enum):
    """Whether some work can be done at all."""

    SOMEWHERE = auto()  #: a server that is there has what it needs (it may be busy or out of service)
    PERHAPS = auto()  #: none that is there has it, but one is away or was not asked yet
    NOWHERE = auto()  #: all are there, all were asked, none has it


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of one server and some work."""

    lacks: bool | None  #: as it last said; None: it was never asked
    is_away: bool


def outlook(servers: Collection[Knowledge]) -> Outlook:
    """Of work, over all the servers of the house."""
    if any(one.lacks is False and not one.is_away for one in servers):
        return Outlook.SOMEWHERE
    if servers and all(one.lacks and not one.is_away for one in servers):
        return Outlook.NOWHERE
    return Outlook.PERHAPS


class Unrunnable:
    """Since when each kind of waiting work has been without a server. Kept by one process; a restart begins anew."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, Outlook], float] = {}

    def given_up(self, waiting: Mapping[str, WorkClass], servers: Sequence[Colleague], now: float) -> list[str]:
        """The exact keys that have waited long enough. Call it every now and then; `now`: seconds by the monotonic clock."""
        outlooks = {key: outlook([Knowledge(one.lacks(work), one.is_away) for one in servers]) for key, work in waiting.items()}
        # What is found nowhere is without a server as well, so the longer wait counts through both.
        held = {(key, Outlook.PERHAPS) for key, how in outlooks.items() if how is not Outlook.SOMEWHERE}
        held |= {(key, Outlook.NOWHERE) for key, how in outlooks.items() if how is Outlook.NOWHERE}
        self._since = {one: self._since.get(one, now) for one in held}
        patience = {Outlook.NOWHERE: GONE_AFTER_S, Outlook.PERHAPS: AWAY_AFTER_S}
        return sorted({key for (key, how), since in self._since.items() if now - since >= patience[how]})
