"""What somebody typed into a window that was sent with a fault in it, until they send it right."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from modules.discord.warm_notes import WarmNotes
from modules.domain.jobs import JobId
from modules.domain.people import UserId
from modules.domain.ports import ControlStore


class TypedWindows:
    """One a person. Discord gives a refused window no second chance: without this, everything typed would be gone."""

    def __init__(self, control: ControlStore) -> None:
        self._notes = WarmNotes(control, "typed")

    async def keep(self, user_id: UserId, job_id: JobId, answers: Mapping[str, str], now: datetime) -> None:
        """Before it is tried."""
        await self._notes.sweep(now)
        await self._notes.save(user_id, {"job": str(job_id), "answers": dict(answers)}, now)

    async def of(self, user_id: UserId, job_id: JobId, now: datetime) -> Mapping[str, str]:
        """What was typed for this job; empty when there is nothing to go on with."""
        note = await self._notes.load(user_id, now) or {}
        answers = note.get("answers", {}) if note.get("job") == str(job_id) else {}
        return {str(field): str(value) for field, value in answers.items()}

    async def all_of(self, user_id: UserId, now: datetime) -> Mapping[str, str]:
        """For whatever job: what an export shows."""
        note = await self._notes.load(user_id, now) or {}
        return {str(field): str(value) for field, value in note.get("answers", {}).items()}

    async def drop(self, user_id: UserId) -> None:
        """It was right, or its person is to be forgotten."""
        await self._notes.drop(user_id)
