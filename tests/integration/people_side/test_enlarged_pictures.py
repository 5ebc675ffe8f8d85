"""An enlarged picture has no words of its own: what is done with it goes back to the picture it was made from."""

from __future__ import annotations

import pytest

from modules.domain.errors import ErrorCode
from modules.domain.jobs import Job, JobState, Origin
from tests.support.front_side import Front, a_png
from tests.support.person import People, Person, Seen


async def finished(front: Front, person: Person, *, side_px: int = 64) -> tuple[Job, Seen]:
    """The newest job is drawn and delivered."""
    job = await front.studio.only_job()
    await front.studio.draw(job, [a_png(index, side_px) for index in range(job.recipe.count)])
    job = await front.until_state(job.id, JobState.DELIVERED)
    return job, await person.wait_for_message(lambda m: m.id == str(job.result_message_id))


async def drawn(front: Front, person: Person, **options: object) -> tuple[Job, Seen]:
    wanted: dict[str, object] = {"model": "sdxl", "prompt": "a fox", "size": "768x512"} | options
    await person.slash("imagine", **wanted)  # type: ignore[arg-type] # command options
    return await finished(front, person)


async def enlarged(front: Front, person: Person, result: Seen, label: str = "Upscale") -> tuple[Job, Seen]:
    await person.press(result, label)
    job, larger = await finished(front, person)
    assert job.origin is Origin.UPSCALE
    return job, larger


@pytest.mark.parametrize(("name", "remix", "upscale"), [("bruno", "Remix", "Upscale"), ("ana", "Rehacer", "Ampliar")])
async def test_remix_of_an_enlarged_picture_is_that_of_the_one_it_came_from(
    front: Front, people: People, name: str, remix: str, upscale: str
) -> None:
    person = await people.be(name)
    original, result = await drawn(front, person, negative_prompt="rain", steps=12)
    _, larger = await enlarged(front, person, result, upscale)
    _, largest = await enlarged(front, person, larger, upscale)
    window = (await person.press(largest, remix)).modal
    assert window is not None
    assert window.typed == {
        "prompt": "a fox", "negative_prompt": "rain", "size": "768x512", "seed": str(original.recipe.seed), "steps": "12",
    }  # fmt: skip
    await person.submit(window, prompt="an owl")
    remixed = await front.studio.only_job()
    assert (remixed.recipe.prompt, remixed.recipe.workflow, remixed.parent_id) == ("an owl", "sdxl_image", original.id)
    assert remixed.recipe.seed == original.recipe.seed


async def test_what_would_become_too_large_is_refused_at_the_press_and_what_becomes_larger_costs_more(
    front: Front, people: People
) -> None:
    """Pressed again and again, Upscale asked for hundreds of megapixels at the price of one."""
    bruno = await people.be("bruno")
    await bruno.slash("imagine", model="sdxl", prompt="a fox")
    _, result = await finished(front, bruno, side_px=1024)
    costs = []
    for side_px in (2048, 4096):
        await bruno.press(result, "Upscale")
        job, result = await finished(front, bruno, side_px=side_px)
        costs.append(job.work.cost_s)
    assert costs == [4.0, 16.0]
    refused = await bruno.press(result, "Upscale")
    assert "about 67 megapixels" in refused.text
    assert (await front.studio.only_job()).id == job.id


