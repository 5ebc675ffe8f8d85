"""Whose fault it is when something went wrong between us, a proxy, a ComfyUI and a job. Pure; its table: docs/durability.md.

This is the only place that decides it. `verdicts.py` turns the answer into what becomes of each job of an attempt (who runs
alone, what counts, what is used up), `outcomes.py` into what it says of the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from modules.domain.errors import ErrorCode
from modules.domain.servers import BodyKind, ServerCall

#: A finished picture is asked for this often before it is drawn again: a download that was cut, or a file that was not there yet.
MAX_FETCHES = 3
#: A request that came to nothing at a healthy server, without a refusal, is sent by at most this many attempts of a job.
MAX_REQUEST_ATTEMPTS = 2

#: Faults of a prompt that another server may not have: its disk, its files, its add-ons, the proxy before it.
_OF_THE_SERVER_PERHAPS = frozenset(
    {ErrorCode.NODE_FAILED, ErrorCode.SERVER_REJECTED, ErrorCode.UPLOAD_TOO_LARGE, ErrorCode.REQUEST_REFUSED}
)


class Decision(StrEnum):
    """What is to be done about it."""

    JOB_FAILS = "job_fails"
    TRY_HERE = "try_here"
    TRY_ELSEWHERE = "try_elsewhere"
    SERVER_AWAY = "server_away"
    FETCH_AGAIN = "fetch_again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The decision, and the reason in the words of an error: the job's where it fails, the server's where that is away."""

    decision: Decision
    reason: ErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known of a job besides the fault itself."""

    failed_attempts: int = 0  #: attempts of this job that came to nothing, before this one
    fetches: int = 0  #: how often this picture was asked for, this time included
    runs_elsewhere: bool = False  #: another healthy server could take the job
    failed_elsewhere: bool = False  #: another server could not do it either
    server_fails_all: bool = False  #: this server fails the jobs of different people one after another


NO_HISTORY = History()


def of_answer(
    asked: ServerCall, status: int | None, body: BodyKind, *, is_well: bool, history: History = NO_HISTORY
) -> Attribution:
    """For an answer that was not what was asked for. `is_well`: how the server answered about its health, asked afterwards."""
    if not is_well or asked in (ServerCall.STATUS, ServerCall.NODES):
        return Attribution(decision=Decision.SERVER_AWAY, reason=_what_the_server_is(status, body))
    match asked:
        case ServerCall.UPLOAD | ServerCall.POST:
            return _of_request(asked, status, body, history)
        case ServerCall.FETCH:
            return _of_picture(body, history)
        case ServerCall.FOLLOW:  # where the prompt stands cannot be learnt, but its pictures may be there
            if history.fetches == 0:
                return Attribution(decision=Decision.FETCH_AGAIN, reason=ErrorCode.RESULT_INCOMPLETE)
            return of_prompt(ErrorCode.REQUEST_REFUSED, history)
        case ServerCall.CONTROL | ServerCall.EVENTS:  # a wish of ours that no job depends on
            return Attribution(decision=Decision.TRY_HERE, reason=ErrorCode.SERVER_UNREACHABLE)


def of_prompt(said: ErrorCode, history: History = NO_HISTORY) -> Attribution:
    """For what became of a prompt by the word of a ComfyUI that answers: it refused, failed, or ran out of something."""
    match said:
        case ErrorCode.GPU_BROKEN | ErrorCode.SERVER_UNREACHABLE:
            return Attribution(decision=Decision.SERVER_AWAY, reason=said)
        case ErrorCode.INTERRUPTED:
            return Attribution(decision=Decision.TRY_HERE, reason=said)
        case ErrorCode.OUT_OF_MEMORY:
            return _of_memory(history)
        case ErrorCode.RESULT_INCOMPLETE:
            return _redraw(history)
        case _ if said in _OF_THE_SERVER_PERHAPS:
            return _elsewhere_once(said, history)
        case _:
            return Attribution(decision=Decision.JOB_FAILS, reason=said)


def _of_request(asked: ServerCall, status: int | None, body: BodyKind, history: History) -> Attribution:
    """The server is well, so this one request was refused, or is lost on its way again and again."""
    if _may_pass(status, body) and history.failed_attempts + 1 < MAX_REQUEST_ATTEMPTS:
        return Attribution(decision=Decision.TRY_HERE, reason=ErrorCode.REQUEST_REFUSED)
    is_too_large = status == 413 and asked is ServerCall.UPLOAD
    return _elsewhere_once(ErrorCode.UPLOAD_TOO_LARGE if is_too_large else ErrorCode.REQUEST_REFUSED, history)


def _of_picture(body: BodyKind, history: History) -> Attribution:
    if body is BodyKind.TOO_LARGE:
        return Attribution(decision=Decision.JOB_FAILS, reason=ErrorCode.OUTPUT_TOO_LARGE)
    if history.fetches < MAX_FETCHES:
        return Attribution(decision=Decision.FETCH_AGAIN, reason=ErrorCode.RESULT_INCOMPLETE)
    return _redraw(history)


def _redraw(history: History) -> Attribution:
    """The server said that it is drawn, yet it cannot be had: drawn once more, then on another server, then never."""
    if history.failed_attempts == 0:
        return Attribution(decision=Decision.TRY_HERE, reason=ErrorCode.RESULT_INCOMPLETE)
    return _elsewhere_once(ErrorCode.RESULT_INCOMPLETE, history)


def _of_memory(history: History) -> Attribution:
    if history.runs_elsewhere:
        return Attribution(decision=Decision.TRY_ELSEWHERE, reason=ErrorCode.OUT_OF_MEMORY)
    if history.failed_attempts == 0:  # once more on a freed card
        return Attribution(decision=Decision.TRY_HERE, reason=ErrorCode.OUT_OF_MEMORY)
    return Attribution(decision=Decision.JOB_FAILS, reason=ErrorCode.OUT_OF_MEMORY)


def _elsewhere_once(reason: ErrorCode, history: History) -> Attribution:
    """One server's word is not enough where another can be asked; two servers' is. One that fails everybody has no word."""
    if history.runs_elsewhere and not history.failed_elsewhere:
        return Attribution(decision=Decision.TRY_ELSEWHERE, reason=reason)
    if history.server_fails_all and not history.failed_elsewhere:
        return Attribution(decision=Decision.TRY_HERE, reason=reason)
    return Attribution(decision=Decision.JOB_FAILS, reason=reason)


def _may_pass(status: int | None, body: BodyKind) -> bool:
    """Whether the same request may fare better a moment later: it is no refusal, but something that got lost or jammed."""
    if body is BodyKind.TOO_LARGE:
        return False
    return status is None or status in (200, 408, 425, 429) or status >= 502 or body is BodyKind.TRUNCATED


def _what_the_server_is(status: int | None, body: BodyKind) -> ErrorCode:
    if status in (401, 403):
        return ErrorCode.SERVER_UNAUTHORISED
    if status is None or status >= 502:
        return ErrorCode.SERVER_UNREACHABLE
    if status == 500:
        return ErrorCode.SERVER_BROKEN
    return ErrorCode.SERVER_UNREACHABLE if body is BodyKind.TRUNCATED else ErrorCode.SERVER_NOT_COMFYUI
