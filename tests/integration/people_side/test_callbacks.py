"""The first answer to an interaction counted, but its confirmation was lost: what we repeat is no failure."""

from __future__ import annotations

import pytest

from modules.domain.jobs import JobState
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People

CALLBACK = r"^POST /interactions/\d+/.+/callback$"
#: How the answer of a callback that counted is lost: a 5xx that discord.py repeats itself, a cut connection that it does not.
LOST = [{"status": 503}, {"reset": True}]


@pytest.mark.parametrize("lost", LOST, ids=["503", "reset"])
async def test_a_command_whose_deferral_was_lost_becomes_a_job(
    door: FrontDoor, front: Front, people: People, lost: dict[str, object]
) -> None:
    ana = await people.be("ana")
    door.spoil(CALLBACK, after=True, **lost)
    answer = await ana.slash("imagine", model="z-image", prompt="a fox")
    job = await front.studio.only_job()
    shown = await ana.wait_for_message(lambda m: f"<#{job.channel_id}>" in m.text, channel="general")
    assert not answer.failed
    assert shown.is_ephemeral
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)


@pytest.mark.parametrize("lost", LOST, ids=["503", "reset"])
async def test_a_window_whose_answer_was_lost_opens_and_works(
    door: FrontDoor, front: Front, people: People, lost: dict[str, object]
) -> None:
    ana = await people.be("ana")
    form = (await ana.slash("gen")).message
    assert form is not None
    door.spoil(CALLBACK, after=True, **lost)
    opened = await ana.press(form, "Descripción y números")
    assert opened.modal is not None
    assert not opened.failed
    filled = await ana.submit(opened.modal, prompt="a fox")
    assert not filled.failed


@pytest.mark.parametrize("lost", LOST, ids=["503", "reset"])
async def test_a_message_whose_answer_was_lost_is_shown_once(
    door: FrontDoor, front: Front, people: People, lost: dict[str, object]
) -> None:
    ana = await people.be("ana")
    door.spoil(CALLBACK, after=True, **lost)
    answer = await ana.slash("imagine", model="z-image", prompt="x" * 5_000)
    assert not answer.failed
    assert answer.text
    shown = [m for m in await ana.messages("general") if m.is_ephemeral]
    assert len(shown) == 1


async def test_choices_whose_answer_was_lost_are_offered_and_nothing_is_logged_as_a_fault(
    door: FrontDoor, front: Front, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    ana = await people.be("ana")
    door.spoil(CALLBACK, after=True, reset=True)
    offered = await ana.autocomplete("imagine", "size", "", model="sdxl")
    assert offered
    assert "Traceback" not in caplog.text


async def test_an_interaction_that_somebody_else_answered_is_not_taken_for_ours(
    door: FrontDoor, front: Front, people: People
) -> None:
    """A second bot with the same token answered first: our only try gets 40060, and no job is begun for nobody's eyes."""
    ana = await people.be("ana")
    door.spoil(CALLBACK, code=40060)
    await ana.slash("imagine", model="z-image", prompt="a fox")
    assert await front.database.jobs.jobs(limit=1) == []
