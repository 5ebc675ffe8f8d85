"""What happens to a request before a route sees it: the log, the key, the origin, and faults on the wire."""

from __future__ import annotations

import base64
import hmac
import time
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from modules.sandbox.comfy_server.faults import Fault, FaultKind, Moment
from modules.sandbox.comfy_server.journal import RequestLine
from modules.sandbox.comfy_server.proxies import answer_instead, cut, is_too_large, unauthorized
from modules.sandbox.comfy_server.routes import Server

#: Routes of the sandbox itself: never logged, never hit by a fault, no key needed.
CONTROL_PREFIX = "/sandbox/"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ON_THE_WIRE = (
    FaultKind.HTML,
    FaultKind.UNAUTHORIZED,
    FaultKind.FORBIDDEN,
    FaultKind.NOT_FOUND,
    FaultKind.LOG_IN,
    FaultKind.SERVER_ERROR,
    FaultKind.SLOW_ANSWER,
    FaultKind.HUGE_ANSWER,
)


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
    moment = Moment(path=without_api(request.path), method=request.method)
    fault = _fault_on_the_wire(server, request, moment)
    if fault is not None:
        line.fault = fault.kind.value
        answer = await answer_instead(fault, request)
        if answer is not None:
            return answer
    refused = _refused(server, request)
    if refused is not None:
        return refused
    response = web.Response() if request.method == "OPTIONS" else await handler(request)
    cutting = server.faults.strike([FaultKind.TRUNCATED_ANSWER], moment)
    if cutting is None:
        return response
    line.fault = cutting.kind.value
    return await cut(cutting, request, response)


def _fault_on_the_wire(server: Server, request: web.Request, moment: Moment) -> Fault | None:
    too_large = server.faults.peek(FaultKind.TOO_LARGE, moment)
    if too_large is not None and is_too_large(too_large, request.content_length):
        server.faults.use(too_large)
        return too_large
    return server.faults.strike(_ON_THE_WIRE, moment)


def expected_authorization(key: str) -> str:
    """`user:password` is Basic, anything else Bearer."""
    return f"Basic {base64.b64encode(key.encode()).decode()}" if ":" in key else f"Bearer {key}"


def _refused(server: Server, request: web.Request) -> web.Response | None:
    key = server.settings.key
    given = request.headers.get("Authorization", "")
    if key is not None and not hmac.compare_digest(given.encode(), expected_authorization(key).encode()):
        return unauthorized()
    if request.headers.get("Sec-Fetch-Site") == "cross-site" or _is_foreign_origin(request):
        return web.Response(status=403)
    return None


def _is_foreign_origin(request: web.Request) -> bool:
    """With a loopback Host, an Origin that names another host or port is refused; other Hosts are not looked at."""
    origin, host = request.headers.get("Origin"), request.headers.get("Host", "")
    if not origin or urlsplit(f"//{host}").hostname not in _LOOPBACK:
        return False
    return urlsplit(origin).netloc != host
