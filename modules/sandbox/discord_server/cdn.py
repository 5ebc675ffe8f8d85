"""The CDN: stored files under their addresses, and the demo page at the root."""

import mimetypes
from pathlib import Path

from aiohttp import web

from modules.sandbox.discord_server.files import FileStore

PAGE = Path(__file__).resolve().parents[1] / "page"

#: Shown where they stand; anything else that people upload could be a document with scripts of its own.
SHOWN_INLINE = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
#: Nothing foreign runs or loads in the page: own scripts and styles, pictures from this server, nothing else.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def add_cdn_routes(app: web.Application, files: FileStore) -> None:
    """Register `/cdn/<folder>/<owner>/<attachment>/<name>`."""

    async def serve(request: web.Request) -> web.Response:
        attachment_id = int(request.match_info["attachment"])
        files.reads[attachment_id] += 1
        data = files.contents.get(attachment_id)
        if data is None:
            return web.Response(status=404, text="This content is no longer available.")
        kind = files.attachments[attachment_id].content_type
        headers = {
            "Cache-Control": "private, max-age=86400",
            "Content-Security-Policy": "sandbox",
            "X-Content-Type-Options": "nosniff",
        }
        if kind not in SHOWN_INLINE:
            headers["Content-Disposition"] = "attachment"
        return web.Response(body=data, content_type=kind, headers=headers)

    app.router.add_get(r"/cdn/{folder}/{owner:\d+}/{attachment:\d+}/{name}", serve)


def add_page_routes(app: web.Application, folder: Path = PAGE) -> None:
    """Serve the page's files at `/`; only files that lie in the folder."""

    async def serve(request: web.Request) -> web.StreamResponse:
        name = request.match_info["path"] or "index.html"
        place = (folder / name).resolve()
        if not place.is_relative_to(folder) or not place.is_file():
            return web.Response(status=404, text="Not here.")
        kind = mimetypes.guess_type(place.name)[0] or "application/octet-stream"
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": PAGE_POLICY,
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "X-Content-Type-Options": "nosniff",
        }
        return web.FileResponse(place, headers=headers)

    app.router.add_get("/{path:.*}", serve)
