"""What people send comes out safe and looking as it did, or is refused with the right words."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin, features

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions, PictureFormat
from modules.utils.jpeg_scans import count_scans
from modules.utils.upload_images import MAX_STORED_BYTES, MAX_STORED_PIXELS, sanitise_upload
from tests.support.pictures import DAMAGE, a_jpeg_of_scans, a_photo, damaged, decoded, encoded

ORIENTATION, MAKE = 0x0112, 0x010F
MIB = 1024 * 1024
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")


def refusal_of(data: bytes) -> FulletError:
    with pytest.raises(FulletError) as caught:
        sanitise_upload(data)
    return caught.value


def a_png_that_claims(width: int, height: int) -> bytes:
    """A few bytes that say they are a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def near(pixel: object, wanted: tuple[int, ...], tolerance: int = 3) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(is_ - should) <= tolerance for is_, should in zip(pixel, wanted, strict=True))


# --- what is taken, and as what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "options", "stays"),
    [
        ("PNG", {}, PictureFormat.PNG),
        ("JPEG", {}, PictureFormat.JPEG),
        ("JPEG", {"progressive": True}, PictureFormat.JPEG),
        ("WEBP", {"lossless": True}, PictureFormat.PNG),
        ("WEBP", {}, PictureFormat.JPEG),
        ("GIF", {}, PictureFormat.PNG),
        pytest.param("AVIF", {}, PictureFormat.JPEG, marks=needs_avif),
    ],
)
def test_good_pictures_pass_and_what_was_packed_with_loss_stays_so(
    form: str, options: dict[str, object], stays: PictureFormat
) -> None:
    picture = sanitise_upload(encoded(a_photo(), form, **options))
    assert picture.format is stays
    assert picture.size == Dimensions(64, 48)
    assert decoded(picture.data).mode == "RGB"


def test_a_phones_jpeg_with_a_second_picture_behind_it_stays_a_jpeg() -> None:
    """Pillow calls it MPO; a portrait's depth map or an HDR gain map stands behind the photo (faults.md M21)."""
    photo = a_photo(400, 300)
    data = encoded(photo, "MPO", save_all=True, append_images=[a_photo(200, 150)], quality=90)
    assert decoded(data).format == "MPO"
    picture = sanitise_upload(data)
    assert picture.format is PictureFormat.JPEG
    assert decoded(picture.data).format == "JPEG"
    assert picture.size == Dimensions(400, 300)
    assert picture.bytes_count < 3 * len(data)


@pytest.mark.parametrize("form", ["BMP", "TIFF", "ICO", "PDF"])
def test_a_format_that_is_not_on_the_list_is_refused(form: str) -> None:
    assert refusal_of(encoded(a_photo(), form)).code is ErrorCode.PICTURE_WRONG_TYPE


@pytest.mark.parametrize("data", [b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 64, b"\0\0\0\x18ftypheic", b""])
def test_what_is_no_picture_that_we_read_is_refused(data: bytes) -> None:
    assert refusal_of(data).code is ErrorCode.PICTURE_WRONG_TYPE


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_broken(form: str, part: float) -> None:
    whole = encoded(a_photo(200, 150), form)
    assert refusal_of(whole[: max(12, int(len(whole) * part))]).code is ErrorCode.PICTURE_BROKEN


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_only_the_first_frame_of_an_animation_is_taken(form: str) -> None:
    red, blue = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    image = decoded(sanitise_upload(encoded(red, form, save_all=True, append_images=[blue])).data)
    assert getattr(image, "n_frames", 1) == 1
    assert near(image.getpixel((5, 5)), (255, 0, 0), 55)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_taken_sideways_comes_out_upright(form: str, orientation: int) -> None:
    upright = Image.new("RGB", (40, 20), "white")
    upright.paste("red", (0, 0, 10, 10))  # the corner at the top left
    undo: Mapping[int, Image.Transpose] = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = decoded(sanitise_upload(encoded(stored, form, exif=exif)).data)
    assert image.size == (40, 20)
    assert near(image.getpixel((2, 2)), (255, 0, 0), 20)
    assert near(image.getpixel((37, 17)), (255, 255, 255), 20)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_metadata_is_dropped(form: str) -> None:
    exif = Image.Exif()
    exif[MAKE] = "SecretCam"
    options: dict[str, object] = {"exif": exif, "icc_profile": b"SecretProfile" * 20}
    if form == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("prompt", "Secret words")
        options["pnginfo"] = chunks
    if form == "JPEG":
        options["comment"] = b"Secret words"
    dirty = encoded(a_photo(), form, **options)
    assert b"Secret" in dirty
    clean = sanitise_upload(dirty)
    assert b"Secret" not in clean.data
    assert not {"exif", "icc_profile", "comment", "prompt"} & decoded(clean.data).info.keys()


# --- colours and transparency -------------------------------------------------------------------------------------------

#: Colorants of the sRGB and the Display P3 profile, adapted to D50, by row X, Y, Z. Sources: ICC's sRGB v2 profile; Apple's
#: Display P3 profile. Both have the sRGB curve.
SRGB = ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410))
DISPLAY_P3 = ((0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407))


