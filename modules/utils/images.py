"""Outputs stripped of foreign metadata, files made to fit a limit, small ones for previews; and what uploads share with them.

The functions are pure and synchronous; `PictureWorkshop` runs them off the event loop, a bounded number at a time. Files that
people send are decoded in a process of their own (`upload_process.py`); only it, this module and `upload_images.py` use Pillow.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from types import TracebackType
from typing import Self, TypeVar

from PIL import Image, PngImagePlugin

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import MAX_OUTPUT_PIXELS, Dimensions, Picture, PictureFormat
from modules.utils.png_chunks import lacks_rows, repacked

MAX_PREVIEW_SIDE_PX = 512
MAX_PREVIEW_BYTES = 40_000

#: Name of the one text chunk that we write into a PNG: the recipe of this picture, as JSON.
RECIPE_CHUNK = "fullet"
#: WebP and JPEG have no text chunks: there the recipe is an EXIF user comment, and this `Software` says that it is ours.
#: Source: EXIF 2.32, tags 0x0131, 0x8769 (the EXIF directory) and 0x9286; a comment begins with its character code.
_SOFTWARE, _EXIF, _USER_COMMENT = 0x0131, 0x8769, 0x9286
_OURS = "FuLLet"
_ASCII = b"ASCII\0\0\0"
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")

#: What servers write, and what we write ourselves.
OUTPUT_FORMATS = ("PNG", "JPEG", "WEBP")
#: How pictures begin; a file that begins so and does not open is broken, any other is of the wrong type.
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8")
_AVIF = b"ftypavif"
#: What Pillow is known to raise on damaged files, besides OSError (which includes UnidentifiedImageError).
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError, struct.error, zlib.error)
_BOMB = (Image.DecompressionBombWarning, Image.DecompressionBombError)
#: How our PNG are packed: zlib looks for runs only. Against its ordinary search at the fastest level that took 0.65 of the
#: time on a photo-like megapixel, 0.9 on a smooth one and as long on a drawing, and every file was smaller.
PNG_PACKING = {"compress_level": 1, "compress_type": zlib.Z_RLE}
#: The longest side of a WebP. Source: WEBP_MAX_DIMENSION in libwebp's encode.h.
MAX_WEBP_SIDE_PX = 16_383
#: The longest side that libjpeg writes. Source: JPEG_MAX_DIMENSION in its jmorecfg.h (the format itself ends at 65,535).
_MAX_JPEG_SIDE_PX = 65_500
#: Steps down when a file must fit under an upload limit, the first that fits wins.
_WEBP_QUALITIES = (95, 90, 80)
_JPEG_QUALITIES = (85, 75)
_SHRINK = 0.75
_PREVIEW_QUALITIES = (80, 65, 50, 35)


# --- outputs ------------------------------------------------------------------------------------------------------------


def finish_output(data: bytes, *, recipe: str | None = None) -> Picture:
    """Prove that what a server drew decodes, and write it anew as PNG that carries `recipe` (JSON) and nothing else.

    ComfyUI writes the whole graph into its files: in a merged run that is everybody's prompt. The packed pixels of a plain PNG
    stay as they are (docs/decisions/0062), everything else is decoded and encoded. Raises PICTURE_BROKEN for anything that does
    not decode to its last row, PICTURE_TOO_MANY_PIXELS.
    """
    texts = {} if recipe is None else {RECIPE_CHUNK: recipe}
    with opened(data, max_pixels=MAX_OUTPUT_PIXELS) as image:
        if image.format == "PNG" and (plain_file := repacked(data, texts=texts)) is not None:
            return Picture(data=plain_file, format=PictureFormat.PNG, size=Dimensions(*image.size))
        if image.format == "PNG" and lacks_rows(data):
            raise FulletError(ErrorCode.PICTURE_BROKEN)
        plain = image.convert("RGBA") if is_transparent(image) else flat_rgb(image)
    chunks = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        chunks.add_itxt(keyword, text)
    return encode_picture(plain, PictureFormat.PNG, **PNG_PACKING, pnginfo=chunks)


def read_recipe(data: bytes) -> str | None:
    """The recipe (JSON) that we wrote into a file of ours; None for any other. Whoever sends a file may have forged it."""
    try:
        with opened(data, max_pixels=MAX_OUTPUT_PIXELS) as image:
            return _recipe_of(image)
    except FulletError:
        return None


def fit_under(picture: Picture, max_bytes: int) -> Picture:
    """The picture itself when it fits, else the best of WebP, JPEG, and smaller JPEGs that does. Its recipe goes along.

    Raises PICTURE_TOO_LARGE when not even a tiny one fits.
    """
    if picture.bytes_count <= max_bytes:
        return picture
    with opened(picture.data, max_pixels=MAX_OUTPUT_PIXELS) as image:
        recipe = _recipe_of(image)
        full = image.convert("RGBA") if is_transparent(image) else flat_rgb(image)
    for candidate in _ladder(full, b"" if recipe is None else _exif_with(recipe)):
        if candidate.bytes_count <= max_bytes:
            return candidate
    raise FulletError(ErrorCode.PICTURE_TOO_LARGE, limit_mib=max(1, max_bytes // (1024 * 1024)))


def flatten(picture: Picture) -> Picture:
    """The same picture on a white ground; the very same object where nothing is transparent. Raises PICTURE_BROKEN."""
    if picture.format is PictureFormat.JPEG:
        return picture
    with opened(picture.data, max_pixels=MAX_OUTPUT_PIXELS) as image:
        if not is_transparent(image):
            return picture
        flat = flat_rgb(image)
    return encode_picture(flat, PictureFormat.PNG, **PNG_PACKING)


def shrink_to_jpeg(data: bytes, *, max_side_px: int = MAX_PREVIEW_SIDE_PX, max_bytes: int = MAX_PREVIEW_BYTES) -> bytes:
    """A small JPEG of a picture, for previews and thumbnails. Raises PICTURE_BROKEN."""
    with opened(data, max_pixels=MAX_OUTPUT_PIXELS) as image:
        image.draft("RGB", (max_side_px, max_side_px))  # JPEG sources are decoded at a fraction of their size
        small = flat_rgb(image)
    small.thumbnail((max_side_px, max_side_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
    while True:
        for quality in _PREVIEW_QUALITIES:
            jpeg = _encoded(small, PictureFormat.JPEG, quality=quality)
            if len(jpeg) <= max_bytes:
                return jpeg
        small = scaled(small, _SHRINK)


# --- off the loop -------------------------------------------------------------------------------------------------------

T = TypeVar("T")


class PictureWorkshop:
    """Runs the functions above in a few threads, so that the event loop goes on; open it with `async with`.

    Threads, not processes: Pillow gives up the GIL inside its codecs (docs/decisions/0010). At most `benches` pictures are worked
    on at once, and the memory of a decoded picture is only taken by those; the others wait, in order.
    """

    def __init__(self, benches: int = 2) -> None:
        self._benches = benches
        self._threads: ThreadPoolExecutor | None = None
        self._room = asyncio.Semaphore(benches)

    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(self._benches, thread_name_prefix="pictures")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown)

    async def finish_output(self, data: bytes, *, recipe: str | None = None) -> Picture:
        """See the function of this name."""
        return await self._work(lambda: finish_output(data, recipe=recipe))

    async def fit_under(self, picture: Picture, max_bytes: int) -> Picture:
        """See the function of this name."""
        return picture if picture.bytes_count <= max_bytes else await self._work(lambda: fit_under(picture, max_bytes))

    async def flatten(self, picture: Picture) -> Picture:
        """See the function of this name."""
        return await self._work(lambda: flatten(picture))

    async def shrink_to_jpeg(
        self, data: bytes, *, max_side_px: int = MAX_PREVIEW_SIDE_PX, max_bytes: int = MAX_PREVIEW_BYTES
    ) -> bytes:
        """See the function of this name."""
        return await self._work(lambda: shrink_to_jpeg(data, max_side_px=max_side_px, max_bytes=max_bytes))

    async def _work(self, act: Callable[[], T]) -> T:
        assert self._threads is not None, "used outside `async with`"
        async with self._room:
            return await asyncio.get_running_loop().run_in_executor(self._threads, act)


# --- how ----------------------------------------------------------------------------------------------------------------


@contextmanager
def opened(data: bytes, *, max_pixels: int, formats: tuple[str, ...] = OUTPUT_FORMATS) -> Iterator[Image.Image]:
    """The first frame, fully decoded; its size is checked before its pixels are touched."""
    try:
        with Image.open(BytesIO(data), formats=formats) as image:
            if image.width * image.height > max_pixels:
                raise FulletError(ErrorCode.PICTURE_TOO_MANY_PIXELS, limit_megapixels=max_pixels // 1_000_000)
            yield image
    except _BOMB as error:
        raise FulletError(ErrorCode.PICTURE_TOO_MANY_PIXELS, limit_megapixels=max_pixels // 1_000_000) from error
    except _DAMAGE as error:
        looks_right = data.startswith(_MAGIC) or data[4:12] == _AVIF
        raise FulletError(ErrorCode.PICTURE_BROKEN if looks_right else ErrorCode.PICTURE_WRONG_TYPE) from error


def is_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def flat_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what was transparent becomes white, 16-bit greys are scaled instead of clipped."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if not is_transparent(image):
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(ground, layer).convert("RGB")


def _recipe_of(image: Image.Image) -> str | None:
    if (chunk := image.info.get(RECIPE_CHUNK)) is not None:
        return str(chunk)
    exif = image.getexif()
    comment = exif.get_ifd(_EXIF).get(_USER_COMMENT)
    if exif.get(_SOFTWARE) != _OURS or not isinstance(comment, bytes) or not comment.startswith(_ASCII):
        return None
    return comment.removeprefix(_ASCII).decode("ascii", "replace")


def _exif_with(recipe: str) -> bytes:
    """EXIF of the recipe and nothing else. Readers of user comments agree on ASCII only; JSON can escape the other letters."""
    plain = _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], recipe)
    exif = Image.Exif()
    exif[_SOFTWARE] = _OURS
    exif.get_ifd(_EXIF)[_USER_COMMENT] = _ASCII + plain.encode("ascii")
    return exif.tobytes()


def _ladder(image: Image.Image, exif: bytes) -> Iterator[Picture]:
    """Ever smaller files of one picture, best first; none that its format cannot hold."""
    if max(image.size) <= MAX_WEBP_SIDE_PX:
        for quality in _WEBP_QUALITIES:
            yield encode_picture(image, PictureFormat.WEBP, quality=quality, method=2, exif=exif)
    flat = flat_rgb(image)
    if max(flat.size) > _MAX_JPEG_SIDE_PX:
        flat = scaled(flat, _MAX_JPEG_SIDE_PX / max(flat.size))
    while True:
        for quality in _JPEG_QUALITIES:
            yield encode_picture(flat, PictureFormat.JPEG, quality=quality, exif=exif)
        if max(flat.size) <= 64:
            return
        flat = scaled(flat, _SHRINK)


def scaled(image: Image.Image, factor: float) -> Image.Image:
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def encode_picture(image: Image.Image, form: PictureFormat, **options: object) -> Picture:
    return Picture(data=_encoded(image, form, **options), format=form, size=Dimensions(*image.size))


def _encoded(image: Image.Image, form: PictureFormat, **options: object) -> bytes:
    image.info.clear()  # some writers copy what they find here (ICC profiles, EXIF, comments) into the new file
    buffer = BytesIO()
    image.save(buffer, form.value.upper(), **options)
    return buffer.getvalue()
