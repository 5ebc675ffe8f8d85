"""Uploads come out safe or are refused with the right words; outputs carry one recipe and nothing else."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import Mapping
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions, Picture, PictureFormat
from modules.utils.images import (
    MAX_PREVIEW_BYTES,
    PictureWorkshop,
    finish_output,
    fit_under,
    read_recipe,
    sanitise_upload,
    shrink_to_jpeg,
)
from modules.utils.intake import UploadIntake
from tests.support.comfy_recordings import binary

ORIENTATION, MAKE, SOFTWARE, EXIF_DIRECTORY, USER_COMMENT = 0x0112, 0x010F, 0x0131, 0x8769, 0x9286


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def a_photo(width: int = 64, height: int = 48) -> Image.Image:
    """Noise over a gradient: compresses about as badly as a photograph."""
    noise = Image.effect_noise((width, height), 60)
    return Image.merge(
        "RGB", [noise, Image.linear_gradient("L").resize((width, height)), noise.transpose(Image.Transpose.ROTATE_180)]
    )


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


def refusal_of(data: bytes, filename: str = "cat.png") -> FulletError:
    with pytest.raises(FulletError) as caught:
        sanitise_upload(data, filename=filename)
    return caught.value


def a_png_that_claims(width: int, height: int) -> bytes:
    """A few bytes that say they are a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


# --- uploads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "filename", "stays"),
    [
        ("PNG", "a.png", PictureFormat.PNG),
        ("JPEG", "a.JPG", PictureFormat.JPEG),
        ("JPEG", "a.jpeg", PictureFormat.JPEG),
        ("WEBP", "a.webp", PictureFormat.PNG),
    ],
)
def test_good_pictures_pass(form: str, filename: str, stays: PictureFormat) -> None:
    picture = sanitise_upload(encoded(a_photo(), form), filename=filename)
    assert picture.format is stays
    assert picture.size == Dimensions(64, 48)
    assert opened(picture.data).mode == "RGB"


def test_a_jpeg_that_a_phone_called_png_passes() -> None:
    assert sanitise_upload(encoded(a_photo(), "JPEG"), filename="IMG_1.PNG").format is PictureFormat.JPEG


@pytest.mark.parametrize("filename", ["cat.gif", "cat", "cat.png.exe", ".png.svg", "cat.heic", ""])
def test_a_wrong_extension_is_refused_whatever_is_inside(filename: str) -> None:
    assert refusal_of(encoded(a_photo()), filename).code is ErrorCode.PICTURE_WRONG_TYPE


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "ICO", "PDF"])
def test_another_format_under_a_good_name_is_refused(form: str) -> None:
    assert refusal_of(encoded(a_photo(), form)).code is ErrorCode.PICTURE_WRONG_TYPE


@pytest.mark.parametrize("data", [b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 64, b"GIF89a", b""])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    assert refusal_of(data).code is ErrorCode.PICTURE_WRONG_TYPE


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_broken(form: str, part: float) -> None:
    whole = encoded(a_photo(200, 150), form)
    assert refusal_of(whole[: max(12, int(len(whole) * part))], f"a.{form.lower()}").code is ErrorCode.PICTURE_BROKEN


def test_a_file_over_the_limit_is_refused_unread() -> None:
    error = refusal_of(b"\x89PNG\r\n\x1a\n" + b"\0" * (12 * 1024 * 1024))
    assert error.code is ErrorCode.PICTURE_TOO_LARGE
    assert error.params == {"limit_mib": 10}


@pytest.mark.parametrize(("width", "height"), [(6000, 5000), (4001, 4000), (1, 16_000_001), (30_000, 30_000), (2**31 - 1, 1)])
def test_too_many_pixels_are_refused_before_they_are_unpacked(width: int, height: int) -> None:
    error = refusal_of(a_png_that_claims(width, height))
    assert error.code is ErrorCode.PICTURE_TOO_MANY_PIXELS
    assert error.params == {"limit_megapixels": 16}


def test_a_text_bomb_in_a_png_is_refused() -> None:
    chunks = PngImagePlugin.PngInfo()
    for number in range(80):
        chunks.add_text(f"bomb{number}", "0" * 1_000_000, zip=True)
    data = encoded(a_photo(), pnginfo=chunks)
    assert len(data) < 10 * 1024 * 1024
    assert refusal_of(data).code is ErrorCode.PICTURE_BROKEN


