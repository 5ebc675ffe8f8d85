"""A thin client of one ComfyUI server: every request it knows, typed answers, typed errors, nothing remembered.

Rules that hold for every call: an explicit time-out below what tunnels allow; no redirect is followed, as the key belongs to one
origin; no `Origin` header (ComfyUI answers 403 to a foreign one); HTML where JSON is due means that something in between spoke.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import stamina
from aiohttp import ClientTimeout, FormData

from modules.ai import wire
from modules.domain.errors import ErrorCode, FulletError

#: ngrok's free tier shows browsers a warning page instead of the server unless this header is there. Source: ngrok docs.
NGROK_HEADER = "ngrok-skip-browser-warning"
#: Cloudflare and RunPod proxies cut a request after 100 s without an answer; none of ours may come near.
CONNECT_TIMEOUT_S = 5.0
QUICK_TIMEOUT_S = 10.0
LONG_TIMEOUT_S = 60.0
#: The socket closes itself when no pong comes back: ComfyUI never pings.
HEARTBEAT_S = 20.0
#: A final PNG may come as a preview frame (SaveImageWebsocket); aiohttp's own default is 4 MiB.
MAX_FRAME_BYTES = 32 * 1024 * 1024
#: Full-size outputs: a 4x upscale of one megapixel is a PNG of some 30 MB.
MAX_FILE_BYTES = 96 * 1024 * 1024

TRIES = 4
_WORTH_ANOTHER_TRY = frozenset({ErrorCode.SERVER_UNREACHABLE, ErrorCode.SERVER_NOT_COMFYUI})


class NotConnectedError(FulletError):
    """Nothing was sent: the only failure after which a POST may be repeated blindly."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.SERVER_UNREACHABLE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer below 500. `body` is None where the server sent no JSON (`/interrupt`, a missing route)."""

    status: int
    body: object | None


def authorization(key: str | None) -> str | None:
    """The header for a key: `user:password` is Basic, anything else Bearer."""
    if not key:
        return None
    if ":" in key:
        return f"Basic {base64.b64encode(key.encode()).decode()}"
    return f"Bearer {key}"


