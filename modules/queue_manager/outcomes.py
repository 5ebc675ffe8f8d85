"""How the run of an attempt ended, for whoever judges the server. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from modules.domain.errors import ErrorCode
from modules.domain.events import ServerTrouble
from modules.domain.jobs import ServerName
from modules.domain.servers import RunFailure, RunPhase, RunReport
from modules.queue_manager.verdicts import Fail, Verdict

#: What administrators can mend and should hear of, besides a server that is away.
_FOR_ADMINS = frozenset({ErrorCode.NODE_FAILED, ErrorCode.SERVER_REJECTED, ErrorCode.UPLOAD_TOO_LARGE, ErrorCode.REQUEST_REFUSED})


class RunOutcome(Enum):
    """One word for the end of a run."""

    CLEAN = auto()  #: ComfyUI did what was asked
    REFUSED = auto()  #: the work's own fault, or ours; says nothing against the server
    OUT_OF_MEMORY = auto()
    NODE_FAILED = auto()  #: the work's fault, or that of a server on which everybody's nodes fail: its disk is full, say
    LOST = auto()  #: the server is gone; the attempt stays open and is looked for when it is back
    RESTARTED = auto()  #: it answers, but knows nothing of the prompt any more
    STUCK = auto()  #: it takes no orders any more: not to be used until the prompt has left it


def outcome_of(report: RunReport) -> RunOutcome:
    """A report of phase RUNNING at the end says that the prompt did not stop."""
    code = None if report.failure is None else report.failure.code
    if report.phase is RunPhase.RUNNING or code is ErrorCode.GPU_BROKEN:
        return RunOutcome.STUCK
    if code is ErrorCode.OUT_OF_MEMORY:
        return RunOutcome.OUT_OF_MEMORY
    if report.phase is RunPhase.UNKNOWN:
        return RunOutcome.RESTARTED
    if report.phase is RunPhase.FAILED and code is ErrorCode.NODE_FAILED:
        return RunOutcome.NODE_FAILED
    return RunOutcome.CLEAN if report.phase is RunPhase.SUCCEEDED else RunOutcome.REFUSED


def trouble_of(server: ServerName, failure: RunFailure, verdicts: Sequence[Verdict]) -> ServerTrouble | None:
    """What administrators should hear of a failed attempt, by the reason its people read; None where they cannot mend it."""
    reasons = [one.code if isinstance(one, Fail) else one.reason for one in verdicts]
    reason = next((code for code in reasons if code in _FOR_ADMINS), None)
    if reason is None:
        return None
    answer = failure.answer
    return ServerTrouble(
        server=server,
        reason=reason.value,
        status=answer.status if answer else None,
        route=answer.route if answer else "",
        node=failure.node,
        detail=failure.detail,
    )
