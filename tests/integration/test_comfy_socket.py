"""The event socket against a server that says exactly what a test tells it to."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from modules.ai.client import ComfyClient
from modules.ai.frames import Executing, Frame, Preview, Progress
from modules.ai.socket import EventSocket
from modules.sandbox.comfy_server import ComfySandbox
from tests.support.comfy_recordings import binary

EVENT_1 = binary("preview_type1_jpeg.bin")
EVENT_4 = binary("preview_type4_metadata.bin")
#: The prompt that EVENT_4 was recorded with.
RECORDED = "2eec0e76-77e2-4216-80ac-15e0ef1d09d6"


class Speaker:
    """The server's end: one connection after another, each under the id the client gave."""

    def __init__(self) -> None:
        self.client_ids: list[str] = []
        self.first_words: list[str] = []
        self.url = ""
        self._open: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()
        self._now: web.WebSocketResponse | None = None

    async def connected(self) -> None:
        """Wait for the next connection, and speak on it from now on."""
        async with asyncio.timeout(5):
            self._now = await self._open.get()

    async def say(self, kind: str, **data: object) -> None:
        assert self._now is not None
        await self._now.send_str(json.dumps({"type": kind, "data": data}))

    async def show(self, frame: bytes) -> None:
        assert self._now is not None
        await self._now.send_bytes(frame)

    async def hang_up(self) -> None:
        assert self._now is not None
        await self._now.close()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.client_ids.append(request.query["clientId"])
        self.first_words.append(await socket.receive_str())
        await self._open.put(socket)
        async for message in socket:
            if message.type is WSMsgType.CLOSE:
                break
        return socket


