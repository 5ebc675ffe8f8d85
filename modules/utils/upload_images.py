"""What people send becomes a picture that is safe to keep: one frame, upright, in sRGB, of bounded size, without metadata.

Pure and synchronous. It decodes what a stranger wrote, so the program only runs it inside `upload_worker.py`, a process with a
deadline and a memory bound.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from io import BytesIO

from PIL import Image, ImageCms, features

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import MAX_UPLOAD_PIXELS, Picture, PictureFormat
from modules.utils.images import MAX_WEBP_SIDE_PX, PNG_PACKING, encode_picture, flat_rgb, is_transparent, opened, scaled
from modules.utils.jpeg_scans import count_scans
from modules.utils.png_chunks import lacks_rows

#: A larger picture is scaled down to so many pixels. ComfyUI works on 1 to 4 megapixels; 16 leave room for an upscale.
MAX_STORED_PIXELS = 16_000_000
#: A picture that would take more room is packed with loss. Without boosts Discord takes files of so many bytes as well.
MAX_STORED_BYTES = 10 * 1024 * 1024
#: Formats that take fewer pixels than MAX_UPLOAD_PIXELS: no decoder may need more than the worker's memory bound
#: (`upload_worker.MEMORY_MIB`). A pixel costs 4 bytes in Pillow, 6 more while a progressive JPEG is put together (16-bit
#: coefficients of three components, libjpeg's `jdcoefct.c`), and 12 more in WebP (two canvases of libwebp's WebPAnimDecoder and
#: the bytes it hands over) and AVIF (planes of up to 16 bits, then RGBA).
MAX_PIXELS_OF = {"WEBP": 24_000_000, "AVIF": 24_000_000}
#: libjpeg writes a progressive colour picture in 10 scans and decodes however many a file has, each a pass over all pixels:
#: 200 scans of 16 megapixels fit into 100 kB and take 3.5 s. libtiff stops at 100 scans as well
#: (LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER). One pass over a megapixel takes about 1 ms.
MAX_JPEG_SCANS = 100
MAX_SCANNED_PIXELS = 1_000_000_000

#: MPO is what Pillow calls a JPEG with further pictures behind it, as phones write them (portrait mode, HDR gain maps).
_JPEG = frozenset({"JPEG", "MPO"})
#: Pillow has AVIF since 11.3, where the wheel was built with it.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF") + (("AVIF",) if features.check("avif") else ())
_JPEG_QUALITIES = (95, 90, 85)
_WEBP_QUALITIES = (95, 90, 80)
_SHRINK = 0.75
_ORIENTATION = 0x0112
#: What undoes each orientation of EXIF 2.32, tag 0x0112.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Modes of Pillow by the colour space that a profile says it is for. Source: ICC.1:2022, table 19.
_MODES_OF_SPACE = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",)}


def sanitise_upload(data: bytes) -> Picture:
    """Decode what a person sent and encode it anew: first frame, upright, in sRGB, without metadata; transparency stays.

    JPEG (also MPO) and AVIF without transparency become JPEG, as does a WebP that was packed with loss; with transparency these
    become WebP. All else becomes PNG. Over MAX_STORED_PIXELS it is scaled down, over MAX_STORED_BYTES it is packed with loss.
    Raises PICTURE_WRONG_TYPE, PICTURE_TOO_MANY_PIXELS (limit_megapixels), PICTURE_TOO_COMPLEX, PICTURE_BROKEN.
    """
    with opened(data, max_pixels=MAX_UPLOAD_PIXELS, formats=_FORMATS) as image:
        form = image.format or ""
        _check_cost(data, image, form)
        if form == "PNG" and lacks_rows(data):
            raise FulletError(ErrorCode.PICTURE_BROKEN)
        is_lossy = form in _JPEG or form == "AVIF" or (form == "WEBP" and _is_lossy_webp(data))
        profile = image.info.get("icc_profile")
        if image.width * image.height > MAX_STORED_PIXELS:
            image.draft(None, _halved(image.size))
        image.load()
        orientation = image.getexif().get(_ORIENTATION)
        plain = _in_srgb(_scaled_down(_directly_scalable(image)), profile if isinstance(profile, bytes) else None)
        plain = plain.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else plain
    return _packed(plain, is_lossy=is_lossy)


def _check_cost(data: bytes, image: Image.Image, form: str) -> None:
    """Refuse what would take too much memory or time, by what the header says and the scans counted."""
    pixels = image.width * image.height
    limit = MAX_PIXELS_OF.get(form, MAX_UPLOAD_PIXELS)
    if pixels > limit:
        raise FulletError(ErrorCode.PICTURE_TOO_MANY_PIXELS, limit_megapixels=limit // 1_000_000)
    if form in _JPEG:
        scans = count_scans(data)
        if scans > MAX_JPEG_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
            raise FulletError(ErrorCode.PICTURE_TOO_COMPLEX)


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """The size of the same shape that has at most MAX_STORED_PIXELS."""
    factor = math.sqrt(MAX_STORED_PIXELS / (size[0] * size[1]))
    return size if factor >= 1 else (max(1, math.floor(size[0] * factor)), max(1, math.floor(size[1] * factor)))


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    """The size to ask of a JPEG's decoder, which halves sides for nothing (other decoders ignore it) but not below this size.

    It lies below MAX_STORED_PIXELS, so that 48 megapixels become 12 in a third of the time that decoding and scaling them takes.
    """
    width, height = _fitting(size)
    return max(1, width * 4 // 5), max(1, height * 4 // 5)


def _directly_scalable(image: Image.Image) -> Image.Image:
    """The pixels in a mode that can be scaled and converted: RGBA where anything is transparent, CMYK as it is, else L or RGB."""
    if is_transparent(image):
        layer = image.convert("RGBA")
        return layer if layer.getchannel("A").getextrema() != (255, 255) else layer.convert("RGB")
    return image if image.mode in {"L", "RGB", "CMYK"} else flat_rgb(image)


def _scaled_down(image: Image.Image) -> Image.Image:
    wanted = _fitting(image.size)
    return image if wanted == image.size else image.resize(wanted, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB or RGBA whose numbers mean what browsers and models take them for; a profile that does not fit is not believed."""
    wanted = "RGBA" if image.mode == "RGBA" else "RGB"
    if profile:
        try:
            source = ImageCms.getOpenProfile(BytesIO(profile))
            if image.mode in _MODES_OF_SPACE.get(source.profile.xcolor_space, ()):
                converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=wanted)
                image = converted or image
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # damaged, or for other devices: the pixels as they are look better than none
    return image.convert(wanted)