class ComfyClient:
    """One server, one HTTP session; open it with `async with`."""

    def __init__(self, base_url: str, *, key: str | None = None) -> None:
        self._base_url = base_url
        self._headers = {NGROK_HEADER: "1", "User-Agent": "FuLLet"}
        if (authority := authorization(key)) is not None:
            self._headers["Authorization"] = authority
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(self._base_url, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._http is not None:
            await self._http.close()

    # --- what it is and has ---------------------------------------------------------------------------------------------

    async def system_stats(self) -> wire.SystemStats:
        """Version, device, memory."""
        return wire.read(wire.SystemStats, await self._get_json("/system_stats"))

    async def object_info(self) -> dict[str, object]:
        """Every node class by name, as `listing.py` reads it. 1.6 MB on a stock server: decoded in a thread."""
        text = await self._get_text("/object_info", timeout_s=LONG_TIMEOUT_S)
        body = await asyncio.to_thread(_json_or_refuse, text)
        if not isinstance(body, dict):
            raise FulletError(ErrorCode.SERVER_NOT_COMFYUI)
        return body

    # --- where prompts stand --------------------------------------------------------------------------------------------

    async def job(self, prompt_id: str, *, tries: int = TRIES) -> wire.JobInfo | bool:
        """`/api/jobs/{id}`: the job, True when the server knows the route but not the job, False when it has no such route."""
        answer = await self._get(f"/api/jobs/{prompt_id}", tries=tries)
        if answer.status == 404:
            return isinstance(answer.body, dict) and "error" in answer.body
        return wire.read(wire.JobInfo, _body_of(answer))

    async def queue(self, *, tries: int = TRIES) -> wire.QueueState:
        """Running and pending. Ask this before the history: the other order can miss a prompt that just finished."""
        return wire.read(wire.QueueState, _body_of(await self._get("/queue", tries=tries)))

    async def history(self, prompt_id: str, *, tries: int = TRIES) -> wire.HistoryEntry | None:
        """None for unknown, pending and running alike."""
        answer = await self._get(f"/history/{prompt_id}", tries=tries)
        return wire.read_history(_body_of(answer)).get(prompt_id)

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
                answer = await self._send("POST", "/prompt", json_body=body, timeout_s=LONG_TIMEOUT_S)
        if answer.status == 400:
            return wire.read(wire.PromptRejected, _body_of(answer))
        return wire.read(wire.PromptAccepted, _body_of(answer))

    async def upload(self, data: bytes, *, name: str, folder: str, media_type: str) -> wire.UploadAnswer:
        """Store an input picture. Repeating is safe: the same name with the same bytes keeps its name, nothing is overwritten."""
        async for attempt in stamina.retry_context(on=_is_worth_another_try, attempts=TRIES, timeout=None, wait_initial=0.5):
            with attempt:
                form = FormData()  # consumed by one request, so made anew for each try
                form.add_field("image", data, filename=name, content_type=media_type)
                form.add_field("subfolder", folder)
                answer = await self._send("POST", "/upload/image", form=form, timeout_s=LONG_TIMEOUT_S)
        return wire.read(wire.UploadAnswer, _body_of(answer))

    async def view(self, filename: str, *, kind: wire.FileKind = "output") -> bytes | None:
        """A file's bytes by its name inside that folder (subfolders included); None when it is not there."""
        subfolder, _, name = filename.rpartition("/")
        params = {"filename": name, "subfolder": subfolder, "type": kind}
        async for attempt in stamina.retry_context(on=_is_worth_another_try, attempts=TRIES, timeout=None, wait_initial=0.5):
            with attempt:
                return await self._view_once(params)
        raise AssertionError("the retry context returns or raises")

    async def has_file(self, filename: str) -> bool:
        """Whether an output of this name exists."""
        subfolder, _, name = filename.rpartition("/")
        params = {"filename": name, "subfolder": subfolder, "type": "output"}
        async with self._request("HEAD", "/view", params=params) as response:
            return response.status == 200

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
        answer = await self._send("POST", f"/api/jobs/{prompt_id}/cancel", json_body={})
        if answer.status in (404, 405):
            return None
        return wire.read(wire.CancelAnswer, _body_of(answer)).cancelled

    async def free(self) -> None:
        """Unload models and empty the cache before the next prompt."""
        await self._expect_ok("/free", {"unload_models": True, "free_memory": True})

    @asynccontextmanager
    async def events(self, client_id: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The WebSocket, closed fully on leaving. Raises as HTTP calls do."""
        timeout = aiohttp.ClientWSTimeout(ws_close=2.0)
        try:
            async with asyncio.timeout(QUICK_TIMEOUT_S):
                socket = await self._session.ws_connect(
                    "/ws",
                    params={"clientId": client_id},
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_FRAME_BYTES,
                    timeout=timeout,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise FulletError(_code_of_status(error.status)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise FulletError(ErrorCode.SERVER_UNREACHABLE) from error
        try:
            yield socket
        finally:
            await socket.close()

    # --- how ------------------------------------------------------------------------------------------------------------

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._http is not None, "used outside `async with`"
        return self._http

    async def _get_json(self, path: str) -> object:
        return _body_of(await self._get(path))

    async def _get(self, path: str, *, tries: int = TRIES) -> Answer:
        async for attempt in stamina.retry_context(on=_is_worth_another_try, attempts=tries, timeout=None, wait_initial=0.5):
            with attempt:
                return await self._send("GET", path)
        raise AssertionError("the retry context returns or raises")

    async def _get_text(self, path: str, *, timeout_s: float) -> str:
        async for attempt in stamina.retry_context(on=_is_worth_another_try, attempts=TRIES, timeout=None, wait_initial=0.5):
            with attempt:
                async with self._request("GET", path, timeout_s=timeout_s) as response:
                    _refuse_html(response)
                    return await _text_of(response)
        raise AssertionError("the retry context returns or raises")

    async def _expect_ok(self, path: str, body: Mapping[str, object]) -> None:
        """POST something harmless to repeat whose answer is empty."""
        async for attempt in stamina.retry_context(on=_is_worth_another_try, attempts=TRIES, timeout=None, wait_initial=0.5):
            with attempt:
                answer = await self._send("POST", path, json_body=body)
        if answer.status != 200:
            raise FulletError(ErrorCode.SERVER_NOT_COMFYUI)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        json_body: Mapping[str, object] | None = None,
        form: FormData | None = None,
        timeout_s: float = QUICK_TIMEOUT_S,
    ) -> Answer:
        async with self._request(method, path, json_body=json_body, form=form, timeout_s=timeout_s) as response:
            _refuse_html(response)
            text = await _text_of(response)
            is_json = response.content_type == "application/json"
            return Answer(response.status, _json_or_refuse(text) if is_json else None)

    async def _view_once(self, params: Mapping[str, str]) -> bytes | None:
        async with self._request("GET", "/view", params=params, timeout_s=LONG_TIMEOUT_S) as response:
            if response.status in (400, 404):
                return None
            if response.status != 200:
                raise FulletError(ErrorCode.SERVER_NOT_COMFYUI)
            _refuse_html(response)
            chunks, length = [], 0
            async for chunk in response.content.iter_chunked(256 * 1024):
                length += len(chunk)
                if length > MAX_FILE_BYTES:
                    raise FulletError(ErrorCode.SERVER_BROKEN)
                chunks.append(chunk)
            return b"".join(chunks)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        json_body: Mapping[str, object] | None = None,
        form: FormData | None = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float = QUICK_TIMEOUT_S,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request whose foreign errors are ours, also those met while the body is read."""
        timeout = ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._session.request(
                method, path, json=json_body, data=form, params=params, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status in (401, 403) or response.status >= 500 or 300 <= response.status < 400:
                    raise FulletError(_code_of_status(response.status))
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotConnectedError from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise FulletError(ErrorCode.SERVER_UNREACHABLE) from error


def _code_of_status(status: int) -> ErrorCode:
    if status in (401, 403):
        return ErrorCode.SERVER_UNAUTHORISED
    if status in (502, 503, 504) or status > 504:  # whatever stands before it says that it is away
        return ErrorCode.SERVER_UNREACHABLE
    return ErrorCode.SERVER_BROKEN if status == 500 else ErrorCode.SERVER_NOT_COMFYUI


def _is_worth_another_try(error: Exception) -> bool:
    return isinstance(error, FulletError) and error.code in _WORTH_ANOTHER_TRY


def _refuse_html(response: aiohttp.ClientResponse) -> None:
    """Tunnels and log-in pages answer for a server that is away, some with 200."""
    if response.content_type == "text/html":
        raise FulletError(ErrorCode.SERVER_NOT_COMFYUI)


async def _text_of(response: aiohttp.ClientResponse) -> str:
    try:
        return await response.text()
    except UnicodeDecodeError as error:
        raise FulletError(ErrorCode.SERVER_NOT_COMFYUI) from error


def _json_or_refuse(text: str) -> object:
    try:
        body: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FulletError(ErrorCode.SERVER_NOT_COMFYUI) from error
    return body


def _body_of(answer: Answer) -> object:
    if answer.status not in (200, 400) or answer.body is None:
        raise FulletError(ErrorCode.SERVER_NOT_COMFYUI)
    return answer.body
