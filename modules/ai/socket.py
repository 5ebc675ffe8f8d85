"""The WebSocket of one server: a hint, never the truth. Everything it says can also be learnt by asking."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol
from uuid import uuid4

import aiohttp
import structlog

from modules.ai.client import ComfyClient
from modules.ai.frames import FEATURE_FLAGS, Executing, Frame, Preview, Status, read_binary, read_text
from modules.domain.errors import FulletError

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
#: A connection that said something beyond its first status, or stayed open for so long, was one. A proxy that does not pass
#: WebSockets on may accept a connection, even answer it once, and drop it.
_LIVED_AFTER_S = 2.0

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """Who follows a prompt."""

    def feed(self, frame: Frame) -> None:
        """A frame of that prompt."""
        ...

    def wake(self) -> None:
        """The socket came or went."""
        ...


class EventSocket:
    """Keeps one connection open and hands every frame to the listener of its prompt.

    Each connection has a client id of its own: ComfyUI forgets an id when *any* socket with that id closes, so a half-dead old
    connection would silence a new one. A prompt posted under an earlier id is followed by polling alone.
    """

    def __init__(self, client: ComfyClient) -> None:
        self._client = client
        self._listeners: dict[str, Listener] = {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._client_id = str(uuid4())
        self._nudge = asyncio.Event()
        self._live = asyncio.Event()
        self._running: str | None = None
        self._frames = 0  #: that told something on the present connection, its first status included
        #: The next connection may be to a server that was restarted: the last one lived, or nobody was there since.
        self._may_be_new = True
        #: How often it connected to a server that may have been restarted since the time before. One that accepts connections
        #: only to drop them tells nothing new each time.
        self.queue_remaining = 0  #: prompts that run or wait there, whoever posted them; 0 while it is not connected
        self.connections = 0

    @property
    def client_id(self) -> str:
        """Post under this id: that of the open connection, or of the one that is coming."""
        return self._client_id

    def is_live(self, client_id: str | None) -> bool:
        """Whether frames of prompts posted under this id can arrive now."""
        return self._live.is_set() and client_id == self._client_id

    def listen(self, prompt_id: str, listener: Listener) -> None:
        """Send the frames of this prompt there."""
        self._listeners[prompt_id] = listener

    def ignore(self, prompt_id: str) -> None:
        """No more."""
        self._listeners.pop(prompt_id, None)

    def nudge(self) -> None:
        """The server is there: connect now instead of after the wait."""
        self._nudge.set()

    async def wait_live(self, timeout_s: float) -> bool:
        """Whether it is open, or became so in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._live.wait()
        except TimeoutError:
            return False
        return True

    async def renew(self) -> None:
        """It is open but tells nothing of what happens: start over under a new id."""
        log.info("event_socket_renewed")
        self._nudge.set()
        if self._socket is not None:
            await self._socket.close()

    async def run(self) -> None:
        """Connect, read, reconnect; until cancelled."""
        wait_s = _FIRST_WAIT_S
        while True:
            if await self._stay_connected():
                wait_s, self._may_be_new = _FIRST_WAIT_S, True
            await self._pause(random.uniform(wait_s / 2, wait_s))
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    async def _stay_connected(self) -> bool:
        """One connection from beginning to end; whether it lived."""
        loop = asyncio.get_running_loop()
        self._frames, opened_at = 0, None
        try:
            async with self._client.events(self._client_id) as socket:
                await socket.send_str(FEATURE_FLAGS)
                self._socket, opened_at = socket, loop.time()
                self.connections += self._may_be_new
                self._may_be_new = False
                self._live.set()
                async for message in socket:
                    self._read(message)
        except FulletError as error:
            self._may_be_new = True
            log.debug("event_socket_unavailable", code=error.code.value)
        except (aiohttp.ClientError, OSError) as error:
            log.debug("event_socket_broke", error=type(error).__name__)
        except Exception:  # a supervisor: a fault of ours in reading one frame must not end all hints; polling carries on
            log.exception("event_socket_failed")
        finally:
            self._forget_connection()
        return opened_at is not None and (self._frames > 1 or loop.time() - opened_at >= _LIVED_AFTER_S)

    def _forget_connection(self) -> None:
        self._live.clear()
        self._socket, self._running, self._client_id = None, None, str(uuid4())
        self.queue_remaining = 0
        for listener in list(self._listeners.values()):
            listener.wake()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._nudge.wait()
        except TimeoutError:
            pass
        self._nudge.clear()

    def _read(self, message: aiohttp.WSMessage) -> None:
        frame: Frame | None = None
        if message.type is aiohttp.WSMsgType.TEXT:
            frame = read_text(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            frame = read_binary(message.data)
        self._frames += frame is not None
        if isinstance(frame, Status):
            self.queue_remaining = frame.status.exec_info.queue_remaining
        if frame is None or isinstance(frame, Status):
            return
        prompt_id = self._owner_of(frame)
        if prompt_id is not None and (listener := self._listeners.get(prompt_id)) is not None:
            listener.feed(frame)

    def _owner_of(self, frame: Frame) -> str | None:
        """The prompt a frame belongs to.

        A preview without a prompt id (event 1) belongs to the prompt that surely runs: the one whose frames came last, on this
        connection, and that has not ended. Previews of strangers' prompts posted without a client id are sent to everybody.
        """
        if isinstance(frame, Preview) and frame.prompt_id is None:
            return self._running
        prompt_id = frame.prompt_id if not isinstance(frame, Status) else None
        if prompt_id is not None and not isinstance(frame, Preview):
            self._running = None if isinstance(frame, Executing) and frame.is_end else prompt_id
        return prompt_id
