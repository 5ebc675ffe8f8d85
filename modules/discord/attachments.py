"""Files that people attach: judged by what Discord says of them, then read, and only then decoded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePath
from urllib.parse import urlsplit

from modules.discord.downloads import read_url
from modules.discord.message_files import MessageFile
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import MAX_UPLOAD_BYTES, MAX_UPLOAD_PIXELS, BlobId
from modules.domain.people import UserId
from modules.domain.ports import PictureIntake

#: A file of recipes is a few kilobytes; we write them ourselves.
MAX_RECIPE_BYTES = 1024 * 1024
#: What may be a picture that we can read, by either of what Discord says; the bytes themselves have the last word.
_MEDIA_TYPES = frozenset({"image/png", "image/apng", "image/jpeg", "image/jpg", "image/webp", "image/gif", "image/avif"})
#: What `message_files.py` says of the pictures of embeds, whose type Discord need not tell.
_UNKNOWN_IMAGE = "image/unknown"
_EXTENSIONS = frozenset({".png", ".apng", ".jpg", ".jpeg", ".jfif", ".mpo", ".webp", ".gif", ".avif"})


class AttachmentReader:
    """Reads what people attach, one file a person at a time."""

    def __init__(self, intake: PictureIntake, cdn_hosts: Collection[str]) -> None:
        self._intake = intake
        self._cdn_hosts = cdn_hosts

    async def picture(self, user_id: UserId, file: MessageFile) -> BlobId:
        """Check, read, make safe and keep a picture. Raises PICTURE_*, PICTURES_BUSY, DISCORD_BUSY."""
        check_picture(file)
        async with self._intake.turn(user_id):
            return await self._intake.take(await self._read(file, MAX_UPLOAD_BYTES))

    async def recipe(self, user_id: UserId, file: MessageFile) -> str | None:
        """The recipe in a picture's file, or a file of JSON as it is; None for any other.

        Raises PICTURE_*, PICTURES_BUSY, DISCORD_BUSY.
        """
        is_json = file.filename.lower().endswith(".json")
        limit_bytes = MAX_RECIPE_BYTES if is_json else MAX_UPLOAD_BYTES
        _check_size(file, limit_bytes)
        async with self._intake.turn(user_id):
            data = await self._read(file, limit_bytes)
            return data.decode("utf-8", "replace") if is_json else await self._intake.read_recipe(data)

    async def _read(self, file: MessageFile, limit_bytes: int) -> bytes:
        """A picture that lies elsewhere is read from Discord's copy of it: we ask no host but Discord's."""
        for url in (file.url, file.proxy_url):
            if urlsplit(url).hostname in self._cdn_hosts:
                return await read_url(url, max_bytes=limit_bytes)
        raise FulletError(ErrorCode.PICTURE_GONE)


def check_picture(file: MessageFile) -> None:
    """Refuse what cannot be taken, by Discord's own description of it.

    Raises PICTURE_TOO_LARGE (limit_mib), PICTURE_WRONG_TYPE, PICTURE_TOO_MANY_PIXELS (limit_megapixels).
    """
    _check_size(file, MAX_UPLOAD_BYTES)
    if not looks_like_picture(file):
        raise FulletError(ErrorCode.PICTURE_WRONG_TYPE)
    if file.pixels > MAX_UPLOAD_PIXELS:
        raise FulletError(ErrorCode.PICTURE_TOO_MANY_PIXELS, limit_megapixels=MAX_UPLOAD_PIXELS // 1_000_000)


def looks_like_picture(file: MessageFile) -> bool:
    """Whether Discord's description of a file is that of a picture we may be able to read."""
    media_type = file.content_type.partition(";")[0].strip().lower()
    suffix = PurePath(file.filename).suffix.lower()
    return media_type in _MEDIA_TYPES or suffix in _EXTENSIONS or media_type == _UNKNOWN_IMAGE


def _check_size(file: MessageFile, limit_bytes: int) -> None:
    if (file.size or 0) > limit_bytes:
        raise FulletError(ErrorCode.PICTURE_TOO_LARGE, limit_mib=limit_bytes // 1024**2)
