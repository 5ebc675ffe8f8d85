"""Logs: one event a fact, for people (console) or machines (JSON); everyone's records look alike and carry no secrets."""

from __future__ import annotations

import json
import logging
import logging.config
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Literal
from urllib.parse import quote, quote_plus

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

#: What a token, a key or a password in a URL looks like, should one ever come near a log.
_SECRETS = re.compile(
    r"(?P<token>[\w-]{23,28}\.[\w-]{6,7}\.[\w-]{27,})"  # a Discord bot token
    r"|(?P<auth>\b(?:Bot|Bearer|Basic)\s+[\w.+/=-]{8,})"
    r"|(?P<url>(?<=://)[^/\s:@\"]+:[^/\s@\"]+(?=@))"
)


#: A shorter setting is no secret, and blanking it would spoil half of every line.
_LEAST_CHARS = 6


class Redaction:
    """The last step of every record: blanks known secrets and anything that looks like one in the finished line.

    Whatever a secret hid in (a list, a dict's key, an exception's cause, an object's `repr`), it can only leave as text.
    """

    def __init__(self, secrets: Sequence[str], render: Processor) -> None:
        self._known = sorted(
            {form for secret in secrets if len(secret) >= 6 for form in _forms_of(secret)}, key=len, reverse=True
        )
        self._render = render

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Render the record, then blank."""
        return self.clean(str(self._render(logger, method, event)))

    def clean(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._known:
            text = text.replace(secret, "***")
        return _SECRETS.sub("***", text)


def _forms_of(secret: str) -> set[str]:
    """As it is and as URLs write it; each also as Python's `repr` and JSON write it, and as JSON writes a `repr`."""
    forms = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), repr(secret.encode())[2:-1]}
    ways = (repr, json.dumps, partial(json.dumps, ensure_ascii=False))
    for _ in range(2):
        forms |= {written(form)[1:-1] for form in forms for written in ways}
    return forms


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
            Redaction(secrets, renderer),
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