def test_only_the_first_frame_of_an_animation_is_taken() -> None:
    red, blue = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    for form, name in (("PNG", "a.png"), ("WEBP", "a.webp")):
        image = opened(sanitise_upload(encoded(red, form, save_all=True, append_images=[blue]), filename=name).data)
        assert getattr(image, "n_frames", 1) == 1
        pixel = image.getpixel((5, 5))
        assert isinstance(pixel, tuple)
        assert pixel[0] > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_taken_sideways_comes_out_upright(orientation: int) -> None:
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
    image = opened(sanitise_upload(encoded(stored, "PNG", exif=exif), filename="a.png").data)
    assert image.size == (40, 20)
    assert image.getpixel((2, 2)) == (255, 0, 0)
    assert image.getpixel((37, 17)) == (255, 255, 255)


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
    clean = sanitise_upload(dirty, filename=f"a.{form.lower()}")
    assert b"Secret" not in clean.data
    assert not {"exif", "icc_profile", "comment", "prompt"} & opened(clean.data).info.keys()


def test_what_was_transparent_becomes_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0] + [0, 0, 0] * 255)
    for data in (encoded(clear), encoded(palette, transparency=0), encoded(Image.new("LA", (8, 8), (0, 0)))):
        assert opened(sanitise_upload(data, filename="a.png").data).getpixel((3, 3)) == (255, 255, 255)


def test_sixteen_bit_greys_are_scaled_not_clipped() -> None:
    image = opened(sanitise_upload(encoded(Image.new("I;16", (8, 8), 32_768)), filename="a.png").data)
    assert image.getpixel((3, 3)) == (128, 128, 128)


def test_a_cmyk_jpeg_passes() -> None:
    assert opened(sanitise_upload(encoded(Image.new("CMYK", (8, 8)), "JPEG"), filename="a.jpg").data).mode == "RGB"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says so when metadata is damaged; it is dropped anyway
@settings(deadline=None, max_examples=150)
@given(
    form=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    damage=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damage_anywhere_ends_in_a_picture_or_in_our_own_words(form: str, damage: list[tuple[int, int]]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = bytearray(encoded(a_photo(), form, exif=exif))
    for place, value in damage:
        data[place % len(data)] = value
    for act in (
        lambda: sanitise_upload(bytes(data), filename="a.png"),
        lambda: finish_output(bytes(data)),
        lambda: shrink_to_jpeg(bytes(data)),
    ):
        try:
            act()
        except FulletError as error:
            assert error.code.value.startswith("picture_")  # noqa: PT017 - not every damage is one


# --- outputs ------------------------------------------------------------------------------------------------------------


def test_the_graph_is_gone_from_an_output_and_the_own_recipe_is_there() -> None:
    drawn = binary("saved_image_with_metadata.png")
    assert b"KSampler" in drawn
    picture = finish_output(drawn, recipe='{"prompt": "un zorro ☃"}')
    assert b"KSampler" not in picture.data
    assert set(opened(picture.data).info) == {"fullet"}
    assert read_recipe(picture.data) == '{"prompt": "un zorro ☃"}'
    assert opened(picture.data).tobytes() == opened(drawn).convert("RGB").tobytes()


def test_a_picture_without_a_recipe_has_none() -> None:
    assert read_recipe(finish_output(encoded(a_photo())).data) is None
    assert read_recipe(encoded(a_photo(), "JPEG")) is None
    assert read_recipe(b"nonsense") is None


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "I;16"])
def test_whatever_kind_of_png_a_server_draws_its_picture_stays(mode: str) -> None:
    drawn = Image.effect_noise((40, 30), 60).convert("I;16") if mode == "I;16" else a_photo(40, 30).convert(mode)
    picture = finish_output(encoded(drawn))
    wanted = drawn.convert("RGBA") if "A" in mode else drawn.convert("RGB")
    if mode != "I;16":  # those are scaled, see above
        assert opened(picture.data).tobytes() == wanted.tobytes()
    assert picture.size == Dimensions(40, 30)


def test_transparency_of_an_output_is_kept() -> None:
    assert opened(finish_output(encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 4)))).data).getpixel((0, 0)) == (1, 2, 3, 4)


def test_a_four_times_upscale_is_no_bomb() -> None:
    assert finish_output(encoded(Image.new("RGB", (4096, 4096)))).size == Dimensions(4096, 4096)


def test_a_truncated_output_is_broken() -> None:
    with pytest.raises(FulletError) as caught:
        finish_output(encoded(a_photo(200, 200))[:-2000])
    assert caught.value.code is ErrorCode.PICTURE_BROKEN


