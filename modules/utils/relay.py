"""Events across processes: what one process of the house publishes, the others hear. Hints still; the database is the truth."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import inspect
import json
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

import structlog

from modules.domain import events as kinds
from modules.domain.errors import FulletError
from modules.domain.events import Event, JobPreviewed
from modules.domain.jobs import IN_FLIGHT_STATES, JobId, JobState
from modules.domain.servers import InMemory
from modules.utils.bus import EventBus
from modules.utils.database import MAX_PAYLOAD_BYTES, Database

log = structlog.get_logger(__name__)

TOPIC = "event"
#: A preview does not fit a notification (8,000 bytes); its bytes go through the shared facts, its key through the hint.
PREVIEW_PREFIX = "preview."
#: Events heard from elsewhere that we must not say again; more than that are never under way at once.
_MAX_FOREIGN = 4_000
#: Previews of jobs that no server has any more are removed this often.
SWEEP_PREVIEWS_EVERY_S = 60.0
#: More jobs than any house has on its servers at once.
_MAX_IN_FLIGHT = 10_000
#: Removed in one transaction.
_SWEPT_AT_ONCE = 500

_KINDS: dict[str, Callable[..., Event]] = {
    kind.__name__: kind
    for kind in (
        kinds.JobAccepted,
        kinds.QueueChanged,
        kinds.JobStarted,
        kinds.JobProgressed,
        kinds.JobPreviewed,
        kinds.JobFinishing,
        kinds.JobRequeued,
        kinds.JobStranded,
        kinds.JobSettled,
        kinds.ServerLost,
        kinds.ServerBack,
        kinds.ServerTrouble,
        kinds.QueuePaused,
    )
}


class EventRelay:
    """Carries events between this process' bus and everybody else's. Run `send` and `heard` in the same process."""

    def __init__(self, bus: EventBus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._foreign: OrderedDict[int, Event] = OrderedDict()
        self._previewed: set[JobId] = set()  #: jobs of which this process has stored a preview

    async def send(self) -> None:
        """Tell the others what is published here, for ever.

        A changed queue is not told: the stores tell it to every process, in the transaction that changes it.
        """
        async with self._bus.subscribe() as events:
            async for event in events:
                is_foreign = self._foreign.pop(id(event), None) is event
                if isinstance(event, (kinds.JobSettled, kinds.JobRequeued)) and event.job_id in self._previewed:
                    await self._forget_preview(event.job_id)
                if not is_foreign and not isinstance(event, kinds.QueueChanged):
                    await self._tell(event)

    async def sweep(self) -> None:
        """Remove the previews of jobs that are over, for ever: late ones and those of a process that died are left to this."""
        while True:
            try:
                await self.sweep_once()
            except FulletError as error:
                log.debug("previews_not_swept", error=error.code.value)
            await asyncio.sleep(SWEEP_PREVIEWS_EVERY_S)

    async def sweep_once(self) -> None:
        """Remove the previews of jobs that no server has. Raises DATABASE_UNAVAILABLE."""
        stored = await self._database.control.keys(PREVIEW_PREFIX)  # before the jobs: what begins meanwhile is not among them
        if not stored:
            return
        running = await self._database.jobs.jobs(states=IN_FLIGHT_STATES, limit=_MAX_IN_FLIGHT)
        stale = sorted(set(stored) - {PREVIEW_PREFIX + str(job.id) for job in running})
        for start in range(0, len(stale), _SWEPT_AT_ONCE):  # an earlier version may have left very many
            await self._database.control.remove(stale[start : start + _SWEPT_AT_ONCE])

    async def heard(self, payload: str) -> None:
        """Publish here what another process told."""
        event = await self._read(payload)
        if event is None:
            return
        self._foreign[id(event)] = event  # kept alive until `send` meets it, so its id is its own
        while len(self._foreign) > _MAX_FOREIGN:
            self._foreign.popitem(last=False)
        self._bus.publish(event)

    async def _tell(self, event: Event) -> None:
        try:
            if isinstance(event, JobPreviewed):
                self._previewed.add(event.job_id)
                await self._database.control.set(PREVIEW_PREFIX + str(event.job_id), base64.b64encode(event.jpeg).decode())
            payload = written(event)
            if len(payload.encode()) <= MAX_PAYLOAD_BYTES:
                await self._database.notify(TOPIC, payload)
        except FulletError as error:
            log.debug("event_not_relayed", error=error.code.value)

    async def _forget_preview(self, job_id: JobId) -> None:
        self._previewed.discard(job_id)
        try:
            await self._database.control.remove([PREVIEW_PREFIX + str(job_id)])
        except FulletError as error:
            log.debug("preview_not_removed", error=error.code.value)  # the sweep finds it

    async def _read(self, payload: str) -> Event | None:
        event = read(payload)
        if not isinstance(event, JobPreviewed):
            return event
        try:
            stored = await self._database.control.get(PREVIEW_PREFIX + str(event.job_id))
        except FulletError:
            return None
        return dataclasses.replace(event, jpeg=base64.b64decode(stored)) if stored else None


def written(event: Event) -> str:
    """One line of JSON; a preview without its bytes."""
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event) if field.name != "jpeg"}
    return json.dumps({"kind": type(event).__name__, **fields}, default=str, separators=(",", ":"))


def read(payload: str) -> Event | None:
    """The event of a line; None for what a newer version of us may have said."""
    try:
        fields = json.loads(payload)
        kind = _KINDS[fields.pop("kind")]
        known = set(inspect.signature(kind).parameters)
        values = {name: _PARSERS.get(name, _as_it_is)(value) for name, value in fields.items() if name in known}
        if "jpeg" in known:
            values["jpeg"] = b""
        return kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _as_it_is(value: object) -> object:
    return value


def _job_id(value: object) -> object:
    return JobId(UUID(str(value)))


def _state(value: object) -> object:
    return JobState(str(value))


def _in_memory(value: object) -> object:
    return InMemory(str(value))


_PARSERS: dict[str, Callable[[object], object]] = {"job_id": _job_id, "state": _state, "in_memory": _in_memory}
