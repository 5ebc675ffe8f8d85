"""Hasty fingers: what is pressed twice is answered once, and Cancel pressed once too often draws nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from modules.discord.presses import DOUBLE_PRESS
from modules.domain.jobs import JobState
from tests.support.front_side import Front
from tests.support.person import People, Person, Seen


def later(front: Front, time: timedelta) -> None:
    """Discord's clock goes on, by which presses are stamped."""
    front.sandbox.world.clock.advance(time.total_seconds())


async def delivered(front: Front, person: Person, **options: object) -> Seen:
    wanted: dict[str, object] = {"model": "z-image", "prompt": "a fox"} | options
    await person.slash("imagine", **wanted)  # type: ignore[arg-type] # command options
    job = await front.studio.only_job(int(person.id))
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    return await person.wait_for_message(lambda m: m.id == str(job.result_message_id))


async def notes(front: Front, person: Person) -> list[str]:
    """Private notes in the person's session, by their words."""
    job = await front.studio.only_job(int(person.id))
    return [m.text for m in await person.messages(str(job.channel_id)) if m.is_ephemeral]


@pytest.mark.parametrize("name", ["bruno", "ana"])
@pytest.mark.parametrize("act", ["recipe", "vary", "delete", "again", "upscale"])
async def test_two_quick_presses_are_one_note_and_a_later_one_another(front: Front, people: People, name: str, act: str) -> None:
    person = await people.be(name)
    result = await delivered(front, person)
    button = next(b.custom_id or "" for b in result.buttons if (b.custom_id or "").startswith(f"f1:{act}:"))
    both = await asyncio.gather(person.press(result, button), person.press(result, button))
    assert [answer.failed for answer in both] == [False, False]
    assert len(await notes(front, person)) == 1
    later(front, DOUBLE_PRESS)
    await person.press(result, button)
    assert len(await notes(front, person)) == 2


async def test_two_quick_presses_open_one_window(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    result = await delivered(front, bruno)
    for act in ("Edit", "Remix"):
        first, second = await bruno.press(result, act), await bruno.press(result, act)
        assert first.modal is not None
        assert (second.modal, second.failed) == (None, False)
        answer = await bruno.submit(first.modal, prompt="an owl")  # the window that is open is as good as before
        assert "on its way" in answer.text
        reopened = await bruno.press(result, act)
        assert reopened.modal is not None  # it came back, so this is another gesture


async def test_two_quick_presses_on_remix_of_a_form_show_one_form(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = (await bruno.slash("gen")).message
    assert form is not None
    window = (await bruno.press(form, "Prompt & numbers")).modal
    assert window is not None
    await bruno.submit(window, prompt="a fox")
    form = await bruno.wait_for_message(_shows(form, "a fox"))
    await bruno.press(form, "Generate")
    await bruno.wait_for_message(_shows(form, "on its way"))
    job = await front.studio.only_job()
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    result = await bruno.wait_for_message(lambda m: m.id == str(job.result_message_id))
    await asyncio.gather(bruno.press(result, "Remix"), bruno.press(result, "Remix"))
    assert len(await notes(front, bruno)) == 1


async def test_the_history_turns_as_quickly_as_it_is_pressed(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    for number in range(7):
        await delivered(front, bruno, prompt=f"fox {number}")
    page = (await bruno.slash("history")).message
    assert page is not None
    for shown in ("fox 3", "fox 0"):
        await bruno.press(page, "Older")
        page = await bruno.wait_for_message(_shows(page, shown))


def _shows(page: Seen, words: str) -> Callable[[Seen], bool]:
    return lambda m: m.id == page.id and words in m.text


async def test_a_menu_chosen_twice_opens_its_window_twice(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    result = await delivered(front, bruno)
    for _ in range(2):
        assert (await bruno.context_menu("Edit this picture", result)).modal is not None


@pytest.mark.parametrize(("name", "again"), [("bruno", "Again"), ("ana", "Otra vez")])
async def test_cancel_pressed_once_too_often_draws_nothing(front: Front, people: People, name: str, again: str) -> None:
    person = await people.be(name)
    cancelled = await cancelled_on_its_card(front, person)
    answer = await person.press(cancelled, again)
    assert not answer.failed
    assert answer.text == cancelled.text  # nothing but the card, as it was
    assert len(await front.database.jobs.jobs()) == 1
    later(front, DOUBLE_PRESS)
    await person.press(cancelled, again)
    assert len(await front.database.jobs.jobs()) == 2


async def cancelled_on_its_card(front: Front, person: Person) -> Seen:
    await person.slash("imagine", model="z-image", prompt="a fox")
    card = await person.wait_for_message(lambda m: any(_is(b.custom_id, "cancel") for b in m.buttons))
    later(front, timedelta(seconds=30))  # the card hangs for a while
    await person.press(card, next(b.custom_id or "" for b in card.buttons if _is(b.custom_id, "cancel")))
    return await person.wait_for_message(lambda m: m.id == card.id and any(_is(b.custom_id, "retry") for b in m.buttons))


def _is(custom_id: str | None, act: str) -> bool:
    return (custom_id or "").startswith(f"f1:{act}:")


async def test_what_was_cancelled_in_the_list_can_be_asked_for_again_at_once(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="a fox")
    card = await bruno.wait_for_message(lambda m: any(_is(b.custom_id, "cancel") for b in m.buttons))
    listed = (await bruno.slash("queue")).message
    assert listed is not None
    await bruno.press(listed, "Cancel")
    card = await bruno.wait_for_message(lambda m: m.id == card.id and any(_is(b.custom_id, "retry") for b in m.buttons))
    answer = await bruno.press(card, "Again")
    assert "on its way" in answer.text
    assert len(await front.database.jobs.jobs()) == 2
