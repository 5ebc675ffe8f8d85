"""Logs: one event a fact, for people (console) or machines (JSON); everyone's records look alike and carry no secrets."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from collections.abc import Sequence
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

#: What a token, a key or a password in a URL looks like, should one ever come near a log.
_SECRETS = re.compile(
    r"(?P<token>[\w-]{23,28}\.[\w-]{6,7}\.[\w-]{27,})"  # a Discord bot token
    r"|(?P<auth>\b(?:Bot|Bearer|Basic)\s+[\w.+/=-]{8,})"
    r"|(?P<url>(?<=://)[^/\s:@]+:[^/\s@]+(?=@))"
)


class Redaction:
    """A processor that blanks known secrets and anything that looks like one."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._known = tuple(secret for secret in secrets if len(secret) >= 6)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Blank every text value, the exception's included."""
        return {key: self.clean(value) if isinstance(value, str) else value for key, value in event.items()}

    def clean(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._known:
            text = text.replace(secret, "***")
        return _SECRETS.sub("***", text)


def configure_logs(level: str, form: Literal["console", "json"], secrets: Sequence[str] = ()) -> None:
    """Send structlog's and the standard library's records (discord.py, aiohttp, SQLAlchemy) through the same processors."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            Redaction(secrets),
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # discord.py at INFO tells of every reconnect; the others are for debugging only. Voice is nothing we use.
    for chatty in ("aiohttp.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    logging.getLogger("discord").setLevel(max(logging.INFO, root.level) if level == "DEBUG" else logging.WARNING)
    structlog.configure(
        processors=[*shared[:2], shared[3], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
