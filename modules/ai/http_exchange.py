"""One HTTP request to one ComfyUI and its answer: every foreign failure becomes a `ServerAnswerError` that says what came back.

Rules that hold for every request: an explicit time-out below what tunnels allow; a limit on the bytes of its answer; no redirect
is followed, as the key belongs to one origin; no `Origin` header (ComfyUI answers 403 to a foreign one).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import ClientTimeout, FormData

from modules.ai.http_body import ACCEPTED_ENCODINGS, BodyTooLargeError, BodyTruncatedError, read_body
from modules.domain.errors import ErrorCode
from modules.domain.servers import BodyKind, ServerAnswer, ServerAnswerError, ServerCall

#: ngrok's free tier shows browsers a warning page instead of the server unless this header is there. Source: ngrok docs.
NGROK_HEADER = "ngrok-skip-browser-warning"
#: Cloudflare and RunPod proxies cut a request after 100 s without an answer; none of ours may come near.
CONNECT_TIMEOUT_S = 5.0
QUICK_TIMEOUT_S = 10.0
LONG_TIMEOUT_S = 60.0

MIB = 1024 * 1024
#: Most bytes of an answer that holds one short object, or none.
SMALL_BYTES = 1 * MIB
_IDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: aiohttp stops reading from a connection that has twice this waiting, and begins again when it is taken: with its own 64 KiB a
#: picture of 1.2 MB is stopped some ten times, which costs a sixth of the processor time of reading it (2.9 instead of 3.4 ms).
_READ_BUFFER_BYTES = 1024 * 1024


class NotConnectedError(ServerAnswerError):
    """Nothing was sent: the only failure after which a POST may be repeated blindly."""

    def __init__(self, answer: ServerAnswer) -> None:
        super().__init__(ErrorCode.SERVER_UNREACHABLE, replace(answer, was_sent=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An answer below 500 that no proxy made, as far as its headers tell."""

    about: ServerAnswer
    status: int
    content_type: str
    data: bytes = field(repr=False)

    def refusal(self, code: ErrorCode, *, body: BodyKind | None = None) -> ServerAnswerError:
        """This answer as an error: it is not what was asked for."""
        return ServerAnswerError(code, self.about if body is None else replace(self.about, body=body))


class HttpExchange:
    """The HTTP session of one server; open it with `async with`."""

    def __init__(self, base_url: str, *, key: str | None = None) -> None:
        self._base_url = base_url
        self._headers = {NGROK_HEADER: "1", "User-Agent": "FuLLet", "Accept-Encoding": ACCEPTED_ENCODINGS}
        if (authority := authorization(key)) is not None:
            self._headers["Authorization"] = authority
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            self._base_url,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._http is not None, "used outside `async with`"
        return self._http

    async def ask(
        self,
        call: ServerCall,
        method: str,
        path: str,
        *,
        json_body: Mapping[str, object] | None = None,
        form: FormData | None = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float = QUICK_TIMEOUT_S,
        max_bytes: int = SMALL_BYTES,
    ) -> Received:
        """Send one request and read its whole answer. Raises `ServerAnswerError`; `NotConnectedError` where nothing was sent."""
        about = ServerAnswer(call=call, route=f"{method} {_IDS.sub('{id}', path)}")
        timeout = ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self.session.request(
                method, path, json=json_body, data=form, params=params, timeout=timeout, allow_redirects=False
            ) as response:
                about = replace(about, status=response.status, body=_kind_of(response))
                if _is_refusal(response.status):
                    raise ServerAnswerError(code_of_status(response.status), about)
                if about.body is BodyKind.HTML:  # tunnels and log-in pages answer for a server that is away, some with 200
                    raise ServerAnswerError(ErrorCode.SERVER_NOT_COMFYUI, about)
                data = await read_body(response, max_bytes if response.status == 200 else min(max_bytes, SMALL_BYTES))
                return Received(about=about, status=response.status, content_type=response.content_type, data=data)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotConnectedError(about) from error
        except BodyTooLargeError as error:
            raise ServerAnswerError(ErrorCode.SERVER_NOT_COMFYUI, replace(about, body=BodyKind.TOO_LARGE)) from error
        except (aiohttp.ClientPayloadError, BodyTruncatedError) as error:
            raise ServerAnswerError(ErrorCode.SERVER_UNREACHABLE, replace(about, body=BodyKind.TRUNCATED)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerAnswerError(ErrorCode.SERVER_UNREACHABLE, _broken_off(about)) from error


def authorization(key: str | None) -> str | None:
    """The header for a key: `user:password` is Basic, anything else Bearer."""
    if not key:
        return None
    if ":" in key:
        return f"Basic {base64.b64encode(key.encode()).decode()}"
    return f"Bearer {key}"


def code_of_status(status: int) -> ErrorCode:
    """What a server looks like that answers so, if this one answer is all that is known of it."""
    if status in (401, 403):
        return ErrorCode.SERVER_UNAUTHORISED
    if status in (502, 503, 504) or status > 504:  # whatever stands before it says that it is away
        return ErrorCode.SERVER_UNREACHABLE
    return ErrorCode.SERVER_BROKEN if status == 500 else ErrorCode.SERVER_NOT_COMFYUI


def is_worth_another_try(error: Exception) -> bool:
    """Whether the same request may be answered well a moment later: nobody there, a proxy without its server, a garbled answer.

    A refusal of this very request (413, 403 ...) will be the same again, and so will an answer without end.
    """
    if not isinstance(error, ServerAnswerError) or error.answer.body is BodyKind.TOO_LARGE:
        return False
    status = error.answer.status
    return status is None or status == 200 or status >= 502 or (status == 404 and error.answer.body is BodyKind.HTML)


def _is_refusal(status: int) -> bool:
    return status in (401, 403) or status >= 500 or 300 <= status < 400


def _kind_of(response: aiohttp.ClientResponse) -> BodyKind:
    """From the headers alone."""
    if response.content_length == 0:
        return BodyKind.EMPTY
    kind = response.content_type
    if kind in ("text/html", "application/xhtml+xml"):
        return BodyKind.HTML
    if kind == "application/json":
        return BodyKind.JSON
    return BodyKind.TEXT if kind.startswith("text/") else BodyKind.OTHER


def _broken_off(about: ServerAnswer) -> ServerAnswer:
    """A connection that broke after the headers cut the answer; before them, there was none."""
    return about if about.status is None else replace(about, body=BodyKind.TRUNCATED)
