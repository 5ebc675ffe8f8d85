"""The sandbox's own routes: faults, settings and the log. No real server has them."""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from modules.sandbox.comfy_server.faults import BadFaultError, Fault, FaultKind
from modules.sandbox.comfy_server.routes import Server
from modules.sandbox.comfy_server.settings import BadSettingError, SandboxSettings


class Controlled(Server, Protocol):
    def configure(self, settings: SandboxSettings) -> None: ...
    def act(self, fault: Fault) -> None:
        """Do at once what a fault asks that has nothing to wait for."""
        ...


class ControlRoutes:
    def __init__(self, server: Controlled) -> None:
        self._server = server

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/sandbox/faults", self.add_fault)
        app.router.add_get("/sandbox/faults", self.list_faults)
        app.router.add_delete("/sandbox/faults", self.clear_faults)
        app.router.add_post("/sandbox/foreign", self.add_foreign)
        app.router.add_get("/sandbox/config", self.get_config)
        app.router.add_post("/sandbox/config", self.set_config)
        app.router.add_get("/sandbox/log", self.log)
        app.router.add_delete("/sandbox/log", self.clear_log)

    async def add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = self._server.faults.add_json(await _object(request))
        except BadFaultError as problem:
            return web.json_response({"error": str(problem)}, status=400)
        self._server.act(fault)
        return web.json_response(fault.as_json())

    async def list_faults(self, request: web.Request) -> web.Response:
        return web.json_response([fault.as_json() for fault in self._server.faults])

    async def clear_faults(self, request: web.Request) -> web.Response:
        kind = request.query.get("kind")
        try:
            wanted = FaultKind(kind) if kind is not None else None
        except ValueError:
            return web.json_response({"error": f"kind must be one of: {', '.join(FaultKind)}"}, status=400)
        return web.json_response({"cleared": self._server.faults.clear(wanted)})

    async def add_foreign(self, request: web.Request) -> web.Response:
        body = await _object(request)
        try:
            count, seconds = int(body.get("count", 1)), float(body.get("seconds", 5.0))
            ids = self._server.process.add_foreign(count=count, seconds=seconds)
        except (TypeError, ValueError) as problem:
            return web.json_response({"error": str(problem)}, status=400)
        return web.json_response({"prompt_ids": ids})

    async def get_config(self, request: web.Request) -> web.Response:
        return web.json_response(self._server.settings.as_json())

    async def set_config(self, request: web.Request) -> web.Response:
        try:
            self._server.configure(self._server.settings.changed(await _object(request)))
        except BadSettingError as problem:
            return web.json_response({"error": str(problem)}, status=400)
        return web.json_response(self._server.settings.as_json())

    async def log(self, request: web.Request) -> web.Response:
        return web.json_response(self._server.journal.as_json())

    async def clear_log(self, request: web.Request) -> web.Response:
        self._server.journal.clear()
        return web.json_response({"cleared": True})


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="a JSON object is needed")
    return body
