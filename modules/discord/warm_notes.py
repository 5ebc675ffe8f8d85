"""What somebody is in the middle of, kept in the database for a quarter of an hour: neither a fault nor a restart loses it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from modules.domain.people import UserId
from modules.domain.ports import ControlStore

#: As long as the interaction that began it could be answered; then a fresh start is kinder than an old one.
LIFE = timedelta(minutes=15)


class WarmNotes:
    """JSON, one note a person and kind."""

    def __init__(self, control: ControlStore, kind: str) -> None:
        self._control = control
        self._prefix = f"discord.{kind}."

    async def load(self, user_id: UserId, now: datetime) -> Mapping[str, Any] | None:
        """None when there is none, it is too old, or another version wrote it."""
        stored = await self._control.get(self._key(user_id))
        if stored is None or _is_old(stored, now):
            return None
        note: Mapping[str, Any] = json.loads(stored)
        return note

    async def save(self, user_id: UserId, note: Mapping[str, Any], now: datetime) -> None:
        """Keep it from now on for LIFE, in place of an earlier one."""
        await self._control.set(self._key(user_id), json.dumps({**note, "saved_at": now.isoformat()}))

    async def drop(self, user_id: UserId) -> None:
        """It is done with, or its person is to be forgotten."""
        await self._control.set(self._key(user_id), None)

    async def sweep(self, now: datetime) -> None:
        """Forget what nobody came back to: prompts are not kept for longer than they are of use."""
        for key, stored in (await self._control.with_prefix(self._prefix)).items():
            if _is_old(stored, now):
                await self._control.set_if(key, stored, None)  # it may have been renewed since it was read

    def _key(self, user_id: UserId) -> str:
        return f"{self._prefix}{user_id}"


def _is_old(stored: str, now: datetime) -> bool:
    """Also what another version wrote and we cannot date."""
    try:
        return now - datetime.fromisoformat(json.loads(stored)["saved_at"]) > LIFE
    except (ValueError, TypeError, KeyError):
        return True