def _packed(image: Image.Image, *, is_lossy: bool) -> Picture:
    """The picture in a file of at most MAX_STORED_BYTES; without loss where it came so and fits."""
    if not is_lossy or (image.mode == "RGBA" and max(image.size) > MAX_WEBP_SIDE_PX):
        exact = encode_picture(image, PictureFormat.PNG, **PNG_PACKING)
        if exact.bytes_count <= MAX_STORED_BYTES:
            return exact
    return next(packed for packed in _lossy_files(image) if packed.bytes_count <= MAX_STORED_BYTES)


def _lossy_files(image: Image.Image) -> Iterator[Picture]:
    """Ever smaller files, best first: JPEG with full colour, WebP where something is transparent."""
    while True:
        if image.mode == "RGBA" and max(image.size) <= MAX_WEBP_SIDE_PX:
            for quality in _WEBP_QUALITIES:
                yield encode_picture(image, PictureFormat.WEBP, quality=quality, method=2)
        elif image.mode != "RGBA":
            for quality in _JPEG_QUALITIES:
                yield encode_picture(image, PictureFormat.JPEG, quality=quality, subsampling=0)
        image = scaled(image, _SHRINK)


def _is_lossy_webp(data: bytes) -> bool:
    """Whether the first frame is packed with loss: a `VP8 ` chunk, not a `VP8L`. Source: RFC 9649."""
    at = 12  # RIFF, length, WEBP
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind in (b"VP8 ", b"VP8L"):
            return bool(kind == b"VP8 ")
        at += 8 + (16 if kind == b"ANMF" else length + length % 2)  # the chunks of a frame stand behind its 16 bytes
    return False
