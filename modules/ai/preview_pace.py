"""How often previews of one job are made ready: people are shown one every few seconds, servers send several a second."""

from __future__ import annotations

from modules.ai.runs import RawPreview
from modules.domain.jobs import JobId


class PreviewPace:
    """Lets a job's first preview through at once, and then the newest one every `every_s` seconds.

    Pure: the caller owns the clock. Each that passes is decoded and encoded (2 ms and more), so those that nobody would be shown
    are dropped before that.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._held: dict[JobId, RawPreview] = {}
        self._next_at: dict[JobId, float] = {}

    def take_in(self, job_id: JobId, preview: RawPreview) -> None:
        """A preview arrived; it replaces an older one of the same job that has not passed yet."""
        self._held[job_id] = preview

    def drop(self, job_id: JobId) -> None:
        """The job's picture is finished: nobody is shown a preview of it any more."""
        self._held.pop(job_id, None)

    def clear(self) -> None:
        """The prompt is over."""
        self._held.clear()

    def due(self, now: float) -> list[RawPreview]:
        """Take out those that may pass at this moment (monotonic seconds)."""
        passing = [job_id for job_id in self._held if self._next_at.get(job_id, now) <= now]
        for job_id in passing:
            self._next_at[job_id] = now + self._every_s
        return [self._held.pop(job_id) for job_id in passing]

    def next_at(self) -> float:
        """When the next of those held may pass; infinity when none is held."""
        return min((self._next_at[job_id] for job_id in self._held if job_id in self._next_at), default=float("inf"))
