"""The file routes of our node pack, as comfy_custom_nodes/PROTOCOL.md describes them, for the bot to be tried with."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

FOLDER = "fullet"
PAGE = 500
LEAST_AGE_S = 600.0
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OUTPUT = re.compile(r"\d+_\d{5,}_?\.[a-z]{3,4}")


def old_outputs(root: Path, query: Iterable[tuple[str, str]]) -> web.Response:
    wanted = dict(query)
    latest = time.time() - max(float(wanted.get("older_than_s", 0)), LEAST_AGE_S)
    found = [path for path in _content(root / "output" / FOLDER) if path.is_dir() and path.stat().st_mtime <= latest]
    names = sorted(path.name for path in found if _UUID.fullmatch(path.name) and path.name > wanted.get("after", ""))
    return web.json_response({"names": names[:PAGE]})


def remove_outputs(root: Path, names: object, queue: Iterable[object]) -> web.Response:
    if not isinstance(names, list) or len(names) > PAGE:
        return web.json_response({"error": f"names must be a list of at most {PAGE} ids"}, status=400)
    busy, removed = json.dumps(list(queue), default=str), []
    for name in (name for name in names if _UUID.fullmatch(name) and name not in busy):
        folder, latest = root / "output" / FOLDER / name, time.time() - LEAST_AGE_S
        if folder.is_dir() and folder.stat().st_mtime <= latest:
            for path in _content(folder):
                if _OUTPUT.fullmatch(path.name) and path.stat().st_mtime <= latest:
                    path.unlink()
            if not _content(folder):
                folder.rmdir()
                removed.append(name)
    return web.json_response({"removed": removed})


def remove_uploads(root: Path, older_than_s: object, queue: Iterable[object]) -> web.Response:
    if not isinstance(older_than_s, int | float):
        return web.json_response({"error": "older_than_s must be a number of seconds"}, status=400)
    latest, busy = time.time() - max(older_than_s, LEAST_AGE_S), json.dumps(list(queue), default=str)
    found = [path for path in _content(root / "input" / FOLDER) if _UUID.match(path.name) and path.name not in busy]
    old = [path for path in found if path.stat().st_mtime <= latest]
    for path in old:
        path.unlink()
    return web.json_response({"removed": len(old)})


def _content(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
