"""ComfyUI's routes: what they take and answer, each also under `/api`."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web

from modules.sandbox.comfy_server import files_api, pack_files
from modules.sandbox.comfy_server.faults import FaultKind, Faults, Moment
from modules.sandbox.comfy_server.files_api import in_trouble
from modules.sandbox.comfy_server.graph import texts_of
from modules.sandbox.comfy_server.hub import FEATURES, Client, serve
from modules.sandbox.comfy_server.jobs import BadQueryError, find_job, is_prompt_id, list_jobs
from modules.sandbox.comfy_server.journal import Journal
from modules.sandbox.comfy_server.models import FOLDERS, GGUF_FOLDERS
from modules.sandbox.comfy_server.process import Process
from modules.sandbox.comfy_server.prompt_queue import Entry, timestamp_ms
from modules.sandbox.comfy_server.settings import SandboxSettings
from modules.sandbox.comfy_server.validation import MalformedError, Verdict, error, validate

COMFYUI_VERSION = "0.33.0"


class Server(Protocol):
    """What routes need of the sandbox: the life that is running now, and what outlives it."""

    @property
    def process(self) -> Process: ...
    @property
    def settings(self) -> SandboxSettings: ...
    @property
    def faults(self) -> Faults: ...
    @property
    def journal(self) -> Journal: ...
    def crash_soon(self, down_s: float | None) -> None: ...


class ComfyRoutes:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._uploads = asyncio.Lock()

    def add_to(self, app: web.Application) -> None:
        both = [
            ("GET", "/ws", self.websocket),
            ("GET", "/prompt", self.get_prompt),
            ("POST", "/prompt", self.post_prompt),
            ("GET", "/queue", self.get_queue),
            ("POST", "/queue", self.post_queue),
            ("GET", "/history", self.get_history),
            ("GET", "/history/{prompt_id}", self.get_history_entry),
            ("POST", "/history", self.post_history),
            ("POST", "/interrupt", self.interrupt),
            ("POST", "/free", self.free),
            ("GET", "/view", self.view),
            ("POST", "/upload/image", self.upload),
            ("GET", "/object_info", self.object_info),
            ("GET", "/object_info/{name}", self.object_info_of),
            ("GET", "/system_stats", self.system_stats),
            ("GET", "/features", self.features),
            ("GET", "/models", self.model_folders),
            ("GET", "/models/{folder}", self.model_files),
            ("GET", "/embeddings", self.embeddings),
            ("GET", "/extensions", self.extensions),
        ]
        if self._server.settings.pack in ("full", "newer"):
            both += [
                ("GET", "/fullet/outputs", self.old_outputs),
                ("POST", "/fullet/outputs/remove", self.remove_outputs),
                ("POST", "/fullet/uploads/remove", self.remove_uploads),
            ]
        for method, path, handler in both:
            app.router.add_route(method, path, handler)
            app.router.add_route(method, f"/api{path}", handler)
            if method == "GET" and path != "/ws":
                app.router.add_route("HEAD", path, handler)
        app.router.add_get("/api/jobs", self.jobs)
        app.router.add_get("/api/jobs/{prompt_id}", self.job)
        app.router.add_post("/api/jobs/cancel", self.cancel_jobs)
        app.router.add_post("/api/jobs/{prompt_id}/cancel", self.cancel_job)

    @property
    def _process(self) -> Process:
        return self._server.process

    # --- prompts -----------------------------------------------------------------------------------------------------------

    async def get_prompt(self, request: web.Request) -> web.Response:
        return web.json_response(self._process.status())

    async def post_prompt(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        if "prompt" not in body:
            return _refused(error("no_prompt", "No prompt provided", "No prompt provided"))
        prompt_id = body.get("prompt_id")
        if prompt_id is not None and not is_prompt_id(prompt_id):
            details = (
                "prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the server generate one"
            )
            return _refused(error("invalid_prompt_id", "prompt_id must be a valid UUID", details))
        graph = body["prompt"]
        try:
            verdict = await asyncio.to_thread(validate, graph, self._process.catalogue, self._process.storage)
        except MalformedError:
            raise in_trouble() from None
        if self._server.faults.strike([FaultKind.PROMPT_TRIPS], Moment(texts=texts_of(graph) if verdict.outputs else ())):
            raise in_trouble()  # an add-on that patches the route, or a graph that trips the server's own code
        verdict = self._rejected_on_request(graph, verdict)
        if verdict.error is not None:
            return _refused(verdict.error, verdict.node_errors)
        return self._accept(request, body, graph, prompt_id or str(uuid.uuid4()), verdict)

    def _rejected_on_request(self, graph: dict[str, Any], verdict: Verdict) -> Verdict:
        fault = self._server.faults.strike([FaultKind.REJECT], Moment(texts=texts_of(graph) if verdict.outputs else ()))
        if fault is None:
            return verdict
        node_id = next(iter(graph), "1")
        reason = error(
            "custom_validation_failed", "Custom validation failed for node", fault.text("details", "asked for by a fault")
        )
        wrong = {
            node_id: {"errors": [reason], "dependent_outputs": list(verdict.outputs), "class_type": graph[node_id]["class_type"]}
        }
        return Verdict((), error("prompt_outputs_failed_validation", "Prompt outputs failed validation"), wrong)

    def _accept(
        self, request: web.Request, body: Mapping[str, Any], graph: dict[str, Any], prompt_id: str, verdict: Verdict
    ) -> web.Response:
        extra = body.get("extra_data", {})
        if not isinstance(extra, dict):
            raise in_trouble()
        extra = dict(extra)
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        extra["create_time"] = timestamp_ms()
        number = float(body["number"]) if "number" in body else self._process.queue.next_number(front=bool(body.get("front")))
        entry: Entry = (number, prompt_id, graph, extra, list(verdict.outputs))
        client_id = extra.get("client_id")
        self._server.journal.posted(prompt_id, number, client_id if isinstance(client_id, str) else None)
        try:
            self._process.queue.put(entry)
        except TypeError:
            raise in_trouble() from None
        if isinstance(client_id, list | dict):
            self._server.crash_soon(None)  # on the real server this ends the whole process
        if (
            self._server.faults.strike([FaultKind.LOST_ANSWER], Moment(texts=texts_of(graph), prompt_id=prompt_id))
            and request.transport
        ):
            request.transport.abort()
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors})

    async def get_queue(self, request: web.Request) -> web.Response:
        queue = self._process.queue
        running = [list(queue.running)] if queue.running is not None else []
        return web.json_response({"queue_running": running, "queue_pending": [list(entry) for entry in queue.pending]})

    async def post_queue(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        if body.get("clear"):
            self._process.clear()
        for prompt_id in body.get("delete", ()):
            self._process.delete(prompt_id)
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.Response:
        body = await _json_object(request, may_be_empty=True)
        self._process.interrupt(body.get("prompt_id"))
        return web.Response()

    async def free(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        self._process.free(unload_models=bool(body.get("unload_models")), free_memory=bool(body.get("free_memory")))
        return web.Response()

    # --- history and jobs --------------------------------------------------------------------------------------------------

    async def get_history(self, request: web.Request) -> web.Response:
        history = list(self._process.queue.history.items())
        try:
            limit = int(request.query["max_items"]) if "max_items" in request.query else None
            offset = int(request.query.get("offset", -1))
        except ValueError:
            raise in_trouble() from None
        if limit is not None:
            start = offset if offset >= 0 else max(len(history) - limit, 0)
            history = history[start : start + limit]
        return web.json_response({prompt_id: done.as_json() for prompt_id, done in history})

    async def get_history_entry(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        done = self._process.queue.history.get(prompt_id)
        return web.json_response({prompt_id: done.as_json()} if done is not None else {})

    async def post_history(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        history = self._process.queue.history
        if body.get("clear"):
            history.clear()
        for prompt_id in body.get("delete", ()):
            history.pop(prompt_id, None)
        return web.Response()

    def _require_jobs_api(self) -> None:
        if not self._server.settings.has_jobs_api:
            raise web.HTTPNotFound(text="")

    async def jobs(self, request: web.Request) -> web.Response:
        self._require_jobs_api()
        try:
            return web.json_response(list_jobs(self._process, request.query))
        except BadQueryError as problem:
            return web.json_response({"error": str(problem)}, status=400)

    async def job(self, request: web.Request) -> web.Response:
        self._require_jobs_api()
        found = find_job(self._process, request.match_info["prompt_id"])
        return web.json_response(found) if found is not None else web.json_response({"error": "Job not found"}, status=404)

    async def cancel_job(self, request: web.Request) -> web.Response:
        self._require_jobs_api()
        return web.json_response({"cancelled": self._process.cancel(request.match_info["prompt_id"])})

    async def cancel_jobs(self, request: web.Request) -> web.Response:
        self._require_jobs_api()
        wanted = (await _json_object(request)).get("job_ids")
        if not isinstance(wanted, list):
            return web.json_response({"error": "job_ids must be a list"}, status=400)
        wrong = [item for item in wanted if not is_prompt_id(item)]
        if wrong:
            return web.json_response({"error": "job_ids contains invalid id(s)", "invalid_ids": wrong}, status=400)
        cancelled = [self._process.cancel(prompt_id) for prompt_id in wanted]
        return web.json_response({"cancelled": any(cancelled)})

    # --- files -------------------------------------------------------------------------------------------------------------

    async def upload(self, request: web.Request) -> web.Response:
        return await files_api.upload(request, self._process.storage, self._uploads, self._server.faults)

    async def view(self, request: web.Request) -> web.StreamResponse:
        return await files_api.view(request, self._process.storage, self._server.faults)

    # --- files, by our node pack -------------------------------------------------------------------------------------------

    async def old_outputs(self, request: web.Request) -> web.Response:
        return pack_files.old_outputs(self._process.storage.root, request.query.items())

    async def remove_outputs(self, request: web.Request) -> web.Response:
        names = (await _json_object(request)).get("names")
        return pack_files.remove_outputs(self._process.storage.root, names, self._entries())

    async def remove_uploads(self, request: web.Request) -> web.Response:
        older_than_s = (await _json_object(request)).get("older_than_s")
        return pack_files.remove_uploads(self._process.storage.root, older_than_s, self._entries())

    def _entries(self) -> list[object]:
        queue = self._process.queue
        return [entry[1:3] for entry in (queue.running, *queue.pending) if entry is not None]

    # --- what the server is and has ----------------------------------------------------------------------------------------

    async def object_info(self, request: web.Request) -> web.Response:
        return web.json_response(self._process.catalogue.object_info())

    async def object_info_of(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = self._process.catalogue.get(name)
        return web.json_response({name: found.description} if found is not None else {})

    async def features(self, request: web.Request) -> web.Response:
        return web.json_response(FEATURES)

    async def model_folders(self, request: web.Request) -> web.Response:
        return web.json_response([*FOLDERS, *GGUF_FOLDERS])

    async def model_files(self, request: web.Request) -> web.Response:
        folder = request.match_info["folder"]
        if folder not in (*FOLDERS, *GGUF_FOLDERS):
            raise web.HTTPNotFound(text="")
        return web.json_response(list(self._process.settings.files.get(folder, ())))

    async def embeddings(self, request: web.Request) -> web.Response:
        return web.json_response([name.rsplit(".", 1)[0] for name in self._process.settings.files.get("embeddings", ())])

    async def extensions(self, request: web.Request) -> web.Response:
        return web.json_response([])

    async def system_stats(self, request: web.Request) -> web.Response:
        return web.json_response(system_stats(self._server.settings))

    # --- websocket ---------------------------------------------------------------------------------------------------------

    async def websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        flap = self._server.faults.strike([FaultKind.WS_FLAP], Moment(path="/ws", method="GET"))
        process = self._process
        if flap is not None:
            return await _dropped_at_once(socket, request, process.status() if flap.details.get("after_status") else None)
        client = Client(request.query.get("clientId") or uuid.uuid4().hex, socket, request.transport)
        silent = self._server.faults.strike([FaultKind.WS_SILENT], Moment(path="/ws", method="GET"))
        process.hub.join(client)
        client.post(json.dumps({"type": "status", "data": {"status": process.status(), "sid": client.client_id}}))
        if process.run is not None and process.run.client_id == client.client_id and process.run.current is not None:
            client.post(json.dumps({"type": "executing", "data": {"node": process.run.current}}))
        client.is_silent = silent is not None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client.write())
                await serve(client)
                client.stop()
        finally:
            process.hub.leave(client)
        return socket


async def _dropped_at_once(
    socket: web.WebSocketResponse, request: web.Request, status: Mapping[str, object] | None
) -> web.WebSocketResponse:
    """What a proxy with an upgrade limit does: the handshake is well, and the connection ends before or after the first frame."""
    if status is not None:
        await socket.send_str(json.dumps({"type": "status", "data": {"status": status}}))
    if request.transport is not None:
        request.transport.close()
    return socket


async def _json_object(request: web.Request, *, may_be_empty: bool = False) -> dict[str, Any]:
    """The body; what is no JSON object trips the real server."""
    if may_be_empty and not request.can_read_body:
        return {}
    try:
        body = await request.json()
    except ValueError:
        if may_be_empty:
            return {}
        raise in_trouble() from None
    if not isinstance(body, dict):
        raise in_trouble()
    return body


def _refused(problem: Mapping[str, object], node_errors: Mapping[str, object] | None = None) -> web.Response:
    return web.json_response({"error": problem, "node_errors": node_errors or {}}, status=400)


def system_stats(settings: SandboxSettings) -> dict[str, Any]:
    """As a server with one card reports itself; the card's name says that it is none."""
    vram = round(settings.vram_gb * 2**30)
    ram = 64 * 2**30
    packages = {"comfyui-frontend-package": "1.49.6", "comfyui-workflow-templates": "0.11.44", "comfyui-embedded-docs": "0.5.10"}
    return {
        "system": {
            "os": "win32" if settings.is_windows else "linux",
            "ram_total": ram,
            "ram_free": ram // 2,
            "comfyui_version": COMFYUI_VERSION,
            "required_frontend_version": packages["comfyui-frontend-package"],
            "installed_templates_version": packages["comfyui-workflow-templates"],
            "required_templates_version": packages["comfyui-workflow-templates"],
            "comfy_package_versions": [
                {"name": name, "installed": version, "required": version} for name, version in packages.items()
            ],
            "python_version": "3.11.7 (stand-in)",
            "pytorch_version": "2.13.0+none",
            "embedded_python": False,
            "deploy_environment": "local-git",
            "argv": ["main.py", "--listen", "127.0.0.1"],
        },
        "devices": [
            {
                "name": f"cuda:0 Stand-in card {settings.name} (no real GPU)",
                "type": "cuda",
                "index": 0,
                "vram_total": vram,
                "vram_free": round(vram * 0.9),
                "torch_vram_total": vram // 2,
                "torch_vram_free": vram // 4,
            }
        ],
    }
