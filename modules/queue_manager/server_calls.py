"""Calls of a server that nothing depends on: where one is not answered, that is logged, and we go on."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TypeVar

import structlog

from modules.domain.errors import FulletError

T = TypeVar("T")


async def try_call(call: Coroutine[object, object, T], log: structlog.typing.FilteringBoundLogger) -> T | None:
    """None when the server did not answer; whoever follows the prompt then learns what became of it."""
    try:
        return await call
    except FulletError as error:
        log.info("call_not_answered", error=error.code.value)
        return None
