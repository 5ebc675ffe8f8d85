"""The files of a message, wherever Discord lists them.

`attachments` holds only files that neither a component nor an embed shows, so our own results have none there. Source: Discord
developer documentation, "Message Object" (`attachments`), "Unfurled Media Item", "Message Snapshot Object".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import discord

from modules.domain.errors import ErrorCode, FulletError

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFile:
    """One file as Discord describes it. The addresses are signed and stop working after about a day."""

    filename: str
    url: str = field(repr=False)
    proxy_url: str = field(default="", repr=False)  #: Discord's own copy of a picture that lies elsewhere
    content_type: str = ""
    size: int | None = None  #: bytes; components and embeds do not tell it
    pixels: int = 0  #: width times height; 0 where Discord does not tell it

    @classmethod
    def of(cls, attachment: discord.Attachment) -> MessageFile:
        """An attachment of a message or of a command."""
        return cls(
            filename=attachment.filename,
            url=attachment.url,
            proxy_url=attachment.proxy_url,
            content_type=attachment.content_type or "",
            size=attachment.size,
            pixels=(attachment.width or 0) * (attachment.height or 0),
        )

    @property
    def is_image(self) -> bool:
        """By its type; where Discord tells none, by its name."""
        if self.content_type:
            return self.content_type.startswith("image/")
        return PurePosixPath(self.filename).suffix.lower() in _IMAGE_SUFFIXES


def as_message_file(attached: discord.Attachment | MessageFile) -> MessageFile:
    """The same file in our words."""
    return attached if isinstance(attached, MessageFile) else MessageFile.of(attached)


def files_of(message: discord.Message | discord.MessageSnapshot) -> list[MessageFile]:
    """Every file, in this order: attachments, components in reading order, embeds, and those of a forwarded message."""
    found = [MessageFile.of(attachment) for attachment in message.attachments]
    found += _in_components(message.components)
    for embed in message.embeds:
        found += _in_embed(embed)
    for snapshot in getattr(message, "message_snapshots", ()):
        found += files_of(snapshot)
    return found


def images_of(message: discord.Message | discord.MessageSnapshot) -> list[MessageFile]:
    """The pictures among them."""
    return [file for file in files_of(message) if file.is_image]


def first_image(message: discord.Message) -> MessageFile:
    """The picture that a menu entry of this message is about. Raises PICTURE_WRONG_TYPE where it shows none."""
    images = images_of(message)
    if not images:
        raise FulletError(ErrorCode.PICTURE_WRONG_TYPE)
    return images[0]


def _in_components(components: Sequence[object]) -> Iterator[MessageFile]:
    for component in components:
        match component:
            case discord.MediaGalleryComponent():
                yield from (_of_media(item.media) for item in component.items)
            case discord.ThumbnailComponent():
                yield _of_media(component.media)
            case discord.FileComponent():
                yield _of_media(component.media, filename=component.name, size=component.size)
            case discord.SectionComponent():
                yield from _in_components([*component.children, component.accessory])
            case _:
                yield from _in_components(getattr(component, "children", ()))


def _of_media(media: discord.UnfurledMediaItem, *, filename: str | None = None, size: int | None = None) -> MessageFile:
    return MessageFile(
        filename=filename or _name_in(media.url),
        url=media.url,
        proxy_url=media.proxy_url or "",
        content_type=media.content_type or "",
        size=size,
        pixels=(media.width or 0) * (media.height or 0),
    )


def _in_embed(embed: discord.Embed) -> Iterator[MessageFile]:
    for shown in (embed.image, embed.thumbnail):
        if shown.url:
            kind = getattr(shown, "content_type", None) or "image/unknown"  # an embed's image is one, whatever its address says
            yield MessageFile(
                filename=_name_in(shown.url), url=shown.url, proxy_url=shown.proxy_url or "", content_type=str(kind)
            )


def _name_in(url: str) -> str:
    """Addresses end in the file's name; a query with the signature follows."""
    return unquote(PurePosixPath(urlsplit(url).path).name)
