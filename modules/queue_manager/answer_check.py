"""Asks a server for its health when one of its answers was no good, and has it decided whose fault that was."""

from __future__ import annotations

import structlog

from modules.domain.ports import ImageServer
from modules.domain.servers import ServerAnswer
from modules.queue_manager.fault_attribution import NO_HISTORY, Attribution, History, of_answer

log = structlog.get_logger(__name__)


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