@pytest.mark.parametrize(
    ("limit", "form", "is_smaller"),
    [
        (10**7, PictureFormat.PNG, False),
        (300_000, PictureFormat.WEBP, False),
        (30_000, PictureFormat.JPEG, True),
        (2_000, PictureFormat.JPEG, True),
    ],
)
def test_a_picture_is_made_to_fit_an_upload_limit(limit: int, form: PictureFormat, is_smaller: bool) -> None:
    picture = finish_output(encoded(a_photo(600, 400)), recipe="{}")
    fitted = fit_under(picture, limit)
    assert fitted.bytes_count <= limit
    assert fitted.format is form
    assert (fitted.size != picture.size) is is_smaller
    assert Dimensions(*opened(fitted.data).size) == fitted.size
    assert opened(fitted.data).format == form.value.upper()


@pytest.mark.parametrize("limit", [300_000, 30_000])
def test_the_recipe_outlives_the_way_down_to_an_upload_limit_and_is_all_the_file_says(limit: int) -> None:
    recipe = json.dumps({"prompt": 'un zorro ☃ 🦊 \n \\ "x"', "seed": 2**64 - 1}, ensure_ascii=False)
    fitted = fit_under(finish_output(encoded(a_photo(600, 400)), recipe=recipe), limit)
    assert fitted.format is not PictureFormat.PNG
    found = read_recipe(fitted.data)
    assert found is not None
    assert json.loads(found) == json.loads(recipe)
    exif = opened(fitted.data).getexif()
    assert set(exif) == {SOFTWARE, EXIF_DIRECTORY}
    assert set(exif.get_ifd(EXIF_DIRECTORY)) == {USER_COMMENT}


def test_what_other_programs_write_into_user_comments_is_no_recipe_of_ours() -> None:
    foreign = Image.Exif()
    foreign[SOFTWARE] = "AnotherProgram"
    foreign.get_ifd(EXIF_DIRECTORY)[USER_COMMENT] = b"ASCII\0\0\0{}"
    assert read_recipe(encoded(a_photo(), "JPEG", exif=foreign)) is None
    foreign[SOFTWARE] = "FuLLet"
    foreign.get_ifd(EXIF_DIRECTORY)[USER_COMMENT] = b"UNICODE\0{}"
    assert read_recipe(encoded(a_photo(), "WEBP", exif=foreign)) is None


def test_a_limit_nothing_fits_is_said() -> None:
    with pytest.raises(FulletError) as caught:
        fit_under(finish_output(encoded(a_photo(600, 400))), 100)
    assert caught.value.code is ErrorCode.PICTURE_TOO_LARGE


@pytest.mark.parametrize("size", [(1536, 1024), (100, 3000), (64, 64)])
def test_a_preview_is_small_in_every_way(size: tuple[int, int]) -> None:
    jpeg = shrink_to_jpeg(encoded(a_photo(*size)))
    image = opened(jpeg)
    assert image.format == "JPEG"
    assert max(image.size) <= 512
    assert len(jpeg) <= MAX_PREVIEW_BYTES
    assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.1)


def test_a_recorded_preview_is_made_small() -> None:
    assert len(shrink_to_jpeg(binary("preview_type1_jpeg.bin")[8:])) <= MAX_PREVIEW_BYTES


# --- off the loop -------------------------------------------------------------------------------------------------------


async def test_the_loop_goes_on_while_pictures_are_worked_on() -> None:
    data = encoded(a_photo(2048, 2048), "JPEG")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with PictureWorkshop() as workshop, asyncio.timeout(30):
        counting = asyncio.create_task(count())
        await asyncio.gather(*(workshop.finish_output(data) for _ in range(4)))
        counting.cancel()
    assert turns > 100  # on the loop itself there would be a handful: one between pictures


async def test_a_refusal_comes_through_the_workshop() -> None:
    async with PictureWorkshop() as workshop:
        with pytest.raises(FulletError) as caught:
            await workshop.sanitise_upload(b"x", filename="a.png")
    assert caught.value.code is ErrorCode.PICTURE_WRONG_TYPE


class Shelf:
    def __init__(self) -> None:
        self.pictures: list[Picture] = []

    async def put(self, picture: Picture) -> BlobId:
        self.pictures.append(picture)
        return BlobId(str(len(self.pictures)))


async def test_an_upload_is_kept_only_after_it_was_made_safe() -> None:
    shelf = Shelf()
    async with PictureWorkshop() as workshop:
        intake = UploadIntake(workshop, shelf)
        assert await intake.take(encoded(a_photo()), filename="a.png") == "1"
        with pytest.raises(FulletError):
            await intake.take(b"hello", filename="a.png")
    assert [picture.size for picture in shelf.pictures] == [Dimensions(64, 48)]
