"""Stored files: the CDN behind attachments and uploads, with the picture sizes Discord would find in them."""

import hashlib
import mimetypes
import re
import struct
from collections import Counter
from urllib.parse import quote

from modules.sandbox.discord_server.wire import ApiError, Code, Upload
from modules.sandbox.discord_server.world import Attachment, World

#: What a guild without boosts accepts for one file. Source: developer docs, "Uploading Files".
UPLOAD_LIMIT_BYTES = 10 * 1024 * 1024
#: What one request may weigh, whatever each of its files may. Source: developer docs, "Create Message", "Limitations".
REQUEST_LIMIT_BYTES = 25 * 1024 * 1024
#: Addresses of the CDN carry a signature and the time at which it ends, about a day ahead.
#: Source: developer docs, "Reference", "Signed Attachment CDN URLs".
SIGNED_FOR_S = 24 * 60 * 60


class FileStore:
    """Keeps file contents by attachment id and hands out their addresses."""

    def __init__(self, world: World, *, upload_limit_bytes: int = UPLOAD_LIMIT_BYTES) -> None:
        self._world = world
        self.upload_limit_bytes = upload_limit_bytes
        self.base_url = ""  #: set once the server listens
        self.contents: dict[int, bytes] = {}
        self.reads = Counter[int]()  #: how often each was asked for at the CDN
        self.attachments: dict[int, Attachment] = {}

    def check_sizes(self, uploads: list[Upload], *, request_bytes: int = 0) -> None:
        """Raises 40005 for a file or a whole request over the limit."""
        if request_bytes > REQUEST_LIMIT_BYTES:
            raise ApiError(Code.TOO_LARGE)
        if any(len(upload.data) > self.upload_limit_bytes for upload in uploads):
            raise ApiError(Code.TOO_LARGE)

    def save(
        self, upload: Upload, *, folder: str, filename: str | None = None, description: str | None = None, ephemeral: bool = False
    ) -> Attachment:
        """Store one upload under `folder` (`attachments/<channel>` or `ephemeral-attachments/<application>`)."""
        name = safe_filename(filename or upload.filename)
        attachment_id = self._world.ids.next()
        size = picture_size(upload.data)
        attachment = Attachment(
            id=attachment_id,
            filename=name,
            size=len(upload.data),
            url=f"{self.base_url}/cdn/{folder}/{attachment_id}/{quote(name)}{self._signature(attachment_id)}",
            content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
            width=size[0] if size else None,
            height=size[1] if size else None,
            description=description,
            is_ephemeral=ephemeral,
        )
        self.contents[attachment_id] = upload.data
        self.attachments[attachment_id] = attachment
        return attachment

    def _signature(self, attachment_id: int) -> str:
        """Looks like Discord's; nobody checks it here."""
        now = int(self._world.clock.timestamp())
        seal = hashlib.sha256(f"{attachment_id}:{now}".encode()).hexdigest()
        return f"?ex={now + SIGNED_FOR_S:x}&is={now:x}&hm={seal}&"


def safe_filename(name: str) -> str:
    """Discord keeps letters, digits, `_`, `.`, and `-` of a file name and turns spaces into underscores."""
    kept = re.sub(r"[^\w.\-]", "", name.replace(" ", "_"))
    return kept.strip(".") or "unknown"


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF, JPEG or WebP; `None` for anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        return struct.unpack("<HH", data[6:10])
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header, not a table
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
