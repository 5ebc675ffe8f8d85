"""Events across processes: what one process of the house publishes, the others hear. Hints still; the database is the truth."""

from __future__ import annotations

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
from modules.domain.jobs import JobId, JobState
from modules.domain.servers import InMemory
from modules.utils.bus import EventBus
from modules.utils.database import MAX_PAYLOAD_BYTES, Database

log = structlog.get_logger(__name__)

TOPIC = "event"
#: A preview does not fit a notification (8,000 bytes); its bytes go through the shared facts, its key through the hint.
PREVIEW_PREFIX = "preview."
#: Events heard from elsewhere that we must not say again; more than that are never under way at once.
_MAX_FOREIGN = 4_000

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
        kinds.QueuePaused,
    )
}


class EventRelay:
    """Carries events between this process' bus and everybody else's. Run `send` and `heard` in the same process."""

    def __init__(self, bus: EventBus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._foreign: OrderedDict[int, Event] = OrderedDict()

    async def send(self) -> None:
        """Tell the others what is published here, for ever."""
        async with self._bus.subscribe() as events:
            async for event in events:
                if self._foreign.pop(id(event), None) is not event:
                    await self._tell(event)

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
                await self._database.control.set(PREVIEW_PREFIX + str(event.job_id), base64.b64encode(event.jpeg).decode())
            elif isinstance(event, kinds.JobSettled):
                await self._database.control.set(PREVIEW_PREFIX + str(event.job_id), None)
            payload = written(event)
            if len(payload.encode()) <= MAX_PAYLOAD_BYTES:
                await self._database.notify(TOPIC, payload)
        except FulletError as error:
            log.debug("event_not_relayed", error=error.code.value)

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
