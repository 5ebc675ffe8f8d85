"""`/upload/image` and `/view`."""

from __future__ import annotations

import asyncio
import mimetypes
from io import BytesIO
from pathlib import Path

from aiohttp import BodyPartReader, web
from PIL import Image

from modules.sandbox.comfy_server.faults import FaultKind, Faults, Moment
from modules.sandbox.comfy_server.storage import PLACES, OutsideFolderError, Storage, split_annotation

#: Pages and scripts an upload could smuggle in are only ever served as a download.
_DANGEROUS = frozenset(
    {
        "text/html",
        "text/html-sandboxed",
        "application/xhtml+xml",
        "text/javascript",
        "application/javascript",
        "text/css",
        "image/svg+xml",
    }
)
_DEFAULT_QUALITY = 90


def in_trouble() -> web.HTTPInternalServerError:
    """The answer of the real server wherever a handler trips."""
    return web.HTTPInternalServerError(text="500 Internal Server Error\n\nServer got itself in trouble")


# --- upload ------------------------------------------------------------------------------------------------------------


async def upload(request: web.Request, storage: Storage, locks: asyncio.Lock, faults: Faults) -> web.Response:
    """Stores the file; an equal one of that name is reused, another one makes this a `name (1)`."""
    if faults.peek(FaultKind.DISK_FULL, Moment(path="/upload/image")) is not None:
        await request.read()
        raise in_trouble()  # the handler's OSError
    if not request.content_type.startswith("multipart/"):
        raise web.HTTPBadRequest(text="")
    image, fields = await _read_form(request)
    if image is None:
        raise web.HTTPBadRequest(text="")
    name, content = image
    place = fields.get("type") or "input"
    if place not in PLACES:
        raise in_trouble()
    _check_name(name)
    try:
        folder = storage.folder(place, fields.get("subfolder", ""))
    except OutsideFolderError:
        raise web.HTTPBadRequest(text="") from None
    overwrites = fields.get("overwrite") in ("true", "1")
    try:
        async with locks:
            stored = await asyncio.to_thread(_store, folder, name, content, overwrites)
    except OSError:
        raise in_trouble() from None
    return web.json_response({"name": stored, "subfolder": fields.get("subfolder", ""), "type": place})


async def _read_form(request: web.Request) -> tuple[tuple[str, bytes] | None, dict[str, str]]:
    image: tuple[str, bytes] | None = None
    fields: dict[str, str] = {}
    size = 0
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        content = bytes(await part.read())
        size += len(content)
        if size > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(max_size=request.client_max_size, actual_size=size)
        if part.name == "image" and part.filename:
            image = (part.filename, content)
        elif part.name:
            fields[part.name] = content.decode("utf-8", "replace")
    return image, fields


def _check_name(name: str) -> None:
    if name in (".", "..") or name.startswith(("../", "/")):
        raise web.HTTPBadRequest(text="")
    if "/" in name:
        raise in_trouble()


def _store(folder: Path, name: str, content: bytes, overwrites: bool) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / name, 1
    while not overwrites and path.exists():
        if path.read_bytes() == content:
            return path.name  # not written anew, so it keeps its age. Source: ComfyUI's server.py, `image_is_duplicate`
        stem, suffix = (folder / name).stem, (folder / name).suffix
        path, number = folder / f"{stem} ({number}){suffix}", number + 1
    path.write_bytes(content)
    return path.name


# --- view --------------------------------------------------------------------------------------------------------------


async def view(request: web.Request, storage: Storage, faults: Faults) -> web.StreamResponse:
    """A file as it is, or re-encoded by `preview=` and `channel=`."""
    path = _viewed(request, storage)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    disposition = {"Content-Disposition": f'filename="{path.name}"'}
    if "preview" in request.query or request.query.get("channel") in ("rgb", "a"):
        try:
            body, kind = await asyncio.to_thread(_encoded, path, request.query.get("preview"), request.query.get("channel"))
        except OSError:
            raise in_trouble() from None
        return web.Response(body=body, content_type=kind, headers=disposition)
    headers = disposition | {"X-Content-Type-Options": "nosniff"}
    if kind in _DANGEROUS:
        kind = "application/octet-stream"
        headers |= {"Content-Disposition": f'attachment; filename="{path.name}"', "Cache-Control": "no-store"}
    headers |= {"Content-Type": kind}
    if faults.peek(FaultKind.TRUNCATED_ANSWER, Moment(path="/view", method=request.method)) is not None:
        return web.Response(body=await asyncio.to_thread(path.read_bytes), headers=headers)  # at hand to be cut
    return web.FileResponse(path, headers=headers)


def _viewed(request: web.Request, storage: Storage) -> Path:
    if "filename" not in request.query:
        raise web.HTTPNotFound(text="")
    name, place = split_annotation(request.query["filename"], request.query.get("type", "output"))
    if not name or name.startswith("/") or ".." in name or place not in PLACES:
        raise web.HTTPBadRequest(text="")
    try:
        folder = storage.folder(place, request.query.get("subfolder", ""))
    except OutsideFolderError:
        raise web.HTTPForbidden(text="") from None
    path = folder / Path(name).name
    if not path.is_file():
        raise web.HTTPNotFound(text="")
    return path


def _encoded(path: Path, preview: str | None, channel: str | None) -> tuple[bytes, str]:
    """Raises `OSError` for what is no picture."""
    buffer = BytesIO()
    with Image.open(path) as image:
        if preview is not None:
            kind, _, quality = preview.partition(";")
            kind = kind if kind in ("webp", "jpeg") else "webp"
            image.convert("RGB").save(buffer, kind, quality=int(quality) if quality.isdigit() else _DEFAULT_QUALITY)
            return buffer.getvalue(), f"image/{kind}"
        if channel == "a":
            alpha = image.getchannel("A") if "A" in image.getbands() else Image.new("L", image.size, 255)
            empty = Image.new("RGBA", image.size)
            empty.putalpha(alpha)
            empty.save(buffer, "PNG")
        else:
            image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue(), "image/png"
