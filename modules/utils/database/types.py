"""Column types: instants, JSON and text that both databases keep exactly as it was given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Row, Select, Text, TypeDecorator

#: A row as Core hands it out; what its columns hold is known to `tables` only.
AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]
JsonValue = str | int | float | bool | None | Mapping[str, "JsonValue"] | Sequence["JsonValue"]

#: What a PostgreSQL text cannot hold: NUL, and the halves of a surrogate pair that some clients send alone.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC instant with microseconds. SQLite keeps it as sortable text and would hand back a naive one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive instants: nobody knows which moment they mean."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime names no instant")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Always aware, always UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(TypeDecorator[JsonValue]):
    """JSON as plain ASCII text.

    Not PostgreSQL's own JSONB: that refuses an escaped NUL, and there is nothing in here that SQL needs to look into. Python's
    integers pass unharmed, so a seed of 2**64 - 1 stays one.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JsonValue, dialect: Dialect) -> str | None:
        """None is SQL's NULL, not JSON's."""
        return None if value is None else json.dumps(value, separators=(",", ":"), sort_keys=True)

    def process_result_value(self, value: str | None, dialect: Dialect) -> JsonValue:
        """The inverse. None for text that is no JSON: one such row must not keep all the others from being read."""
        if value is None:
            return None
        try:
            read: JsonValue = json.loads(value)
        except ValueError:
            return None
        return read


class SafeText(TypeDecorator[str]):
    """Text people wrote, kept for showing and searching; what PostgreSQL cannot store becomes U+FFFD instead of an error."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The same on both databases, so that both find the same."""
        return None if value is None else _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
