"""Removes what FuLLet wrote on this machine: its folders in `output/fullet` and its uploads in `input/fullet`.

ComfyUI itself has no route that deletes a file, so both grow for ever. A caller names no paths here: only ids, which are
looked up in those two folders, and files whose names are of the shape that FuLLet gives them. Links are never followed, what
a prompt in the queue may still need is left alone, and so is everything young. PROTOCOL.md describes the routes.
"""

import asyncio
import heapq
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from aiohttp import web

#: The one folder in `output` and in `input` that is looked into.
FOLDER: Final = "fullet"
#: As many names are listed, and taken, at once.
PAGE: Final = 500
#: Nothing younger is touched, whatever a caller says: somebody may be about to use it.
LEAST_AGE_S: Final = 600.0

_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ATTEMPT: Final = re.compile(_UUID)
#: `<slot>_00001_.png`; other save nodes write other formats.
_OUTPUT: Final = re.compile(r"\d{1,4}_\d{5,}_?\.(?:png|jpg|jpeg|webp|avif)")
#: ComfyUI puts " (1)" behind a name that another file has.
_UPLOAD: Final = re.compile(_UUID + r"(?: \(\d{1,4}\))?\.(?:png|jpg|jpeg|webp)")


def list_outputs(output_dir: str, after: str, older_than_s: float) -> list[str]:
    """The names of FuLLet's folders that have not changed for so long, in order, from behind `after` on, at most a page."""
    latest = time.time() - max(older_than_s, LEAST_AGE_S)
    names = (
        entry.name
        for entry in _entries(Path(output_dir) / FOLDER)
        if entry.name > after and _ATTEMPT.fullmatch(entry.name) and _is_old(Path(entry.path), latest, stat.S_ISDIR)
    )
    return heapq.nsmallest(PAGE, names)


def remove_outputs(output_dir: str, names: Iterable[str], queue: str) -> list[str]:
    """Remove these folders with the pictures in them; the names of those that are gone. `queue`: what waits and runs, as text."""
    latest, gone = time.time() - LEAST_AGE_S, []
    for name in names:
        if not _ATTEMPT.fullmatch(name) or name in queue:
            continue
        folder = Path(output_dir) / FOLDER / name
        if _is_old(folder, latest, stat.S_ISDIR) and _emptied(folder, _OUTPUT, latest):
            folder.rmdir()
            gone.append(name)
    return gone


def remove_uploads(input_dir: str, older_than_s: float, queue: str) -> int:
    """Remove the uploads that have not changed for so long and that nothing in the queue names; how many."""
    latest = time.time() - max(older_than_s, LEAST_AGE_S)
    removed = 0
    for entry in _entries(Path(input_dir) / FOLDER):
        path = Path(entry.path)
        if _UPLOAD.fullmatch(entry.name) and entry.name not in queue and _is_old(path, latest, stat.S_ISREG):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in our folder; nothing where it is missing, or a link to somewhere else."""
    try:
        if stat.S_ISDIR(folder.lstat().st_mode):
            with os.scandir(folder) as entries:
                yield from entries
    except FileNotFoundError:
        return


def _emptied(folder: Path, pattern: re.Pattern[str], latest: float) -> bool:
    """Remove the pictures in it; whether nothing is left."""
    is_empty = True
    for entry in list(_entries(folder)):
        path = Path(entry.path)
        if pattern.fullmatch(entry.name) and _is_old(path, latest, stat.S_ISREG):
            path.unlink(missing_ok=True)
        else:
            is_empty = False
    return is_empty


def _is_old(path: Path, latest: float, is_kind: Callable[[int], bool]) -> bool:
    """Whether it is there, is no link but what it should be, and has not changed since `latest`."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return is_kind(found.st_mode) and found.st_mtime <= latest


# --- the routes ---------------------------------------------------------------------------------------------------------------


def register() -> bool:
    """Add the routes to the server that is starting; False where there is none (another tool imports the pack)."""
    try:
        from server import PromptServer

        routes = PromptServer.instance.routes
    except (ImportError, AttributeError):
        return False
    handlers = FileRoutes(PromptServer.instance.prompt_queue)
    routes.get("/fullet/outputs")(handlers.old_outputs)
    routes.post("/fullet/outputs/remove")(handlers.remove_outputs)
    routes.post("/fullet/uploads/remove")(handlers.remove_uploads)
    return True


class FileRoutes:
    """The handlers, over ComfyUI's own folders and its queue."""

    def __init__(self, prompt_queue: Any) -> None:
        self._prompt_queue = prompt_queue

    async def old_outputs(self, request: web.Request) -> web.Response:
        """Names, in order."""
        try:
            older_than_s = float(request.query.get("older_than_s", LEAST_AGE_S))
        except ValueError:
            return _refused("older_than_s must be a number of seconds")
        after = request.query.get("after", "")
        return web.json_response({"names": await asyncio.to_thread(list_outputs, _folder("output"), after, older_than_s)})

    async def remove_outputs(self, request: web.Request) -> web.Response:
        """Those that were named and are free."""
        names = (await _object(request)).get("names")
        if not isinstance(names, list) or len(names) > PAGE or not all(isinstance(name, str) for name in names):
            return _refused(f"names must be a list of at most {PAGE} ids")
        return web.json_response({"removed": await asyncio.to_thread(remove_outputs, _folder("output"), names, self._queue())})

    async def remove_uploads(self, request: web.Request) -> web.Response:
        """Those that nothing needs."""
        older_than_s = (await _object(request)).get("older_than_s")
        if isinstance(older_than_s, bool) or not isinstance(older_than_s, int | float):
            return _refused("older_than_s must be a number of seconds")
        removed = await asyncio.to_thread(remove_uploads, _folder("input"), float(older_than_s), self._queue())
        return web.json_response({"removed": removed})

    def _queue(self) -> str:
        """Ids and graphs of what waits and runs."""
        running, pending = self._prompt_queue.get_current_queue()
        return json.dumps([list(entry)[1:3] for entry in (*running, *pending)], default=str)


def _folder(kind: str) -> str:
    import folder_paths

    return str(folder_paths.get_output_directory() if kind == "output" else folder_paths.get_input_directory())


async def _object(request: web.Request) -> dict[str, Any]:
    """The body. Only JSON that says so: another site's page cannot send that without being asked for leave first."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="application/json is expected")
    try:
        body = await request.json()
    except ValueError as error:
        raise web.HTTPBadRequest(text="this is no JSON") from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="an object is expected")
    return body


def _refused(why: str) -> web.Response:
    return web.json_response({"error": why}, status=400)
