"""How the run of an attempt ended, for whoever judges the server. Pure."""

from __future__ import annotations

from enum import Enum, auto

from modules.domain.errors import ErrorCode
from modules.domain.servers import RunPhase, RunReport


class RunOutcome(Enum):
    """One word for the end of a run."""

    CLEAN = auto()  #: ComfyUI did what was asked
    REFUSED = auto()  #: the work's own fault, or ours; says nothing against the server
    OUT_OF_MEMORY = auto()
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
    return RunOutcome.CLEAN if report.phase is RunPhase.SUCCEEDED else RunOutcome.REFUSED