class Ear:
    """A listener that can be waited for."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.woken = 0
        self._bell = asyncio.Event()

    def feed(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._bell.set()

    def wake(self) -> None:
        self.woken += 1
        self._bell.set()

    async def hears(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.frames) < count:
                self._bell.clear()
                await self._bell.wait()

    @property
    def previews(self) -> int:
        return sum(isinstance(frame, Preview) for frame in self.frames)


@asynccontextmanager
async def a_conversation() -> AsyncIterator[tuple[Speaker, EventSocket]]:
    speaker = Speaker()
    app = web.Application()
    app.router.add_get("/ws", speaker.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with ComfyClient(f"http://{host}:{port}") as client:
        socket = EventSocket(client)
        running = asyncio.create_task(socket.run())
        try:
            await speaker.connected()
            yield speaker, socket
        finally:
            running.cancel()
            await asyncio.wait([running])
    await runner.cleanup()


async def test_the_first_words_ask_for_previews_that_say_whose_they_are() -> None:
    async with a_conversation() as (speaker, _socket):
        assert json.loads(speaker.first_words[0]) == {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


async def test_every_connection_has_an_id_of_its_own_and_announces_itself_again() -> None:
    async with a_conversation() as (speaker, socket):
        first = socket.client_id
        assert socket.is_live(first)
        ear = Ear()
        socket.listen("p", ear)
        await speaker.hang_up()
        await speaker.connected()
        assert await socket.wait_live(5)
        assert ear.woken == 1
        assert not socket.is_live(first)
        assert socket.is_live(socket.client_id)
        assert speaker.client_ids == [first, socket.client_id]
    assert len(set(speaker.first_words)) == 1
    assert len(speaker.first_words) == 2


async def test_frames_go_to_the_listener_of_their_prompt() -> None:
    async with a_conversation() as (speaker, socket):
        mine, other = Ear(), Ear()
        socket.listen("mine", mine)
        socket.listen("other", other)
        await speaker.say("progress", prompt_id="other", node="3", value=1, max=4)
        await speaker.say("progress", prompt_id="nobody", node="3", value=1, max=4)
        await speaker.say("executing", prompt_id="mine", node=None)
        await mine.hears(1)
        assert [type(frame) for frame in mine.frames] == [Executing]
        assert [type(frame) for frame in other.frames] == [Progress]


async def test_a_preview_without_an_id_belongs_to_the_prompt_that_surely_runs() -> None:
    async with a_conversation() as (speaker, socket):
        mine = Ear()
        socket.listen("mine", mine)
        await speaker.show(EVENT_1)  # before anything is known to run
        await speaker.say("execution_start", prompt_id="mine")
        await speaker.show(EVENT_1)
        await speaker.say("executing", prompt_id="mine", node=None)
        await speaker.show(EVENT_1)  # after its end
        await speaker.say("progress", prompt_id="mine", node="end of test")
        await mine.hears(4)
        assert mine.previews == 1


async def test_a_strangers_broadcast_preview_is_nobodys() -> None:
    """A prompt posted without a client id sends its progress and previews to everybody, also to those who only wait."""
    async with a_conversation() as (speaker, socket):
        mine = Ear()
        socket.listen("mine", mine)
        await speaker.say("progress", prompt_id="stranger", node="3", value=1, max=4)
        await speaker.show(EVENT_1)
        await speaker.say("progress", prompt_id="mine", node="end of test")
        await mine.hears(1)
        assert mine.previews == 0


async def test_a_preview_that_names_its_prompt_goes_there_whatever_runs() -> None:
    async with a_conversation() as (speaker, socket):
        mine, recorded = Ear(), Ear()
        socket.listen("mine", mine)
        socket.listen(RECORDED, recorded)
        await speaker.say("execution_start", prompt_id="mine")
        await speaker.show(EVENT_4)
        await recorded.hears(1)
        assert (mine.previews, recorded.previews) == (0, 1)


async def test_nonsense_on_the_socket_ends_nothing() -> None:
    async with a_conversation() as (speaker, socket):
        mine = Ear()
        socket.listen("mine", mine)
        await speaker.show(b"")
        await speaker.show(b"\0\0\0\4\xff\xff\xff\xff{}")
        await speaker.say("crystools.monitor", cpu=3)
        await speaker.say("executing", node={"an": "object"}, prompt_id=5)
        await speaker.say("progress", prompt_id="mine", node="3", value=1, max=4)
        await mine.hears(1)
        assert len(speaker.client_ids) == 1


async def test_renewing_comes_back_under_another_id_at_once() -> None:
    async with a_conversation() as (speaker, socket):
        first = socket.client_id
        await socket.renew()
        await speaker.connected()
        assert await socket.wait_live(5)
        assert socket.client_id != first


async def test_a_connection_that_is_taken_and_dropped_at_once_is_tried_ever_more_rarely() -> None:
    async with ComfySandbox(time_scale=0.0) as sandbox, ComfyClient(sandbox.url) as client:
        fault = sandbox.fail("ws_flap", times=None, after_status=True)
        socket = EventSocket(client)
        running = asyncio.create_task(socket.run())
        try:
            async with asyncio.timeout(30):
                while fault.struck < 5:  # noqa: ASYNC110 - the stand-in counts
                    await asyncio.sleep(0.02)
            moments = [line.t for line in sandbox.journal.requests if line.path == "/ws"]
            waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
            assert waits[3] >= 2.0, "the wait before the fifth is at least half of 4 s"
            assert socket.connections == 1, "nothing new came with the later ones"
            sandbox.faults.clear()
            socket.nudge()
            assert await socket.wait_live(5)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_a_connection_that_lived_is_made_anew_at_once_and_may_be_to_a_restarted_server() -> None:
    async with a_conversation() as (speaker, socket):
        await speaker.say("status", status={"exec_info": {"queue_remaining": 0}})
        ear = Ear()
        socket.listen("p", ear)
        await speaker.say("executing", node="1", prompt_id="p")
        await ear.hears(1)
        before = socket.connections
        await speaker.hang_up()
        await speaker.connected()
        assert await socket.wait_live(5)
        assert socket.connections == before + 1
