"""Words that Discord refuses for good: whatever quotes them is shown once more without them.

Bots' messages pass AutoMod, but not the filter of harmful links (error 240000), which also reads private messages.
Source: Discord developer documentation, "JSON Error Codes"; discord-api-docs issues 5327 and 5328.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import discord
import structlog

from modules.discord.refusals import FOR_GOOD, refusal_of
from modules.domain.jobs import Job
from modules.utils.i18n import Texts

log = structlog.get_logger(__name__)
T = TypeVar("T")


def wordless(job: Job, texts: Texts) -> Job:
    """The job to be shown without what its person typed; a sentence stands where the words would."""
    return replace(job, recipe=replace(job.recipe, prompt=texts("card.words_refused"), negative_prompt=""))


async def once_more_without_words(show: Callable[[bool], Awaitable[T]]) -> T:
    """Call `show(with_words)`: with the words, and where Discord refuses the message for good, without. Raises what it raises."""
    try:
        return await show(True)
    except discord.HTTPException as error:
        if refusal_of(error).kind not in FOR_GOOD:
            raise
        log.warning("words_refused", status=error.status, code=error.code)
        return await show(False)
