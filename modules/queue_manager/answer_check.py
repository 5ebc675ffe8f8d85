"""Asks a server for its health when one of its answers was no good, and has it decided whose fault that was."""

from __future__ import annotations

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.ports import ImageServer
from modules.domain.servers import ServerAnswer, ServerAnswerError
from modules.queue_manager.fault_attribution import NO_HISTORY, Attribution, Decision, History, of_answer

log = structlog.get_logger(__name__)

#: Errors that say by themselves that a server is away.
SERVER_AWAY = frozenset(
    {ErrorCode.SERVER_UNREACHABLE, ErrorCode.SERVER_BROKEN, ErrorCode.SERVER_NOT_COMFYUI, ErrorCode.SERVER_UNAUTHORISED}
)


async def attribute(server: ImageServer, answer: ServerAnswer, history: History = NO_HISTORY) -> Attribution:
    """Seconds at most. Where nothing was sent there is no doubt: nobody is there."""
    is_well = answer.was_sent and await server.is_well()
    found = of_answer(answer.call, answer.status, answer.body, is_well=is_well, history=history)
    log.warning(
        "server_answer_bad",
        server=server.name,
        call=answer.call.value,
        route=answer.route,
        status=answer.status,
        body=answer.body.value,
        is_well=is_well,
        decision=found.decision.value,
    )
    return found


async def is_server_away(server: ImageServer, error: FulletError) -> bool:
    """Whether the server is away, its health asked where an answer of it leaves room for doubt."""
    if isinstance(error, ServerAnswerError):
        return (await attribute(server, error.answer)).decision is Decision.SERVER_AWAY
    return error.code in SERVER_AWAY
