"""Asks a server where a prompt stands, and asks again where its answer says nothing of the prompt."""

from __future__ import annotations

import asyncio

from modules.domain.jobs import AttemptId
from modules.domain.ports import ImageServer
from modules.domain.servers import RunPhase, RunReport, ServerAnswerError
from modules.queue_manager.answer_check import is_server_away

#: How often a healthy server is asked where a prompt stands before that counts as not to be learnt.
STATUS_TRIES = 4
#: The phases of a prompt that the server has and has not finished.
UNDER_WAY = (RunPhase.PENDING, RunPhase.RUNNING)


async def prompt_status(server: ImageServer, attempt_id: AttemptId, *, ask_again_s: float) -> RunReport:
    """Where the prompt stands. A bad answer of a healthy server is no word of the prompt, so it is asked again.

    `ask_again_s`: seconds before it is asked the second time; doubled each time. Raises the FulletError at once where the server
    is away, and the ServerAnswerError of the last answer where none was good.
    """
    for tries in range(1, STATUS_TRIES):
        try:
            return await server.report(attempt_id)
        except ServerAnswerError as error:
            if await is_server_away(server, error):
                raise
        await asyncio.sleep(ask_again_s * 2 ** (tries - 1))
    return await server.report(attempt_id)
