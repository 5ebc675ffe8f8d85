"""What happens to a request before a route sees it: the log, the key, the origin, and faults on the wire."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from modules.sandbox.comfy_server.faults import Fault, FaultKind, Moment
from modules.sandbox.comfy_server.journal import RequestLine
from modules.sandbox.comfy_server.routes import Server

#: Routes of the sandbox itself: never logged, never hit by a fault, no key needed.
CONTROL_PREFIX = "/sandbox/"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
#: What a tunnel answers with status 200 or 404 when the server behind it is away.
TUNNEL_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Tunnel not found</title></head>"
    "<body><h1>ERR_NGROK_3200</h1><p>The endpoint is offline.</p></body></html>"
)
_ON_THE_WIRE = (FaultKind.HTML, FaultKind.UNAUTHORIZED, FaultKind.SERVER_ERROR, FaultKind.SLOW_ANSWER)


def without_api(path: str) -> str:
    """The path a fault is matched with: `/api/queue` is `/queue`; jobs exist only under `/api` and stay so."""
    return path.removeprefix("/api") if path.startswith("/api/") and not path.startswith("/api/jobs") else path


def logging_middleware(server: Server) -> Middleware:
    @web.middleware
    async def log(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL_PREFIX):
            return await handler(request)
        line = RequestLine(time.time(), request.method, request.path, None, 0.0)
        server.journal.requests.append(line)
        try:
            response = await _with_faults(server, request, handler, line)
        except web.HTTPException as problem:
            line.status = problem.status
            raise
        else:
            line.status = response.status
            return response
        finally:
            line.seconds = time.time() - line.t

    return log


async def _with_faults(server: Server, request: web.Request, handler: Handler, line: RequestLine) -> web.StreamResponse:
    fault = server.faults.strike(_ON_THE_WIRE, Moment(path=without_api(request.path), method=request.method))
    if fault is not None:
        line.fault = fault.kind.value
        answer = await _faulty_answer(fault)
        if answer is not None:
            return answer
    refused = _refused(server, request)
    if refused is not None:
        return refused
    return web.Response() if request.method == "OPTIONS" else await handler(request)


async def _faulty_answer(fault: Fault) -> web.Response | None:
    """None: the request goes on, only later."""
    match fault.kind:
        case FaultKind.HTML:
            return web.Response(text=TUNNEL_PAGE, content_type="text/html", status=fault.integer("status", 200))
        case FaultKind.UNAUTHORIZED:
            return _unauthorized()
        case FaultKind.SERVER_ERROR:
            return web.Response(text="Bad gateway", status=fault.integer("status", 502))
        case _:
            await asyncio.sleep(fault.seconds(1.0))
            return None


def _unauthorized() -> web.Response:
    return web.Response(text="Unauthorized", status=401, headers={"WWW-Authenticate": 'Basic realm="comfyui"'})


def expected_authorization(key: str) -> str:
    """`user:password` is Basic, anything else Bearer."""
    return f"Basic {base64.b64encode(key.encode()).decode()}" if ":" in key else f"Bearer {key}"


def _refused(server: Server, request: web.Request) -> web.Response | None:
    key = server.settings.key
    given = request.headers.get("Authorization", "")
    if key is not None and not hmac.compare_digest(given.encode(), expected_authorization(key).encode()):
        return _unauthorized()
    if request.headers.get("Sec-Fetch-Site") == "cross-site" or _is_foreign_origin(request):
        return web.Response(status=403)
    return None


def _is_foreign_origin(request: web.Request) -> bool:
    """With a loopback Host, an Origin that names another host or port is refused; other Hosts are not looked at."""
    origin, host = request.headers.get("Origin"), request.headers.get("Host", "")
    if not origin or urlsplit(f"//{host}").hostname not in _LOOPBACK:
        return False
    return urlsplit(origin).netloc != host
