"""What Discord says of a file is enough to refuse it unread."""

from __future__ import annotations

from types import SimpleNamespace

import discord
import pytest

from modules.discord.attachments import check_picture, looks_like_picture
from modules.discord.message_files import MessageFile
from modules.domain.errors import ErrorCode, FulletError

MIB = 1024 * 1024


def attached(
    filename: str = "photo.jpg",
    media_type: str | None = "image/jpeg",
    size: int = 100_000,
    sides: tuple[int, int] | None = (4000, 3000),
) -> MessageFile:
    """As discord.py and we make it of Discord's attachment object."""
    data = {"id": "1", "filename": filename, "size": size, "url": "https://cdn.discordapp.com/a", "proxy_url": "", "flags": 0}
    data |= {} if media_type is None else {"content_type": media_type}
    data |= {} if sides is None else {"width": sides[0], "height": sides[1]}
    state = SimpleNamespace(http=None)  # only reading needs more
    return MessageFile.of(discord.Attachment(data=data, state=state))  # type: ignore[arg-type] # as Discord sends it


@pytest.mark.parametrize(
    "good",
    [
        attached(),
        attached("IMG_1.PNG", "image/png"),
        attached("no ending", "image/webp; charset=x"),
        attached("moving.gif", None, sides=None),
        attached("photo.avif", "application/octet-stream", sides=None),
        attached(size=50 * MIB),
        attached(sides=(8160, 6120)),
    ],
    ids=str,
)
def test_what_may_be_a_picture_is_read(good: MessageFile) -> None:
    check_picture(good)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (attached(size=50 * MIB + 1), ErrorCode.PICTURE_TOO_LARGE),
        (attached("photo.heic", "image/heic"), ErrorCode.PICTURE_WRONG_TYPE),
        (attached("drawing.svg", "image/svg+xml"), ErrorCode.PICTURE_WRONG_TYPE),
        (attached("notes.txt", "text/plain", sides=None), ErrorCode.PICTURE_WRONG_TYPE),
        (attached("no ending", None, sides=None), ErrorCode.PICTURE_WRONG_TYPE),
        (attached(sides=(30_000, 30_000)), ErrorCode.PICTURE_TOO_MANY_PIXELS),
    ],
)
def test_what_cannot_be_taken_is_refused_in_words(bad: MessageFile, code: ErrorCode) -> None:
    with pytest.raises(FulletError) as caught:
        check_picture(bad)
    assert caught.value.code is code


def test_a_session_looks_for_the_pictures_among_its_files() -> None:
    assert not looks_like_picture(attached("notes.txt", "text/plain"))
    assert looks_like_picture(attached("photo.jfif", None))
