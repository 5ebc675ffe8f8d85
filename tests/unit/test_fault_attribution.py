"""Whose fault it is: the whole table of docs/durability.md, and what holds whatever comes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.domain.errors import ErrorCode
from modules.domain.servers import BodyKind, ServerCall
from modules.queue_manager.fault_attribution import (
    MAX_FETCHES,
    Attribution,
    Decision,
    History,
    of_answer,
    of_prompt,
)

STATUSES = [
    None,
    200,
    204,
    301,
    302,
    400,
    401,
    403,
    404,
    405,
    408,
    413,
    415,
    425,
    429,
    499,
    500,
    501,
    502,
    503,
    504,
    520,
    524,
    530,
]
HISTORIES = [
    History(
        failed_attempts=failed,
        fetches=fetches,
        runs_elsewhere=runs_elsewhere,
        failed_elsewhere=failed_elsewhere,
        server_fails_all=fails_all,
    )
    for failed, fetches, runs_elsewhere, failed_elsewhere, fails_all in itertools.product(
        (0, 1, 4), (0, 1, MAX_FETCHES), (False, True), (False, True), (False, True)
    )
]
HEALTH_CALLS = (ServerCall.STATUS, ServerCall.NODES)
REQUESTS = (ServerCall.UPLOAD, ServerCall.POST)
histories = st.sampled_from(HISTORIES)
calls, bodies = st.sampled_from(ServerCall), st.sampled_from(BodyKind)
statuses = st.none() | st.integers(100, 599)
#: Another server is free and has not been tried; none is; one was, in vain.
FREE, NONE, IN_VAIN = History(runs_elsewhere=True), History(), History(runs_elsewhere=True, failed_elsewhere=True)


def decided(found: Attribution) -> tuple[str, str]:
    return found.decision.value, found.reason.value


# --- the table, line by line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "body", "history", "decision", "reason"),
    [
        # a request that the server, or a proxy before it, refuses: another server once, then the job fails
        (ServerCall.UPLOAD, 413, BodyKind.HTML, NONE, "job_fails", "upload_too_large"),
        (ServerCall.UPLOAD, 413, BodyKind.HTML, FREE, "try_elsewhere", "upload_too_large"),
        (ServerCall.UPLOAD, 413, BodyKind.HTML, IN_VAIN, "job_fails", "upload_too_large"),
        (ServerCall.POST, 413, BodyKind.HTML, NONE, "job_fails", "request_refused"),
        (ServerCall.UPLOAD, 403, BodyKind.HTML, NONE, "job_fails", "request_refused"),
        (ServerCall.UPLOAD, 401, BodyKind.TEXT, NONE, "job_fails", "request_refused"),
        (ServerCall.POST, 500, BodyKind.TEXT, NONE, "job_fails", "request_refused"),
        (ServerCall.POST, 500, BodyKind.TEXT, FREE, "try_elsewhere", "request_refused"),
        (ServerCall.POST, 302, BodyKind.EMPTY, NONE, "job_fails", "request_refused"),
        # a request that got lost or jammed on its way: once more, then as if refused
        (ServerCall.UPLOAD, None, BodyKind.NONE, NONE, "try_here", "request_refused"),
        (ServerCall.POST, 502, BodyKind.HTML, NONE, "try_here", "request_refused"),
        (ServerCall.POST, 429, BodyKind.JSON, NONE, "try_here", "request_refused"),
        (ServerCall.UPLOAD, 200, BodyKind.HTML, NONE, "try_here", "request_refused"),
        (ServerCall.UPLOAD, None, BodyKind.NONE, History(failed_attempts=1), "job_fails", "request_refused"),
        (ServerCall.POST, 200, BodyKind.TOO_LARGE, NONE, "job_fails", "request_refused"),
        # where a prompt stands cannot be learnt: its pictures are looked for, then as if refused
        (ServerCall.FOLLOW, 500, BodyKind.TEXT, NONE, "fetch_again", "result_incomplete"),
        (ServerCall.FOLLOW, 200, BodyKind.TOO_LARGE, History(fetches=1), "job_fails", "request_refused"),
        (ServerCall.FOLLOW, 403, BodyKind.HTML, History(fetches=1, runs_elsewhere=True), "try_elsewhere", "request_refused"),
        # a picture that is there: fetched again, drawn once more, on another server, then never
        (ServerCall.FETCH, 404, BodyKind.EMPTY, History(fetches=1), "fetch_again", "result_incomplete"),
        (ServerCall.FETCH, 200, BodyKind.TRUNCATED, History(fetches=2), "fetch_again", "result_incomplete"),
        (ServerCall.FETCH, None, BodyKind.NONE, History(fetches=1), "fetch_again", "result_incomplete"),
        (ServerCall.FETCH, 404, BodyKind.EMPTY, History(fetches=MAX_FETCHES), "try_here", "result_incomplete"),
        (ServerCall.FETCH, 403, BodyKind.HTML, History(fetches=MAX_FETCHES, failed_attempts=1), "job_fails", "result_incomplete"),
        (ServerCall.FETCH, 200, BodyKind.TOO_LARGE, History(fetches=1), "job_fails", "output_too_large"),
        # what no job depends on
        (ServerCall.CONTROL, 500, BodyKind.TEXT, NONE, "try_here", "server_unreachable"),
        (ServerCall.EVENTS, 403, BodyKind.OTHER, NONE, "try_here", "server_unreachable"),
        # the question about its health, and what it has: without these it is of no use
        (ServerCall.NODES, 413, BodyKind.HTML, NONE, "server_away", "server_not_comfyui"),
        (ServerCall.STATUS, None, BodyKind.NONE, NONE, "server_away", "server_unreachable"),
    ],
)
def test_what_a_healthy_servers_answer_means(
    asked: ServerCall, status: int | None, body: BodyKind, history: History, decision: str, reason: str
) -> None:
    assert decided(of_answer(asked, status, body, is_well=True, history=history)) == (decision, reason)


@pytest.mark.parametrize("asked", ServerCall)
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (None, BodyKind.NONE, "server_unreachable"),
        (200, BodyKind.HTML, "server_not_comfyui"),
        (200, BodyKind.TRUNCATED, "server_unreachable"),
        (302, BodyKind.EMPTY, "server_not_comfyui"),
        (401, BodyKind.TEXT, "server_unauthorised"),
        (403, BodyKind.HTML, "server_unauthorised"),
        (413, BodyKind.HTML, "server_not_comfyui"),
        (500, BodyKind.TEXT, "server_broken"),
        (502, BodyKind.HTML, "server_unreachable"),
        (530, BodyKind.HTML, "server_unreachable"),
    ],
)
def test_a_server_that_is_not_well_afterwards_is_away_whatever_was_asked(
    asked: ServerCall, status: int | None, body: BodyKind, reason: str
) -> None:
    assert decided(of_answer(asked, status, body, is_well=False, history=FREE)) == ("server_away", reason)


@pytest.mark.parametrize(
    ("said", "history", "decision"),
    [
        (ErrorCode.NODE_FAILED, NONE, "job_fails"),
        (ErrorCode.NODE_FAILED, FREE, "try_elsewhere"),
        (ErrorCode.NODE_FAILED, IN_VAIN, "job_fails"),
        (ErrorCode.NODE_FAILED, History(server_fails_all=True), "try_here"),
        (ErrorCode.NODE_FAILED, History(server_fails_all=True, failed_elsewhere=True), "job_fails"),
        (ErrorCode.SERVER_REJECTED, NONE, "job_fails"),
        (ErrorCode.SERVER_REJECTED, FREE, "try_elsewhere"),
        (ErrorCode.OUT_OF_MEMORY, NONE, "try_here"),
        (ErrorCode.OUT_OF_MEMORY, FREE, "try_elsewhere"),
        (ErrorCode.OUT_OF_MEMORY, IN_VAIN, "try_elsewhere"),  # a third card may be larger than both
        (ErrorCode.OUT_OF_MEMORY, History(failed_attempts=1), "job_fails"),
        (ErrorCode.RESULT_INCOMPLETE, NONE, "try_here"),
        (ErrorCode.RESULT_INCOMPLETE, History(failed_attempts=1, runs_elsewhere=True), "try_elsewhere"),
        (ErrorCode.RESULT_INCOMPLETE, History(failed_attempts=1), "job_fails"),
        (ErrorCode.INTERRUPTED, NONE, "try_here"),
        (ErrorCode.GPU_BROKEN, FREE, "server_away"),
        (ErrorCode.TIMED_OUT, FREE, "job_fails"),
        (ErrorCode.PICTURE_GONE, FREE, "job_fails"),
        (ErrorCode.TEMPLATE_INVALID, FREE, "job_fails"),
        (ErrorCode.OUTPUT_TOO_LARGE, FREE, "job_fails"),
        (ErrorCode.UNEXPECTED, FREE, "job_fails"),
    ],
)
def test_what_a_servers_own_word_of_a_prompt_means(said: ErrorCode, history: History, decision: str) -> None:
    found = of_prompt(said, history)
    assert (found.decision.value, found.reason) == (decision, said)


# --- what holds whatever comes --------------------------------------------------------------------------------------------


def test_there_is_an_answer_for_everything() -> None:
    for asked, status, body, is_well, history in itertools.product(ServerCall, STATUSES, BodyKind, (False, True), HISTORIES):
        assert isinstance(of_answer(asked, status, body, is_well=is_well, history=history), Attribution)
    for said, history in itertools.product(ErrorCode, HISTORIES):
        assert isinstance(of_prompt(said, history), Attribution)


@given(asked=calls, status=statuses, body=bodies, history=histories)
def test_a_healthy_server_is_never_called_away(asked: ServerCall, status: int | None, body: BodyKind, history: History) -> None:
    found = of_answer(asked, status, body, is_well=True, history=history)
    assert (found.decision is Decision.SERVER_AWAY) == (asked in HEALTH_CALLS)


@given(asked=calls, status=statuses, body=bodies, history=histories)
def test_nobodys_job_fails_because_a_server_is_away(
    asked: ServerCall, status: int | None, body: BodyKind, history: History
) -> None:
    assert of_answer(asked, status, body, is_well=False, history=history).decision is Decision.SERVER_AWAY


@given(asked=st.sampled_from(REQUESTS), status=st.sampled_from([400, 401, 403, 404, 405, 413, 415, 500]), body=bodies)
def test_a_refusal_is_never_repeated_on_the_same_healthy_server(asked: ServerCall, status: int, body: BodyKind) -> None:
    if body is BodyKind.TRUNCATED:  # the status arrived, the rest did not: no word to rely on
        return
    for history in HISTORIES:
        if not history.server_fails_all:
            found = of_answer(asked, status, body, is_well=True, history=history)
            assert found.decision in (Decision.TRY_ELSEWHERE, Decision.JOB_FAILS)


@given(asked=calls, status=statuses, body=bodies, is_well=st.booleans(), history=histories)
def test_elsewhere_is_only_where_somebody_can_take_it(
    asked: ServerCall, status: int | None, body: BodyKind, is_well: bool, history: History
) -> None:
    if of_answer(asked, status, body, is_well=is_well, history=history).decision is Decision.TRY_ELSEWHERE:
        assert history.runs_elsewhere
        assert not history.failed_elsewhere, "two servers' word is enough"


@given(asked=calls, status=statuses, body=bodies)
def test_no_picture_is_fetched_for_ever(asked: ServerCall, status: int | None, body: BodyKind) -> None:
    found = of_answer(asked, status, body, is_well=True, history=History(fetches=MAX_FETCHES))
    assert found.decision is not Decision.FETCH_AGAIN


def test_no_reason_of_a_failed_job_speaks_of_a_server_that_went_away() -> None:
    of_the_server = {code for code in ErrorCode if code.value.startswith("server_")} - {ErrorCode.SERVER_REJECTED}
    for asked, status, body, history in itertools.product(ServerCall, STATUSES, BodyKind, HISTORIES):
        found = of_answer(asked, status, body, is_well=True, history=history)
        if found.decision is Decision.JOB_FAILS:
            assert found.reason not in of_the_server


def test_every_decision_stands_in_the_table_of_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs/durability.md").read_text()
    table = text[text.index("## Whose fault") :].partition("\n## ")[0] if "## Whose fault" in text else ""
    assert set(re.findall(r"`(\w+)`", table)) >= {decision.value for decision in Decision} | {call.value for call in ServerCall}
