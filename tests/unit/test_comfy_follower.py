"""Polling as the truth: what a follower makes of the answers, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest

from modules.ai.client import ComfyClient
from modules.ai.follower import Follower, Patience, Sources
from modules.ai.runs import Run
from modules.ai.socket import EventSocket
from modules.ai.wire import QueueState
from modules.ai.workflows.plan import BuiltWorkflow, MergeForm
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.servers import RunEnded, RunEvent, RunPhase, RunReport, RunStarted
from modules.utils.clock import SystemClock
from modules.utils.images import PictureWorkshop
from tests.support.comfy_side import an_attempt

HASTY = Patience(poll_live_s=0.01, poll_blind_s=0.01, unreachable_s=0.1, unknown_s=0.1, dead_worker_s=0.1)
PENDING, RUNNING, SUCCEEDED, UNKNOWN = (
    RunReport(phase=phase) for phase in (RunPhase.PENDING, RunPhase.RUNNING, RunPhase.SUCCEEDED, RunPhase.UNKNOWN)
)
AWAY = FulletError(ErrorCode.SERVER_UNREACHABLE)
BUSY = QueueState.model_validate({"queue_running": [[1, "other"]], "queue_pending": [[2, "ours"]]})
STOPPED = QueueState.model_validate({"queue_running": [], "queue_pending": [[2, "ours"]]})


async def followed(answers: Iterable[RunReport | FulletError], queue: QueueState = BUSY) -> list[RunEvent]:
    """What is said while the server gives these answers, the last one for ever."""
    told = list(answers)

    async def report() -> RunReport:
        answer = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(answer, FulletError):
            raise answer
        return answer

    async def state() -> QueueState:
        return queue

    built = BuiltWorkflow(graph={}, form=MergeForm.SOLO, slot_of_node={}, save_nodes={}, file_of_slot={}, expected_size={})
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(ComfyClient("http://127.0.0.1:9"))
        workshop = await stack.enter_async_context(PictureWorkshop())
        sources = Sources(report=report, queue=state, socket=EventSocket(client), clock=SystemClock(), workshop=workshop)
        run = Run(an_attempt(), built, client_id=None)
        async with asyncio.timeout(5):
            return [event async for event in Follower(run, sources, HASTY).events()]


async def test_each_phase_is_told_once() -> None:
    assert await followed([PENDING, PENDING, RUNNING, RUNNING, SUCCEEDED]) == [RunStarted(), RunEnded(report=SUCCEEDED)]


async def test_one_look_that_finds_nothing_is_no_proof() -> None:
    assert (await followed([RUNNING, UNKNOWN, SUCCEEDED]))[-1] == RunEnded(report=SUCCEEDED)
    assert (await followed([UNKNOWN, RUNNING, UNKNOWN, SUCCEEDED]))[-1] == RunEnded(report=SUCCEEDED)


async def test_what_stays_unknown_ends_as_unknown() -> None:
    assert (await followed([RUNNING, UNKNOWN]))[-1] == RunEnded(report=UNKNOWN)


@pytest.mark.parametrize("code", [ErrorCode.SERVER_UNREACHABLE, ErrorCode.SERVER_BROKEN, ErrorCode.SERVER_NOT_COMFYUI])
async def test_a_short_absence_is_sat_out_whatever_it_looks_like(code: ErrorCode) -> None:
    hiccup = FulletError(code)
    assert (await followed([PENDING, hiccup, RUNNING, hiccup, hiccup, SUCCEEDED]))[-1] == RunEnded(report=SUCCEEDED)


async def test_a_long_absence_is_told() -> None:
    with pytest.raises(FulletError) as caught:
        await followed([RUNNING, AWAY])
    assert caught.value.code is ErrorCode.SERVER_UNREACHABLE


async def test_waiting_behind_others_is_no_fault_but_waiting_behind_nobody_is() -> None:
    assert (await followed([*[PENDING] * 20, SUCCEEDED], BUSY))[-1] == RunEnded(report=SUCCEEDED)
    with pytest.raises(FulletError) as caught:
        await followed([PENDING], STOPPED)
    assert caught.value.code is ErrorCode.SERVER_BROKEN
