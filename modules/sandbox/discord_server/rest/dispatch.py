"""From an HTTP request to a handler and back: parsing, faults, tokens, rate limits, the journal."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import BodyPartReader, web

from modules.sandbox.discord_server.clock import iso
from modules.sandbox.discord_server.context import Context
from modules.sandbox.discord_server.faults import Fault
from modules.sandbox.discord_server.journal import Entry
from modules.sandbox.discord_server.ratelimits import too_many_body, too_many_headers
from modules.sandbox.discord_server.rest.routing import Call, Route
from modules.sandbox.discord_server.wire import ApiError, Code, Reply, Upload, encode

log = logging.getLogger(__name__)

API = "/api/v10"
#: Error codes that mean "the bot broke a documented limit"; the journal notes them.
LIMIT_CODES = frozenset(
    {
        Code.INVALID_FORM,
        Code.EMPTY_MESSAGE,
        Code.TOO_LARGE,
        Code.MAX_OLD_EDITS,
        Code.MAX_COMMANDS,
        Code.MAX_COMMAND_CREATES,
        Code.ALREADY_ACKNOWLEDGED,
        Code.BAD_JSON,
    }
)
Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


def endpoint(context: Context, route: Route) -> Endpoint:
    """The aiohttp handler for one route."""

    async def serve(request: web.Request) -> web.StreamResponse:
        return await Exchange(context, route, request).run()

    return serve


def unknown_route(context: Context) -> Endpoint:
    """What answers everything the stand-in does not have; the journal shows it as a violation."""

    async def serve(request: web.Request) -> web.StreamResponse:
        path = unquote(request.path.removeprefix(API))
        entry = context.journal.open(at=_now(context), method=request.method, path=path, route="?", query=dict(request.query))
        context.journal.against_limit(entry, "the stand-in has no such route")
        error = ApiError(Code.GENERAL_NOT_FOUND)
        context.journal.close(entry, error.status, None)
        return web.Response(status=error.status, body=encode(error.body()), content_type="application/json")

    return serve


def _now(context: Context) -> str:
    return iso(context.world.clock.now()) or ""


class Exchange:
    """One request and its reply."""

    def __init__(self, context: Context, route: Route, request: web.Request) -> None:
        self._context = context
        self._route = route
        self._request = request
        self._name = f"{route.method} {route.template}"

    async def run(self) -> web.StreamResponse:
        """Serve it."""
        request = self._request
        path = unquote(request.path.removeprefix(API))
        entry = self._context.journal.open(
            at=_now(self._context), method=request.method, path=path, route=self._route.template, query=dict(request.query)
        )
        raw, uploads = await read_body(request)
        entry.body = raw
        entry.files = [{"filename": upload.filename, "size": len(upload.data)} for upload in uploads]
        fault = self._context.faults.take(request.method, path, raw or b"")
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if not fault.after and (spoiled := self._spoiled(fault)) is not None:
                self._context.journal.close(entry, 0 if fault.reset else spoiled.status, None)
                return spoiled
        response = await self._respond(entry, raw, uploads)
        if fault is not None and fault.after and (spoiled := self._spoiled(fault)) is not None:
            self._context.faults.lost_answers.add(f"{request.method} {path}")
            entry.status = 0 if fault.reset else spoiled.status
            return spoiled
        return response

    def _spoiled(self, fault: Fault) -> web.Response | None:
        """What the fault makes of the answer; `None` when it only took time."""
        if fault.reset:
            if self._request.transport is not None:
                self._request.transport.abort()
            return web.Response(status=499)
        if fault.status is None:
            return None
        if isinstance(fault.body, str):
            return web.Response(status=fault.status, text=fault.body, content_type="text/html")
        headers: dict[str, str] = {}
        body = fault.body
        if fault.status == 429:
            wait_s = fault.retry_after_s if fault.retry_after_s is not None else 1.0
            headers = too_many_headers(wait_s)
            if not fault.via:
                del headers["Via"]
            body = body or too_many_body(wait_s)
        return _json_response(fault.status, encode(body or {"message": f"{fault.status}: sandbox fault", "code": 0}), headers)

    async def _respond(self, entry: Entry, raw: bytes | None, uploads: list[Upload]) -> web.Response:
        headers: dict[str, str] = {}
        try:
            self._check_token()
            verdict = self._context.limits.admit(self._name, dict(self._request.match_info))
            headers = verdict.headers
            if verdict.body is not None:
                self._context.journal.against_limit(entry, f"rate limit of {self._name}")
                status, body = 429, encode(verdict.body)
            else:
                reply = await self._handle(raw, uploads)
                status, body = reply.status, b"" if reply.body is None else encode(reply.body)
        except ApiError as error:
            status, body = error.status, encode(error.body())
            if self._breaks_a_limit(error, entry):
                self._context.journal.against_limit(entry, f"{error.code} {error.message} {json.dumps(error.errors or {})}")
            if status == 429:
                headers = headers | too_many_headers(float(str(error.extra.get("retry_after", 1.0))))
        except Exception:
            log.exception("sandbox_failed_to_answer %s", self._name)
            status, body = 500, encode({"message": "500: Internal Server Error", "code": 0})
            self._context.journal.stand_in_failed(entry)
        self._context.journal.close(entry, status, body)
        return _json_response(status, body, headers)

    def _breaks_a_limit(self, error: ApiError, entry: Entry) -> bool:
        """Whether the bot could have known better: not of Discovery's secret words, nor repeating what got no answer."""
        if error.known is Code.ALREADY_ACKNOWLEDGED:
            return f"{entry.method} {entry.path}" not in self._context.faults.lost_answers
        return error.known in LIMIT_CODES and "INVALID_COMMUNITY_PROPERTY_NAME" not in json.dumps(error.errors or {})

    def _check_token(self) -> None:
        if not self._route.needs_token:
            return
        sent = self._request.headers.get("Authorization", "")
        if sent != f"Bot {self._context.world.application.token}":
            raise ApiError(Code.UNAUTHORIZED)

    async def _handle(self, raw: bytes | None, uploads: list[Upload]) -> Reply:
        weight = self._request.content_length or sum(len(upload.data) for upload in uploads) + len(raw or b"")
        self._context.files.check_sizes(uploads, request_bytes=weight)
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            raise ApiError(Code.BAD_JSON) from None
        params = {name: unquote(value) for name, value in self._request.match_info.items()}
        call = Call(context=self._context, params=params, query=dict(self._request.query), body=body, uploads=uploads)
        return await self._route.handler(call)


def _json_response(status: int, body: bytes, headers: dict[str, str]) -> web.Response:
    # discord.py reads JSON only under exactly this content type: no charset.
    if not body:
        return web.Response(status=status if status != 200 else 204, headers=headers)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


async def read_body(request: web.Request) -> tuple[bytes | None, list[Upload]]:
    """The JSON of a request (alone, or the `payload_json` of a form) and its files."""
    if not request.content_type.startswith("multipart/"):
        raw = await request.read()
        return raw or None, []
    raw_json: bytes | None = None
    uploads: list[Upload] = []
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            continue
        data = bytes(await part.read())
        if part.filename is not None:
            uploads.append(Upload(field=part.name or "", filename=part.filename, data=data))
        elif part.name == "payload_json":
            raw_json = data
    return raw_json, uploads
