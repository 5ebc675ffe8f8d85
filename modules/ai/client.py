"""A thin client of one ComfyUI server: every request it knows, typed answers, typed errors, nothing remembered.

How a request travels, and what becomes of an answer that is not what was asked for, stands in `http_exchange.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import stamina
from aiohttp import FormData
from pydantic import BaseModel

from modules.ai import wire
from modules.ai.http_exchange import (
    LONG_TIMEOUT_S,
    MIB,
    NGROK_HEADER,
    QUICK_TIMEOUT_S,
    SMALL_BYTES,
    HttpExchange,
    NotConnectedError,
    Received,
    code_of_status,
    is_worth_another_try,
)
from modules.domain.errors import ErrorCode
from modules.domain.jobs import AttemptId
from modules.domain.servers import BodyKind, ServerAnswer, ServerAnswerError, ServerCall

__all__ = ["MAX_FILE_BYTES", "NGROK_HEADER", "TRIES", "Answer", "ComfyClient", "NotConnectedError"]

#: The socket closes itself when no pong comes back: ComfyUI never pings.
HEARTBEAT_S = 20.0
#: A final PNG may come as a preview frame (SaveImageWebsocket); aiohttp's own default is 4 MiB.
MAX_FRAME_BYTES = 32 * MIB

# The most bytes of each kind of answer, after unpacking. Measured sizes are those of a stock ComfyUI 0.33.0 (tests/recordings).
#: Full-size outputs: a 4x upscale of one megapixel is a PNG of some 30 MB.
MAX_FILE_BYTES = 96 * MIB
#: `/object_info`: 1.6 MB for 889 nodes; every installed pack and every file in a list adds to it.
MAX_NODES_BYTES = 48 * MIB
#: `/queue` holds whole graphs: 588 KB for 600 waiting prompts.
MAX_QUEUE_BYTES = 24 * MIB
#: One prompt's job or history: its graph, its messages, and on an error its inputs.
MAX_PROMPT_BYTES = 16 * MIB
#: Larger texts are decoded in a thread, so that the loop goes on.
_SLOW_JSON_BYTES = 256 * 1024

#: What a server without a route of our node pack says: to a GET, and to a POST (its own pages take no POST).
_NO_ROUTE = (404, 405)

TRIES = 4
#: How often a server is asked for its health when an answer raises doubt: the answer decides what people are told, in seconds.
HEALTH_TRIES = 2
HEALTH_TIMEOUT_S = 5.0

ReplyT = TypeVar("ReplyT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer below 500. `body` is None where the server sent no JSON (`/interrupt`, a missing route)."""

    status: int
    body: object | None
    received: Received

    def read(self, model: type[ReplyT]) -> ReplyT:
        """Parse the body of a 200 or 400; raises SERVER_NOT_COMFYUI for anything else."""
        try:
            return wire.read(model, self.required())
        except wire.UnreadableError as error:
            raise self.received.refusal(ErrorCode.SERVER_NOT_COMFYUI) from error

    def required(self) -> object:
        """The body of a 200 or 400."""
        if self.status not in (200, 400) or self.body is None:
            raise self.received.refusal(ErrorCode.SERVER_NOT_COMFYUI)
        return self.body