def a_display_p3_profile() -> bytes:
    """The sRGB profile with the colorants of Display P3 in their place."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    [tags] = struct.unpack_from(">I", profile, 128)
    for number in range(tags):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
            column = b"rgb".index(name[:1])
            struct.pack_into(">3i", profile, offset + 8, *(round(row[column] * 65536) for row in DISPLAY_P3))
    return bytes(profile)


def from_p3(pixel: tuple[int, int, int]) -> tuple[int, ...]:
    """The same colour in sRGB, calculated here from the published numbers."""

    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    def curved(value: float) -> float:
        return value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055

    light = [linear(value / 255) for value in pixel]
    xyz = [sum(part * value for part, value in zip(row, light, strict=True)) for row in DISPLAY_P3]
    (a, b, c), (d, e, f), (g, h, i) = SRGB
    det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    inverse = (
        ((e * i - f * h), (c * h - b * i), (b * f - c * e)),
        ((f * g - d * i), (a * i - c * g), (c * d - a * f)),
        ((d * h - e * g), (b * g - a * h), (a * e - b * d)),
    )
    values = [sum(part * value for part, value in zip(row, xyz, strict=True)) / det for row in inverse]
    return tuple(round(255 * min(1.0, max(0.0, curved(max(0.0, value))))) for value in values)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_wide_gamut_photo_keeps_its_colours_when_its_profile_goes(form: str) -> None:
    """A photo in Display P3 without its profile looks pale (faults.md M21)."""
    pixel = (200, 90, 60)
    options: dict[str, object] = {"quality": 100} if form != "PNG" else {}
    data = encoded(Image.new("RGB", (64, 64), pixel), form, icc_profile=a_display_p3_profile(), **options)
    image = decoded(sanitise_upload(data).data)
    assert "icc_profile" not in image.info
    wanted = from_p3(pixel)
    assert max(abs(a - b) for a, b in zip(wanted, pixel, strict=True)) > 10  # else this would prove nothing
    assert near(image.getpixel((30, 30)), wanted, 4)


def test_a_transparent_wide_gamut_picture_keeps_both() -> None:
    layer = Image.new("RGBA", (64, 64), (200, 90, 60, 128))
    image = decoded(sanitise_upload(encoded(layer, icc_profile=a_display_p3_profile())).data)
    assert near(image.getpixel((30, 30)), (*from_p3((200, 90, 60)), 128), 2)


def test_a_profile_for_another_kind_of_device_is_not_believed() -> None:
    grey = Image.new("L", (64, 64), 99)
    image = decoded(sanitise_upload(encoded(grey, icc_profile=a_display_p3_profile())).data)
    assert image.getpixel((3, 3)) == (99, 99, 99)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_what_is_transparent_stays_so(form: str) -> None:
    """Templates for inpainting read the mask from it (faults.md M22)."""
    layer = Image.new("RGBA", (64, 48), (255, 0, 0, 255))
    layer.paste((0, 0, 0, 0), (0, 0, 20, 20))
    picture = sanitise_upload(encoded(layer, form))
    image = decoded(picture.data)
    assert image.mode == "RGBA"
    alpha = image.getchannel("A")
    assert (alpha.getpixel((5, 5)), alpha.getpixel((50, 40))) == (0, 255)
    assert picture.format is (PictureFormat.WEBP if form == "WEBP" else PictureFormat.PNG)


def test_a_transparent_colour_of_a_palette_or_of_grey_stays_transparent() -> None:
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0] + [0, 0, 0] * 255)
    for data in (
        encoded(palette, transparency=0),
        encoded(palette, "GIF", transparency=0),
        encoded(Image.new("LA", (8, 8), (0, 0))),
    ):
        alpha = decoded(sanitise_upload(data).data).getchannel("A")
        assert alpha.getextrema() == (0, 0)


def test_an_alpha_channel_that_hides_nothing_is_dropped() -> None:
    assert decoded(sanitise_upload(encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 255)))).data).mode == "RGB"


def test_sixteen_bit_greys_are_scaled_not_clipped() -> None:
    image = decoded(sanitise_upload(encoded(Image.new("I;16", (8, 8), 32_768))).data)
    assert image.getpixel((3, 3)) == (128, 128, 128)


def test_a_cmyk_jpeg_passes() -> None:
    assert decoded(sanitise_upload(encoded(Image.new("CMYK", (8, 8)), "JPEG")).data).mode == "RGB"


# --- large ones ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "form"), [((6000, 5000), "JPEG"), ((8160, 6120), "JPEG"), ((5000, 4000), "PNG"), ((5000, 4000), "GIF")]
)
def test_a_picture_of_many_megapixels_is_scaled_down_and_keeps_its_shape(size: tuple[int, int], form: str) -> None:
    picture = sanitise_upload(encoded(Image.linear_gradient("L").resize(size).convert("RGB"), form))
    pixels = picture.size.width_px * picture.size.height_px
    assert MAX_STORED_PIXELS / 2 < pixels <= MAX_STORED_PIXELS
    assert picture.size.width_px / picture.size.height_px == pytest.approx(size[0] / size[1], rel=0.01)
    assert Dimensions(*decoded(picture.data).size) == picture.size


def test_a_large_webp_is_not_stored_many_times_as_large() -> None:
    """6 MB of WebP were stored as 48 MB of PNG (faults.md H11)."""
    data = encoded(a_photo(3000, 2000, noise=40), "WEBP", quality=90, method=0)
    picture = sanitise_upload(data)
    assert len(data) > 2 * MIB
    assert picture.size == Dimensions(3000, 2000)
    assert picture.bytes_count <= min(3 * len(data), MAX_STORED_BYTES)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_file_over_ten_mebibytes_is_packed_with_loss(mode: str) -> None:
    photo = a_photo(2600, 2000)
    if mode == "RGBA":
        photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    data = encoded(photo, compress_level=1)
    assert len(data) > 10 * MIB
    picture = sanitise_upload(data)
    assert picture.bytes_count <= MAX_STORED_BYTES
    assert picture.size == Dimensions(2600, 2000)
    assert decoded(picture.data).mode == mode


def test_a_side_that_is_too_long_for_webp_is_no_fault() -> None:
    """libwebp ends at 16,383 pixels a side (faults.md L)."""
    layer = Image.new("RGBA", (20_000, 16), (255, 0, 0, 100))
    picture = sanitise_upload(encoded(layer))
    assert (picture.format, picture.size) == (PictureFormat.PNG, Dimensions(20_000, 16))


@pytest.mark.parametrize(("width", "height"), [(8000, 6400), (1, 51_000_001), (12_000, 9_000), (30_000, 30_000), (2**31 - 1, 1)])
def test_too_many_pixels_are_refused_before_they_are_unpacked(width: int, height: int) -> None:
    error = refusal_of(a_png_that_claims(width, height))
    assert error.code is ErrorCode.PICTURE_TOO_MANY_PIXELS
    assert error.params == {"limit_megapixels": 51}


def test_a_webp_may_have_fewer_pixels_because_its_decoder_needs_more_memory() -> None:
    error = refusal_of(encoded(Image.new("RGB", (5000, 5000)), "WEBP", quality=1, method=0))
    assert error.params == {"limit_megapixels": 24}


# --- what would take long -----------------------------------------------------------------------------------------------


def test_a_jpeg_with_many_scans_is_refused_before_it_is_decoded() -> None:
    """100 kB that take 3.5 s to decode (faults.md H12)."""
    data = a_jpeg_of_scans(4000, 200)
    assert len(data) < 120_000
    assert refusal_of(data).code is ErrorCode.PICTURE_TOO_COMPLEX
    assert refusal_of(a_jpeg_of_scans(64, 500)).code is ErrorCode.PICTURE_TOO_COMPLEX


@pytest.mark.parametrize("side_px", [64, 4000])
def test_an_ordinary_progressive_jpeg_is_not(side_px: int) -> None:
    assert sanitise_upload(a_jpeg_of_scans(side_px, 0)).size == Dimensions(side_px, side_px)


@pytest.mark.parametrize(("form", "options", "scans"), [("JPEG", {}, 1), ("JPEG", {"progressive": True}, 10), ("PNG", {}, 0)])
def test_scans_are_counted(form: str, options: dict[str, object], scans: int) -> None:
    assert count_scans(encoded(a_photo(300, 200), form, **options)) == scans


def test_scans_are_counted_past_restart_markers_and_only_of_the_first_picture() -> None:
    plain = encoded(a_photo(300, 200), "JPEG", restart_marker_blocks=1)
    assert b"\xff\xd0" in plain
    assert count_scans(plain) == 1
    assert count_scans(plain + encoded(a_photo(), "JPEG", progressive=True)) == 1


@given(st.binary(max_size=300))
def test_counting_scans_ends_whatever_the_file_holds(data: bytes) -> None:
    assert count_scans(b"\xff\xd8" + data) <= len(data)


def test_a_text_bomb_in_a_png_is_refused() -> None:
    chunks = PngImagePlugin.PngInfo()
    for number in range(80):
        chunks.add_text(f"bomb{number}", "0" * 1_000_000, zip=True)
    data = encoded(a_photo(), pnginfo=chunks)
    assert len(data) < 10 * MIB
    assert refusal_of(data).code is ErrorCode.PICTURE_BROKEN


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says so when metadata is damaged; it is dropped anyway
@settings(deadline=None, max_examples=150)
@given(form=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), damage=DAMAGE)
def test_damage_anywhere_ends_in_a_picture_or_in_our_own_words(form: str, damage: list[tuple[int, int]]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options: dict[str, object] = {} if form == "GIF" else {"exif": exif, "icc_profile": a_display_p3_profile()}
    try:
        sanitise_upload(damaged(encoded(a_photo(), form, **options), damage))
    except FulletError as error:
        assert error.code.value.startswith("picture_")  # noqa: PT017 - not every damage is one
