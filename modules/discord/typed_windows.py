"""What somebody typed into a window that was sent with a fault in it: kept until they send it right, or a quarter of an hour."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from modules.discord.drafts import LIFE
from modules.domain.jobs import JobId
from modules.domain.people import UserId
from modules.domain.ports import ControlStore

_KEY = "discord.typed."


class TypedWindows:
    """One a person. Discord gives a refused window no second chance: without this, everything typed would be gone."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    async def keep(self, user_id: UserId, job_id: JobId, answers: Mapping[str, str], now: datetime) -> None:
        """Before it is tried."""
        kept = {"job": str(job_id), "answers": dict(answers), "saved_at": now.isoformat()}
        await self._control.set(f"{_KEY}{user_id}", json.dumps(kept))

    async def of(self, user_id: UserId, job_id: JobId, now: datetime) -> Mapping[str, str]:
        """For this job; empty when there is nothing to go on with. Prompts are not kept for longer than they are of use."""
        for key, stored in (await self._control.with_prefix(_KEY)).items():
            if now - datetime.fromisoformat(json.loads(stored)["saved_at"]) > LIFE:
                await self._control.set(key, None)
        kept = json.loads(await self._control.get(f"{_KEY}{user_id}") or "{}")
        answers = kept.get("answers", {}) if kept.get("job") == str(job_id) else {}
        return {str(field): str(value) for field, value in answers.items()}

    async def drop(self, user_id: UserId) -> None:
        """It was right, or its person is to be forgotten."""
        await self._control.set(f"{_KEY}{user_id}", None)
