"""Outputs carry one recipe and nothing else, and fit where they must."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions, PictureFormat
from modules.utils.images import (
    MAX_PREVIEW_BYTES,
    PictureWorkshop,
    finish_output,
    fit_under,
    read_recipe,
    shrink_to_jpeg,
)
from tests.support.comfy_recordings import binary
from tests.support.pictures import DAMAGE, a_photo, damaged, decoded, encoded

SOFTWARE, EXIF_DIRECTORY, USER_COMMENT = 0x0131, 0x8769, 0x9286


# --- outputs ------------------------------------------------------------------------------------------------------------


def test_the_graph_is_gone_from_an_output_and_the_own_recipe_is_there() -> None:
    drawn = binary("saved_image_with_metadata.png")
    assert b"KSampler" in drawn
    picture = finish_output(drawn, recipe='{"prompt": "un zorro ☃"}')
    assert b"KSampler" not in picture.data
    assert set(decoded(picture.data).info) == {"fullet"}
    assert read_recipe(picture.data) == '{"prompt": "un zorro ☃"}'
    assert decoded(picture.data).tobytes() == decoded(drawn).convert("RGB").tobytes()


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
        assert decoded(picture.data).tobytes() == wanted.tobytes()
    assert picture.size == Dimensions(40, 30)


def test_transparency_of_an_output_is_kept() -> None:
    assert decoded(finish_output(encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 4)))).data).getpixel((0, 0)) == (1, 2, 3, 4)


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
    assert Dimensions(*decoded(fitted.data).size) == fitted.size
    assert decoded(fitted.data).format == form.value.upper()


@pytest.mark.parametrize(
    ("size", "form", "keeps_size"),
    [
        ((16_383, 40), PictureFormat.WEBP, True),
        ((20_000, 40), PictureFormat.JPEG, True),
        ((70_000, 20), PictureFormat.JPEG, False),
    ],
)
def test_a_side_too_long_for_a_format_takes_the_next_one(size: tuple[int, int], form: PictureFormat, keeps_size: bool) -> None:
    """WebP ends at 16,383 pixels a side, libjpeg at 65,500: such results were never delivered (faults.md L)."""
    picture = finish_output(encoded(a_photo(*size)))
    fitted = fit_under(picture, picture.bytes_count - 1)
    assert (fitted.format, fitted.size == picture.size) == (form, keeps_size)
    assert Dimensions(*decoded(fitted.data).size) == fitted.size


@pytest.mark.parametrize("limit", [300_000, 30_000])
def test_the_recipe_outlives_the_way_down_to_an_upload_limit_and_is_all_the_file_says(limit: int) -> None:
    recipe = json.dumps({"prompt": 'un zorro ☃ 🦊 \n \\ "x"', "seed": 2**64 - 1}, ensure_ascii=False)
    fitted = fit_under(finish_output(encoded(a_photo(600, 400)), recipe=recipe), limit)
    assert fitted.format is not PictureFormat.PNG
    found = read_recipe(fitted.data)
    assert found is not None
    assert json.loads(found) == json.loads(recipe)
    exif = decoded(fitted.data).getexif()
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
    image = decoded(jpeg)
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


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says so when metadata is damaged; it is dropped anyway
@settings(deadline=None, max_examples=100)
@given(form=st.sampled_from(["PNG", "JPEG", "WEBP"]), damage=DAMAGE)
def test_damage_anywhere_ends_in_a_picture_or_in_our_own_words(form: str, damage: list[tuple[int, int]]) -> None:
    data = damaged(encoded(a_photo(), form), damage)
    for act in (finish_output, shrink_to_jpeg):
        try:
            act(data)
        except FulletError as error:
            assert error.code.value.startswith("picture_")  # noqa: PT017 - not every damage is one


async def test_a_refusal_comes_through_the_workshop() -> None:
    async with PictureWorkshop() as workshop:
        with pytest.raises(FulletError) as caught:
            await workshop.finish_output(b"x")
    assert caught.value.code is ErrorCode.PICTURE_WRONG_TYPE