class ComfyClient:
    """One server, one HTTP session; open it with `async with`."""

    def __init__(self, base_url: str, *, key: str | None = None) -> None:
        self._http = HttpExchange(base_url, key=key)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._http.__aexit__(kind, error, trace)

    # --- what it is and has ---------------------------------------------------------------------------------------------

    async def system_stats(self, *, tries: int = TRIES, timeout_s: float = QUICK_TIMEOUT_S) -> wire.SystemStats:
        """Version, device, memory."""
        return (await self._get(ServerCall.STATUS, "/system_stats", tries=tries, timeout_s=timeout_s)).read(wire.SystemStats)

    async def object_info(self) -> dict[str, object]:
        """Every node class by name, as `listing.py` reads it."""
        answer = await self._get(ServerCall.NODES, "/object_info", timeout_s=LONG_TIMEOUT_S, max_bytes=MAX_NODES_BYTES)
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise answer.received.refusal(ErrorCode.SERVER_NOT_COMFYUI)
        return answer.body

    # --- where prompts stand --------------------------------------------------------------------------------------------

    async def job(self, prompt_id: str, *, tries: int = TRIES) -> wire.JobInfo | bool:
        """`/api/jobs/{id}`: the job, True when the server knows the route but not the job, False when it has no such route."""
        answer = await self._get(ServerCall.FOLLOW, f"/api/jobs/{prompt_id}", tries=tries, max_bytes=MAX_PROMPT_BYTES)
        if answer.status == 404:
            return isinstance(answer.body, dict) and "error" in answer.body
        return answer.read(wire.JobInfo)

    async def queue(self, *, tries: int = TRIES) -> wire.QueueState:
        """Running and pending. Ask this before the history: the other order can miss a prompt that just finished."""
        return (await self._get(ServerCall.FOLLOW, "/queue", tries=tries, max_bytes=MAX_QUEUE_BYTES)).read(wire.QueueState)

    async def history(self, prompt_id: str, *, tries: int = TRIES) -> wire.HistoryEntry | None:
        """None for unknown, pending and running alike."""
        answer = await self._get(ServerCall.FOLLOW, f"/history/{prompt_id}", tries=tries, max_bytes=MAX_PROMPT_BYTES)
        try:
            return wire.read_history(answer.required()).get(prompt_id)
        except wire.UnreadableError as error:
            raise answer.received.refusal(ErrorCode.SERVER_NOT_COMFYUI) from error

    # --- doing things ---------------------------------------------------------------------------------------------------

    async def post_prompt(
        self, graph: Mapping[str, object], *, prompt_id: str, client_id: str, extra_data: Mapping[str, object]
    ) -> wire.PromptAccepted | wire.PromptRejected:
        """Queue a graph under an id of ours. Sent at most once: repeated only while no connection came about at all.

        Raises SERVER_UNREACHABLE when the answer got lost; the prompt may then have been accepted. `number` is never sent: two
        entries equal in it and in id kill the server's worker thread. `client_id` is always sent, and a string: without one the
        prompt's previews go to everybody.
        """
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id, "extra_data": extra_data}
        async for attempt in stamina.retry_context(
            on=NotConnectedError, attempts=3, timeout=None, wait_initial=0.3, wait_max=2.0
        ):
            with attempt:
                answer = await self._send(ServerCall.POST, "POST", "/prompt", json_body=body, timeout_s=LONG_TIMEOUT_S)
        return answer.read(wire.PromptRejected) if answer.status == 400 else answer.read(wire.PromptAccepted)

    async def upload(self, data: bytes, *, name: str, folder: str, media_type: str) -> wire.UploadAnswer:
        """Store an input picture. Repeating is safe: the same name with the same bytes keeps its name, nothing is overwritten."""
        async for attempt in stamina.retry_context(on=is_worth_another_try, attempts=TRIES, timeout=None, wait_initial=0.5):
            with attempt:
                form = FormData()  # consumed by one request, so made anew for each try
                form.add_field("image", BytesIO(data), filename=name, content_type=media_type)
                form.add_field("subfolder", folder)
                answer = await self._send(ServerCall.UPLOAD, "POST", "/upload/image", form=form, timeout_s=LONG_TIMEOUT_S)
        return answer.read(wire.UploadAnswer)

    async def view(self, filename: str, *, kind: wire.FileKind = "output") -> bytes | None:
        """A file's bytes by its name inside that folder (subfolders included); None when it is not there.

        Asked once: whoever fetches decides whether, and how often, to ask again.
        """
        received = await self._http.ask(
            ServerCall.FETCH,
            "GET",
            "/view",
            params=_place_of(filename, kind),
            timeout_s=LONG_TIMEOUT_S,
            max_bytes=MAX_FILE_BYTES,
        )
        if received.status in (400, 404):
            return None
        if received.status != 200:
            raise received.refusal(ErrorCode.SERVER_NOT_COMFYUI)
        return received.data

    async def has_file(self, filename: str) -> bool:
        """Whether an output of this name exists."""
        place = _place_of(filename, "output")
        received = await self._http.ask(ServerCall.FETCH, "HEAD", "/view", params=place, max_bytes=MAX_FILE_BYTES)
        return received.status == 200

    async def delete_pending(self, prompt_id: str) -> None:
        """Remove it from the queue if it waits; no effect on a running one."""
        await self._expect_ok("/queue", {"delete": [prompt_id]})

    async def delete_history(self, prompt_id: str) -> None:
        """Forget how it went."""
        await self._expect_ok("/history", {"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        """Stop it if it runs. Before October 2025 servers ignored the id and stopped whatever ran: look at the queue first."""
        await self._expect_ok("/interrupt", {"prompt_id": prompt_id})

    async def cancel_job(self, prompt_id: str) -> bool | None:
        """Stop or delete exactly this one, under the server's own lock; None when the server has no such route."""
        answer = await self._send(ServerCall.CONTROL, "POST", f"/api/jobs/{prompt_id}/cancel", json_body={})
        if answer.status in (404, 405):
            return None
        return answer.read(wire.CancelAnswer).cancelled

    async def free(self) -> None:
        """Unload models and empty the cache before the next prompt."""
        await self._expect_ok("/free", {"unload_models": True, "free_memory": True})

    # --- our files there, where the node pack has the routes ------------------------------------------------------------

    async def old_outputs(self, after: str, older_than_s: float) -> Sequence[AttemptId] | None:
        """Our folders that have not changed for so long, in order, from behind `after` on; None without the route."""
        params = {"after": after, "older_than_s": str(older_than_s)}
        received = await self._http.ask(ServerCall.CONTROL, "GET", "/fullet/outputs", params=params)
        if received.status in _NO_ROUTE:
            return None
        answer = Answer(received.status, await _decoded(received), received)
        return [AttemptId(name) for name in answer.read(wire.OldOutputs).names]

    async def remove_outputs(self, attempt_ids: Sequence[AttemptId]) -> int:
        """Remove these folders; how many are gone."""
        body = {"names": [str(attempt_id) for attempt_id in attempt_ids]}
        answer = await self._send(ServerCall.CONTROL, "POST", "/fullet/outputs/remove", json_body=body, timeout_s=LONG_TIMEOUT_S)
        return 0 if answer.status in _NO_ROUTE else len(answer.read(wire.RemovedOutputs).removed)

    async def remove_uploads(self, older_than_s: float) -> int:
        """Remove our uploads that have not changed for so long and that nothing in the queue names; how many."""
        body = {"older_than_s": older_than_s}
        answer = await self._send(ServerCall.CONTROL, "POST", "/fullet/uploads/remove", json_body=body)
        return 0 if answer.status in _NO_ROUTE else answer.read(wire.RemovedUploads).removed

    @asynccontextmanager
    async def events(self, client_id: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The WebSocket, closed fully on leaving. Raises as HTTP calls do."""
        about = ServerAnswer(call=ServerCall.EVENTS, route="GET /ws")
        timeout = aiohttp.ClientWSTimeout(ws_close=2.0)
        try:
            async with asyncio.timeout(QUICK_TIMEOUT_S):
                socket = await self._http.session.ws_connect(
                    "/ws",
                    params={"clientId": client_id},
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_FRAME_BYTES,
                    timeout=timeout,
                )
        except aiohttp.WSServerHandshakeError as error:
            answer = ServerAnswer(call=about.call, route=about.route, status=error.status, body=BodyKind.OTHER)
            raise ServerAnswerError(code_of_status(error.status), answer) from error
        except aiohttp.ClientConnectorError as error:
            raise NotConnectedError(about) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerAnswerError(ErrorCode.SERVER_UNREACHABLE, about) from error
        try:
            yield socket
        finally:
            await socket.close()

    # --- how ------------------------------------------------------------------------------------------------------------

    async def _get(
        self,
        call: ServerCall,
        path: str,
        *,
        tries: int = TRIES,
        timeout_s: float = QUICK_TIMEOUT_S,
        max_bytes: int = SMALL_BYTES,
    ) -> Answer:
        async for attempt in stamina.retry_context(on=is_worth_another_try, attempts=tries, timeout=None, wait_initial=0.5):
            with attempt:
                return await self._send(call, "GET", path, timeout_s=timeout_s, max_bytes=max_bytes)
        raise AssertionError("the retry context returns or raises")

    async def _expect_ok(self, path: str, body: Mapping[str, object]) -> None:
        """POST something harmless to repeat whose answer is empty."""
        async for attempt in stamina.retry_context(on=is_worth_another_try, attempts=TRIES, timeout=None, wait_initial=0.5):
            with attempt:
                answer = await self._send(ServerCall.CONTROL, "POST", path, json_body=body)
        if answer.status != 200:
            raise answer.received.refusal(ErrorCode.SERVER_NOT_COMFYUI)

    async def _send(
        self,
        call: ServerCall,
        method: str,
        path: str,
        *,
        json_body: Mapping[str, object] | None = None,
        form: FormData | None = None,
        timeout_s: float = QUICK_TIMEOUT_S,
        max_bytes: int = SMALL_BYTES,
    ) -> Answer:
        received = await self._http.ask(
            call, method, path, json_body=json_body, form=form, timeout_s=timeout_s, max_bytes=max_bytes
        )
        return Answer(received.status, await _decoded(received), received)


async def _decoded(received: Received) -> object | None:
    """The JSON of an answer; None for one that is none. Raises SERVER_NOT_COMFYUI for one that only claims to be."""
    try:
        if received.content_type != "application/json":
            received.data.decode()
            return None
        if len(received.data) > _SLOW_JSON_BYTES:
            return await asyncio.to_thread(_from_json, received.data)
        return _from_json(received.data)
    except (ValueError, RecursionError) as error:
        raise received.refusal(ErrorCode.SERVER_NOT_COMFYUI, body=BodyKind.TEXT) from error


def _from_json(data: bytes) -> object:
    body: object = json.loads(data)
    return body


def _place_of(filename: str, kind: wire.FileKind) -> dict[str, str]:
    subfolder, _, name = filename.rpartition("/")
    return {"filename": name, "subfolder": subfolder, "type": kind}