async def test_vary_of_an_enlarged_picture_keeps_its_words_and_starts_from_its_pixels(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    original, result = await drawn(front, bruno)
    larger_job, larger = await enlarged(front, bruno, result)
    question = (await bruno.press(larger, "Vary")).message
    assert question is not None
    await bruno.press(question, "Strong")
    varied = (await front.studio.only_job()).recipe
    assert (varied.workflow, varied.prompt, varied.size) == ("sdxl_vary", "a fox", original.recipe.size)
    assert varied.source == (await front.database.blobs.of_job(larger_job.id))[0]


async def test_edit_of_an_enlarged_picture_changes_that_picture(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, result = await drawn(front, bruno)
    larger_job, larger = await enlarged(front, bruno, result)
    window = (await bruno.press(larger, "Edit")).modal
    assert window is not None
    assert window.typed == {"prompt": ""}
    await bruno.submit(window, prompt="at night")
    edited = (await front.studio.only_job()).recipe
    assert (edited.workflow, edited.prompt) == ("flux_edit", "at night")
    assert edited.source == (await front.database.blobs.of_job(larger_job.id))[0]


@pytest.mark.parametrize(
    ("locale", "remix", "vary", "sentence"),
    [
        ("en-US", "f1:remix", "f1:vary", "This picture was only enlarged: it has no words or settings of its own"),
        ("es-ES", "f1:remix", "f1:vary", "Esta imagen solo se amplió: no tiene descripción ni ajustes propios"),
    ],
)
async def test_without_the_original_it_is_said_what_can_still_be_done(
    front: Front, people: People, locale: str, remix: str, vary: str, sentence: str
) -> None:
    bruno, elena = await people.be("bruno"), await people.be("elena")
    _, result = await drawn(front, bruno)
    await elena.rename(locale=locale)
    await elena.press(result, "Upscale")
    _, larger = await finished(front, elena)
    asked = (await bruno.slash("mydata erase")).message
    assert asked is not None
    await bruno.press(asked, "Erase everything")
    await bruno.wait_for_message(lambda m: "Nothing about you is stored" in m.text)
    for act in (remix, vary):
        refused = await elena.press(
            larger, next(b.custom_id or "" for b in larger.buttons if (b.custom_id or "").startswith(act))
        )
        assert refused.modal is None
        assert sentence in refused.text
        assert "`/imagine`" in refused.text


async def test_a_failed_enlargement_can_be_tried_again_but_has_no_settings(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, result = await drawn(front, bruno)
    await bruno.press(result, "Upscale")
    job = await front.studio.only_job()
    await front.studio.fail(job, ErrorCode.NODE_FAILED)
    failed = await bruno.wait_for_message(lambda m: "That didn't work" in m.text)
    assert [button.label for button in failed.buttons] == ["Try again"]


async def test_remix_asks_an_edit_and_a_variation_only_what_they_take(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, result = await drawn(front, bruno, negative_prompt="rain", steps=12)
    question = (await bruno.press(result, "Vary")).message
    assert question is not None
    await bruno.press(question, "Subtle")
    varied, variation = await finished(front, bruno)
    assert str(varied.recipe.size) == "768x512"
    window = (await bruno.press(variation, "Remix")).modal
    assert window is not None
    assert list(window.typed) == ["prompt", "negative_prompt", "size", "seed", "steps"]
    await bruno.submit(window, prompt="an owl")
    remixed = (await front.studio.only_job()).recipe
    assert (remixed.prompt, remixed.denoise, remixed.source) == ("an owl", varied.recipe.denoise, varied.recipe.source)
    await front.studio.draw(await front.studio.only_job())

    window = (await bruno.press(result, "Edit")).modal
    assert window is not None
    await bruno.submit(window, prompt="at night")
    edited, edit = await finished(front, bruno)
    window = (await bruno.press(edit, "Remix")).modal
    assert window is not None
    assert window.typed == {"prompt": "at night", "seed": str(edited.recipe.seed), "count": "1"}
    await bruno.submit(window, prompt="at noon", count="2")
    again = (await front.studio.only_job()).recipe
    assert (again.prompt, again.count, again.source, again.seed) == ("at noon", 2, edited.recipe.source, edited.recipe.seed)


async def test_what_was_made_from_a_deleted_picture_is_refused_at_once_instead_of_failing_in_its_turn(
    front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    original, result = await drawn(front, bruno)
    _, larger = await enlarged(front, bruno, result)
    await front.database.blobs.erase_job(original.id)
    answer = await bruno.press(larger, "Again")
    assert "The picture for that is no longer stored" in answer.text
    assert len(await front.database.jobs.jobs()) == 2
