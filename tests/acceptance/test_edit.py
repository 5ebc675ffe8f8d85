"""`/edit`: a picture changed by words, and everything people send instead of a good picture."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from PIL import Image

from modules.sandbox.comfy_server import ComfySandbox
from tests.support.gpu_log import the_drawing
from tests.support.person import Answer, Person, Seen
from tests.support.pictures import a_bomb, a_jpeg_of_scans, a_picture, an_animation, kind_of, middle_color, pixels
from tests.support.program import WholeHouse
from tests.support.wishing import PATIENCE_S, draw, is_result, pictures_on, results, seed_on, session

pytestmark = pytest.mark.asyncio(loop_scope="module")

RED, BLUE = (255, 0, 0), (0, 0, 255)


async def edit(person: Person, prompt: str, *, file: tuple[str, bytes] | None = None, **options: object) -> Answer:
    if file is not None:
        options["image"] = await person.upload(*file)
    return await person.slash("edit", prompt=prompt, timeout=PATIENCE_S, **options)  # type: ignore[arg-type]  # no option is called channel


async def edited(person: Person, prompt: str, *, file: tuple[str, bytes] | None = None, **options: object) -> Seen:
    """`/edit`, and its result."""
    known = {message.id for message in await results(person)}
    answer = await edit(person, prompt, file=file, **options)
    assert "<#" in answer.text, f"refused: {answer.text}"
    return await person.wait_for_message(lambda m: is_result(m, person) and m.id not in known, timeout=PATIENCE_S)


async def given(gpu: ComfySandbox, prompt: str) -> Path:
    """The file on the GPU that the run with this prompt started from."""
    [name] = (await the_drawing(gpu, prompt)).inputs("image")
    return gpu.inputs / str(name)


async def test_an_attached_picture_is_changed_and_the_result_comes_to_the_session(house: WholeHouse, guest: Person) -> None:
    message = await edited(guest, "make it snow on the square", file=("mine.png", a_picture("red", (800, 400))), seed="77")
    assert message.channel_id == await session(guest)
    assert "> make it snow on the square" in message.text
    assert "seed 77" in message.text
    (width, height), _ = pixels((await pictures_on(guest, message))[0])
    assert width == pytest.approx(2 * height, rel=0.05)  # in the picture's own proportions
    assert middle_color((await given(house.gpus[0], "make it snow on the square")).read_bytes()) == RED


async def test_the_same_picture_words_and_seed_give_the_same_bytes(guest: Person) -> None:
    file = ("mine.png", a_picture("navy"))
    first = await edited(guest, "add stars", file=file)
    again = await edited(guest, "add stars", file=file, seed=str(seed_on(first)))
    other = await edited(guest, "add stars", file=file, seed=str(seed_on(first) + 1))
    [same], [once_more], [different] = [await pictures_on(guest, message) for message in (first, again, other)]
    assert once_more == same
    assert pixels(different) != pixels(same)


async def test_without_a_picture_the_last_one_of_the_session_is_taken(house: WholeHouse, guest: Person) -> None:
    drawn = await draw(guest, "an empty street")
    [before] = await pictures_on(guest, drawn)
    await edited(guest, "let it rain on the empty street")
    assert pixels((await given(house.gpus[0], "let it rain on the empty street")).read_bytes()) == pixels(before)


async def test_a_picture_posted_in_the_session_is_the_last_one(house: WholeHouse, guest: Person) -> None:
    await draw(guest, "something to open the session")
    posted = await guest.say("", await session(guest), files=[await guest.upload("blue.webp", a_picture("blue", form="WEBP"))])
    await guest.wait_for("MESSAGE_UPDATE", lambda d: d["id"] == posted.id and d.get("reactions"), timeout=PATIENCE_S)
    await edited(guest, "turn the blue into a sea")
    color = middle_color((await given(house.gpus[0], "turn the blue into a sea")).read_bytes())
    assert color == pytest.approx(BLUE, abs=3)


async def test_somebody_elses_picture_is_never_taken(house: WholeHouse, guest: Person, another: Person) -> None:
    await draw(guest, "a picture of one person")
    answer = await edit(another, "change whatever there is")
    assert answer.text == MISSING


async def test_files_of_the_same_name_never_meet(house: WholeHouse, guest: Person, another: Person) -> None:
    known = set(house.gpus[0].inputs.rglob("*.png"))
    wanted = ((guest, "red"), (another, "blue"))
    together = await asyncio.gather(
        *(edited(person, "the same words", file=("image.png", a_picture(color)), seed="5") for person, color in wanted)
    )
    new = [path for path in house.gpus[0].inputs.rglob("*.png") if path not in known]
    assert {middle_color(path.read_bytes()) for path in new} == {RED, BLUE}
    assert not [path.name for path in new if "image" in path.name]
    for (person, color), message in zip(wanted, together, strict=True):
        alone = await edited(person, "the same words", file=("alone.png", a_picture(color)), seed="5")
        assert pixels((await pictures_on(person, alone))[0]) == pixels((await pictures_on(person, message))[0])


async def test_what_a_camera_wrote_into_a_photo_goes_no_further_and_the_photo_stands_upright(
    house: WholeHouse, guest: Person
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010F] = "A camera that tells"
    await edited(
        guest, "brighten the photo", file=("photo.jpg", a_picture("red", (600, 300), "JPEG", exif=exif, comment=b"home"))
    )
    data = (await given(house.gpus[0], "brighten the photo")).read_bytes()
    assert pixels(data)[0] == (300, 600)
    assert b"A camera that tells" not in data
    assert b"home" not in data


@pytest.mark.parametrize(("form", "kind"), [("WEBP", "JPEG"), ("GIF", "PNG")])
async def test_of_an_animation_the_first_frame_is_taken(house: WholeHouse, guest: Person, form: str, kind: str) -> None:
    words = f"freeze the {form}"
    await edited(guest, words, file=(f"moving.{form.lower()}", an_animation(("red", "blue"), form)))
    data = (await given(house.gpus[0], words)).read_bytes()
    assert kind_of(data) == kind
    assert middle_color(data) == pytest.approx(RED, abs=3)


async def test_a_photo_of_thirty_megapixels_is_scaled_down(house: WholeHouse, guest: Person) -> None:
    await edited(guest, "paint over all of it", file=("large.jpg", a_picture("green", (6000, 5000), "JPEG")))
    data = (await given(house.gpus[0], "paint over all of it")).read_bytes()
    (width, height), _ = pixels(data)
    assert width * height <= 16_000_000
    assert width / height == pytest.approx(6 / 5, rel=0.01)


MISSING = "There is no picture to edit yet. Attach one, or post one in your session first."
WRONG_TYPE = "That file isn't a picture I can read. PNG, JPEG, WEBP, AVIF and GIF work; save a HEIC photo as JPEG first."
BROKEN = "That picture is damaged and can't be opened. Save it again and send it once more."
TOO_MANY_PIXELS = "That picture is too large. Up to 51 megapixels work; scale it down and try again."
TOO_COMPLEX = "That picture takes too much work to open. Save it anew, or smaller, and send it once more."


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        pytest.param("notes.txt", b"hello", WRONG_TYPE, id="wrong extension"),
        pytest.param("notes.png", b"hello", WRONG_TYPE, id="a text that calls itself a picture"),
        pytest.param("photo.heic", a_picture(), WRONG_TYPE, id="heic"),
        pytest.param("empty.png", b"", WRONG_TYPE, id="nothing at all"),
        pytest.param("half.png", a_picture(size=(900, 900))[:600], BROKEN, id="cut off"),
        pytest.param("half.jpg", a_picture("red", (900, 900), "JPEG")[:600], BROKEN, id="cut off jpeg"),
        pytest.param("bomb.png", a_bomb(), TOO_MANY_PIXELS, id="decompression bomb"),
        pytest.param("slow.jpg", a_jpeg_of_scans(4000, 200), TOO_COMPLEX, id="200 scans"),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_in_a_sentence_and_nothing_is_queued(
    house: WholeHouse, guest: Person, name: str, data: bytes, sentence: str
) -> None:
    known = len(house.gpus[0].journal.prompts)
    answer = await edit(guest, "whatever", file=(name, data))
    assert answer.text == sentence
    assert answer.message is not None
    assert answer.message.is_ephemeral
    queue = await guest.slash("queue")
    assert "Nothing of yours is waiting" in queue.text
    assert len(house.gpus[0].journal.prompts) == known


async def test_after_all_those_files_a_good_one_still_works(guest: Person) -> None:
    for name, data in (("bomb.png", a_bomb()), ("half.png", a_picture()[:60])):
        await edit(guest, "whatever", file=(name, data))
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "PNG")
    await edited(guest, "colour the gradient", file=("grey.png", buffer.getvalue()))
