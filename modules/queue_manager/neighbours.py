"""Servers that other processes of the house drive: told through the shared facts, seen here like our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from modules.domain.errors import FulletError
from modules.domain.events import QueueChanged
from modules.domain.jobs import JobId, ServerName, WorkClass
from modules.domain.queue import ServerStatus
from modules.queue_manager.crew import Colleague, Crew
from modules.queue_manager.scheduler import ServerView
from modules.queue_manager.worker import Worker

log = structlog.get_logger(__name__)

STATUS_PREFIX = "server.status."
#: How often a worker's process tells how its servers are, and how old such news may be before the process counts as dead.
TELL_EVERY_S = 1.0
NEWS_LIFE = timedelta(seconds=10)


@dataclass(slots=True, kw_only=True)
class Neighbour:
    """A server of another process; implements the crew's `Colleague`."""

    status: ServerStatus
    loaded: str | None
    free_at: datetime
    told_at: datetime
    caps: dict[str, int] = field(default_factory=dict)  #: exact key -> pictures; a key that is missing cannot run there
    lacking: frozenset[str] = frozenset()  #: exact keys that cannot run there, of those that its process knows
    refused: frozenset[JobId] = frozenset()  #: not to be tried there again
    left_to_others: frozenset[JobId] = frozenset()  #: those of them that it does not take now
    ends_at: Mapping[JobId, datetime] = field(default_factory=dict)  #: of the jobs it has taken
    now: datetime

    @property
    def is_up(self) -> bool:
        """Takes work, as far as its last news say."""
        return self.status.state == "healthy" and self.now - self.told_at <= NEWS_LIFE

    @property
    def is_away(self) -> bool:
        """As its last news say; a server whose process is dead draws nothing either."""
        return self.status.state == "away" or self.now - self.told_at > NEWS_LIFE

    def view(self) -> ServerView:
        """The server for the scheduler."""
        free_in_s = max(0.0, (self.free_at - self.now).total_seconds())
        return ServerView(name=self.status.name, loaded=self.loaded, free_in_s=free_in_s, refused=self.left_to_others)

    def taken(self) -> Mapping[JobId, float]:
        """As its last news say; what it took since then is not in them. Of a dead process' jobs nobody knows."""
        if self.now - self.told_at > NEWS_LIFE:
            return {}
        return {job_id: max(0.0, (ends_at - self.now).total_seconds()) for job_id, ends_at in self.ends_at.items()}

    def can_run(self, work: WorkClass) -> bool:
        """Whether its process said so."""
        return work.exact_key in self.caps

    def lacks(self, work: WorkClass) -> bool | None:
        """Whether its process said so of this very work."""
        if work.exact_key in self.caps:
            return False
        return True if work.exact_key in self.lacking else None

    def cap(self, work: WorkClass) -> int:
        """Pictures that may share one attempt there."""
        return self.caps.get(work.exact_key, 1)

    def refuses(self, job_id: JobId) -> bool:
        """Whether its process said so."""
        return job_id in self.refused


class Neighbours:
    """Tells the others of our servers, and learns of theirs."""

    def __init__(self, crew: Crew, workers: Iterable[Worker]) -> None:
        self._crew = crew
        self._workers = tuple(workers)
        self.statuses: tuple[ServerStatus, ...] = ()

    async def run(self) -> None:
        """Tell and learn, for ever; a database that is away is somebody else's news."""
        while True:
            try:
                await self._tell()
                await self.learn()
            except FulletError as error:
                log.debug("neighbours_not_asked", error=error.code.value)
            await asyncio.sleep(TELL_EVERY_S)

    async def learn(self) -> None:
        """Read the others' news into the crew."""
        texts = (await self._crew.control.with_prefix(STATUS_PREFIX)).values()
        now, own = self._crew.clock.now(), {worker.server.name: worker for worker in self._workers}
        driven = {name for name, worker in own.items() if worker.is_driving}
        found = [_read(text, now) for text in texts]
        neighbours = {one.status.name: one for one in found if one is not None and one.status.name not in driven}
        before = {name for name, one in self._crew.colleagues.items() if name not in driven and one.is_up}
        # Of a server that we only stand by for, its driver's news count; ours are from before we lost it, or none at all.
        colleagues: dict[ServerName, Colleague] = {**own, **neighbours}
        for name in self._crew.colleagues.keys() - colleagues.keys():
            del self._crew.colleagues[name]
        self._crew.colleagues.update(colleagues)
        self.statuses = tuple(one.status for one in neighbours.values() if now - one.told_at <= NEWS_LIFE)
        if before != {name for name, one in neighbours.items() if one.is_up}:
            self._crew.events.publish(QueueChanged())  # a server came or went, or the process that drives it died

    async def _tell(self) -> None:
        classes = self._crew.classes or await self._crew.waiting_classes()
        for worker in (one for one in self._workers if one.is_driving):
            caps = {key: worker.cap(work) for key, work in classes.items() if worker.can_run(work)}
            lacking = [key for key, work in classes.items() if worker.lacks(work)]
            news = _written(worker, caps, lacking, self._crew.clock.now())
            await self._crew.control.set(STATUS_PREFIX + worker.server.name, news)


def _written(worker: Worker, caps: dict[str, int], lacking: Sequence[str], now: datetime) -> str:
    status, view = worker.status(), worker.view()
    return json.dumps(
        {
            "name": status.name,
            "state": status.state,
            "since": status.since.isoformat(),
            "version": status.version,
            "merge_protocol": status.merge_protocol,
            "running": [str(job_id) for job_id in status.running],
            "ahead": [str(job_id) for job_id in status.ahead],
            "pictures_per_minute": status.pictures_per_minute,
            "last_error": status.last_error,
            "learned_caps": dict(status.caps),
            "loaded": view.loaded,
            "free_at": (now + timedelta(seconds=view.free_in_s)).isoformat(),
            "ends_at": {str(job_id): (now + timedelta(seconds=left_s)).isoformat() for job_id, left_s in worker.taken().items()},
            "told_at": now.isoformat(),
            "caps": caps,
            "lacking": lacking,
            "refused": [str(job_id) for job_id in worker.refused],
            "left_to_others": [str(job_id) for job_id in view.refused],
        }
    )


def _read(text: str, now: datetime) -> Neighbour | None:
    """None for what a newer version of us may have written."""
    try:
        news = json.loads(text)
        status = ServerStatus(
            name=ServerName(news["name"]),
            state=news["state"],
            since=datetime.fromisoformat(news["since"]),
            version=news["version"],
            merge_protocol=news["merge_protocol"],
            loaded=news["loaded"],
            running=tuple(JobId(UUID(one)) for one in news["running"]),
            ahead=tuple(JobId(UUID(one)) for one in news["ahead"]),
            pictures_per_minute=news["pictures_per_minute"],
            last_error=news["last_error"],
            caps=news["learned_caps"],
        )
        refused = frozenset(JobId(UUID(one)) for one in news.get("refused", ()))
        return Neighbour(
            status=status,
            loaded=news["loaded"],
            free_at=datetime.fromisoformat(news["free_at"]),
            told_at=datetime.fromisoformat(news["told_at"]),
            caps=news["caps"],
            lacking=frozenset(news.get("lacking", ())),
            refused=refused,
            left_to_others=frozenset(JobId(UUID(one)) for one in news["left_to_others"]) if "left_to_others" in news else refused,
            ends_at={JobId(UUID(one)): datetime.fromisoformat(at) for one, at in news.get("ends_at", {}).items()},
            now=now,
        )
    except (ValueError, KeyError, TypeError):
        return None
