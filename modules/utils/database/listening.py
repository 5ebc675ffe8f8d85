"""LISTEN/NOTIFY: wake-ups across processes, over one direct connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]  # the driver ships no types
import structlog

from modules.utils.database.wakeups import Hub, Wakeup

log = structlog.get_logger(__name__)

CHANNEL = "fullet"
#: PostgreSQL takes payloads shorter than 8,000 bytes; ours carry their origin and topic in front. Source: its manual, "NOTIFY".
MAX_PAYLOAD_BYTES = 7_900
_MAX_TOPIC_BYTES = 60
#: How often a silent connection is asked whether it is still there.
_PULSE_S = 30.0
_FIRST_CONNECT_S = 5.0
_RETRY_S = (0.5, 30.0)


def packed(wakeup: Wakeup, origin: str) -> str:
    """One line for the wire. Raises ValueError when it does not fit."""
    if len(wakeup.payload.encode()) > MAX_PAYLOAD_BYTES or len(wakeup.topic.encode()) > _MAX_TOPIC_BYTES or " " in wakeup.topic:
        raise ValueError(f"a wake-up carries a word and at most {MAX_PAYLOAD_BYTES} bytes")
    return f"{origin} {wakeup.topic} {wakeup.payload}"


class Listener:
    """Keeps one connection that listens, for as long as it is started. Losing it is said once; hints then wait for the clock."""

    def __init__(self, connect: Mapping[str, object], hub: Hub) -> None:
        self._connect: dict[str, Any] = dict(connect)
        self._hub = hub
        self._task: asyncio.Task[None] | None = None
        self._is_listening = asyncio.Event()
        #: Names this process in what it sends, so that it does not hear itself twice.
        self.origin = uuid4().hex[:12]

    async def start(self) -> None:
        """Returns once it listens, or after a few seconds without: the house works (a little slower) without hints."""
        self._task = asyncio.create_task(self._keep_listening(), name="database-listener")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_CONNECT_S):
                await self._is_listening.wait()

    async def stop(self) -> None:
        """Ends the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _keep_listening(self) -> None:
        pause_s, is_said = _RETRY_S[0], False
        while True:
            try:
                await self._listen()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if self._is_listening.is_set():
                    pause_s, is_said = _RETRY_S[0], False
                if not is_said:
                    log.warning("database_listener_lost", reason=type(error).__name__)
                    is_said = True
            self._is_listening.clear()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(_RETRY_S[1], pause_s * 2)

    async def _listen(self) -> None:
        """Until the connection is lost."""
        connection = await asyncpg.connect(**self._connect)
        try:
            await connection.add_listener(CHANNEL, self._on_notification)
            self._is_listening.set()
            log.info("database_listener_connected")
            self._hub.publish_lost_track()
            await self._until_lost(connection)
        finally:
            connection.terminate()

    async def _until_lost(self, connection: asyncpg.Connection) -> None:
        is_gone = asyncio.Event()
        connection.add_termination_listener(lambda _connection: is_gone.set())
        while not connection.is_closed():
            try:
                async with asyncio.timeout(_PULSE_S):
                    await is_gone.wait()
            except TimeoutError:  # quiet for long: a line that was cut says nothing by itself
                await connection.execute("SELECT 1")
        raise ConnectionResetError

    def _on_notification(self, _connection: object, _pid: int, _channel: str, message: object) -> None:
        match str(message).split(" ", 2):
            case [origin, topic, payload] if origin != self.origin:
                self._hub.publish([Wakeup(topic, payload, is_own=False)])
            case _:  # our own echo, or a stranger on our channel
                return
