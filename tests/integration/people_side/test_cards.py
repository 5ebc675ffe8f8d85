"""Cards: always true, within Discord's limits, over restarts."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

from modules.discord.pace import EDITS_PER_WINDOW, KEPT_FOR_NEWS, STEP_EVERY_S, WINDOW_S
from modules.discord.views.layout import Accent
from modules.domain.errors import ErrorCode
from modules.domain.events import JobStranded
from modules.domain.jobs import Job, JobState
from modules.domain.people import MessageId, UserId
from modules.domain.records import Limits
from modules.domain.servers import InMemory
from tests.support.front_side import Front, FrontDoor, a_jpeg
from tests.support.person import People, Person, Seen
from tests.support.split_roles import in_both_arrangements

pytestmark = in_both_arrangements

AN_ADMIN = UserId(1)
EDITS = r"^PATCH /channels/\d+/messages/\d+$"
POSTS = r"^POST /channels/\d+/messages$"


async def asked(front: Front, person: Person, prompt: str = "a fox") -> tuple[Job, Seen]:
    answer = await person.slash("imagine", model="z-image", prompt=prompt)
    assert not answer.failed
    job = await front.studio.only_job(int(person.id))
    card = await person.wait_for_message(lambda m: prompt in m.text, channel=str(job.channel_id))
    return job, card


async def becomes(person: Person, card: Seen, *words: str) -> Seen:
    """The card, once it says all this."""
    return await person.wait_for_message(
        lambda m: m.id == card.id and all(word in m.text for word in words), channel=card.channel_id
    )


async def test_a_card_tells_the_place_and_moves_up(front: Front, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    first, _ = await asked(front, ana, "un faro")
    second, card = await asked(front, bruno)
    card = await becomes(bruno, card, "2nd in line", "<t:")
    assert card.accent == Accent.GREY
    await front.studio.start(first)
    card = await becomes(bruno, card, "You're next")
    assert card.accent == Accent.BLURPLE
    await front.studio.cancel(first.id)
    assert second.id != first.id


async def test_a_moment_that_passed_before_the_turn_came_is_told_anew_although_nothing_happened(
    front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    front.studio.turn = timedelta(seconds=1)
    _, card = await asked(front, bruno)
    told = re.findall(r"<t:(\d+):R>", card.text)
    again = await bruno.wait_for_message(
        lambda m: m.id == card.id and re.findall(r"<t:(\d+):R>", m.text) not in ([], told), channel=card.channel_id
    )
    assert again.text.startswith(card.text.split(" · ")[0])


async def test_a_card_follows_the_drawing_with_steps_and_a_preview_of_exactly_this_picture(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, card = await asked(front, bruno)
    await front.studio.start(job, in_memory=InMemory.ANOTHER, shared_by=4)
    await becomes(bruno, card, "Warming up the model", "was drawing with another model", "drawn together with 3 other people")
    front.studio.progress(job, 2)
    front.studio.preview(job, a_jpeg(200))
    drawing = await becomes(bruno, card, "▰▰▱▱▱▱▱▱ 2/8")
    shown = await bruno.wait_for_message(lambda m: m.id == drawing.id and m.pictures, channel=card.channel_id)
    assert await bruno.download(shown.pictures[0]) == a_jpeg(200)
    front.studio.preview(job, a_jpeg(90))

    async def swapped() -> bool:
        now = await bruno.message(card)
        return bool(now.pictures) and await bruno.download(now.pictures[0]) == a_jpeg(90)

    await bruno.until(swapped, "the newer preview")
    assert len((await bruno.message(card)).files) == 1


async def test_a_first_picture_is_not_told_of_another_model(front: Front, people: People) -> None:
    ana = await people.be("ana")
    job, card = await asked(front, ana, "un faro")
    await front.studio.start(job, in_memory=InMemory.UNKNOWN)
    loading = await becomes(ana, card, "Preparando el modelo", "quizá esta GPU tenga que cargarlo primero")
    assert "otro modelo" not in loading.text


async def test_a_paused_queue_and_absent_gpus_are_told_apart(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, card = await asked(front, bruno)
    await front.studio.pause(AN_ADMIN)
    paused = await becomes(bruno, card, "Paused: your place is kept", "An admin paused the queue")
    assert paused.accent == Accent.YELLOW
    front.studio.is_away = True
    await front.studio.resume(AN_ADMIN)
    await becomes(bruno, card, "Waiting for a GPU")
    front.studio.is_away = False
    front.studio.changed()
    await becomes(bruno, card, "You're next")


async def test_a_picture_that_is_drawn_again_says_so_and_blames_no_gpu(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, card = await asked(front, bruno)
    attempt = await front.studio.start(job)
    front.studio.progress(job, 3)
    await becomes(bruno, card, "3/8")
    await front.studio.requeued(job, attempt, ErrorCode.RESULT_INCOMPLETE)
    back = await becomes(bruno, card, "You're next", "It didn't work out this time")
    assert "went away" not in back.text


async def test_when_the_server_goes_away_the_card_says_so_and_keeps_its_place(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, card = await asked(front, bruno)
    attempt = await front.studio.start(job)
    front.studio.progress(job, 3)
    front.studio.preview(job, a_jpeg(3))
    await becomes(bruno, card, "3/8")
    await front.studio.requeued(job, attempt)
    back = await becomes(bruno, card, "You're next", "The GPU went away")
    assert back.pictures == []


async def test_a_job_stranded_with_its_server_says_so_until_it_is_drawn_again(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, card = await asked(front, bruno)
    attempt = await front.studio.start(job)
    front.studio.progress(job, 3)
    await becomes(bruno, card, "3/8")
    front.studio.bus.publish(JobStranded(job_id=job.id))
    paused = await becomes(bruno, card, "Paused: your place is kept", "The GPU that had it went away")
    assert paused.accent == Accent.YELLOW
    assert [button.label for button in paused.buttons] == ["Cancel"]
    front.studio.progress(job, 5)
    await becomes(bruno, card, "5/8")
    await front.studio.finish(job, attempt)


async def test_cancel_is_one_press_and_the_card_says_cancelled(front: Front, people: People) -> None:
    ana = await people.be("ana")
    job, card = await asked(front, ana, "un faro")
    await ana.press(card, "Cancelar")
    over = await becomes(ana, card, "Cancelada", "no gastaste tu turno")
    assert [button.label for button in over.buttons] == ["Otra vez"]
    await front.until_state(job.id, JobState.CANCELLED)
    await front.until_job(job.id, lambda job: job.card_message_id is None)


async def test_a_card_cancelled_while_a_gpu_has_it_does_not_say_that_the_turn_is_kept(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, card = await asked(front, bruno)
    await front.studio.start(job)
    front.studio.progress(job, 3)
    card = await becomes(bruno, card, "3/8")
    await bruno.press(card, "Cancel")
    over = await becomes(bruno, card, "Cancelled", "it counts as one of your turns")
    assert "not used up" not in over.text


async def test_a_failure_is_all_that_is_left_of_a_job_although_steps_are_heard_before_and_after_it(
    front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    job, card = await asked(front, bruno)
    await front.studio.start(job)
    front.studio.progress(job, 3)
    await becomes(bruno, card, "3/8")
    front.studio.progress(job, 4)  # the pace holds it back until after the failure
    await front.studio.fail(job, ErrorCode.OUT_OF_MEMORY)
    failure = await bruno.wait_for_message(lambda m: "That didn't work" in m.text, channel=card.channel_id)
    front.studio.progress(job, 5)
    other, other_card = await asked(front, bruno, "an owl")  # facts that come after them, in the same channel
    await front.studio.start(other)
    front.studio.progress(other, 2)
    await becomes(bruno, other_card, "2/8")
    await bruno.until(_only(bruno, card.channel_id, {failure.id, other_card.id}), "the failure and the other card alone")
    assert "That didn't work" in (await bruno.message(failure)).text
    assert [live.job.id for live in front.bot.cards.board] == [other.id]


def _only(person: Person, channel: str, wanted: set[str]) -> Callable[[], Awaitable[bool | None]]:
    async def check() -> bool | None:
        return {message.id for message in await person.messages(channel)} == wanted

    return check


async def test_a_job_that_failed_while_its_card_was_being_hung_leaves_one_message(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    door.spoil(POSTS, times=1, delay_s=1.0)  # the card is on its way so long
    answer = await bruno.slash("imagine", model="z-image", prompt="a fox")
    assert not answer.failed
    job = await front.studio.only_job(int(bruno.id))
    await front.studio.fail(job, ErrorCode.OUT_OF_MEMORY)
    failure = await bruno.wait_for_message(lambda m: "That didn't work" in m.text, channel=str(job.channel_id))
    await front.until_job(job.id, lambda job: job.card_message_id is None)

    async def card_was_posted() -> bool:
        return all(call.status == 200 for call in door.calls(POSTS))

    await bruno.until(card_was_posted, "the card that comes too late")
    await bruno.until(_only(bruno, str(job.channel_id), {failure.id}), "the failure alone")


async def test_edits_stay_within_discords_limit_however_fast_the_engine_talks(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    front.studio.limits = Limits(active_per_person=4, queue_length=100)
    cards = [await asked(front, bruno, f"fox number {number}") for number in range(4)]
    for job, _ in cards:
        await front.studio.start(job)
    for step in range(1, 31):
        for job, _ in cards:
            front.studio.progress(job, step, 30)
        front.studio.preview(cards[0][0], a_jpeg(step))
        await asyncio.sleep(0.05)
    for _, card in cards:
        await becomes(bruno, card, "30/30")
    times = [datetime.fromisoformat(call.at).timestamp() for call in door.calls(EDITS)]
    assert max(sum(start <= at < start + 5.0 for at in times) for start in times) <= 5


async def test_a_cancel_does_not_wait_behind_the_steps_of_another_card(door: FrontDoor, front: Front, people: People) -> None:
    """Two cards talk until the channel's five seconds hold no more steps; the press is shown within the same five seconds."""
    bruno = await people.be("bruno")
    drawn = [await asked(front, bruno, f"fox number {number}") for number in range(2)]

    async def talk() -> None:
        for step in itertools.count(1):
            for job, _ in drawn:
                front.studio.progress(job, step, 10_000)
            await asyncio.sleep(0.05)

    def edited_at() -> list[float]:
        """A card that is hung counts, too."""
        return [datetime.fromisoformat(call.at).timestamp() for call in door.calls(f"{EDITS}|{POSTS}")]

    async def still_for(seconds: float) -> None:
        async with asyncio.timeout(30):
            while time.time() - edited_at()[-1] <= seconds:  # noqa: ASYNC110 (the stand-in's journal is the fact)
                await asyncio.sleep(0.02)

    await still_for(WINDOW_S)  # that the cards were hung counts no more
    for job, card in drawn:
        await front.studio.start(job)
        await bruno.wait_for_message(lambda m, card=card: m.id == card.id and m.text != card.text)  # type: ignore[misc]
    async with asyncio.TaskGroup() as group:
        talking = group.create_task(talk())
        await still_for(STEP_EVERY_S + 0.2)  # both have had a step to show for a while, and neither may
        before = edited_at()
        await bruno.press(drawn[0][1], "Cancel")
        await becomes(bruno, drawn[0][1], "Cancelled")
        talking.cancel()
    shown_at = edited_at()[len(before)]
    assert sum(shown_at - at < WINDOW_S for at in before) == EDITS_PER_WINDOW - KEPT_FOR_NEWS


async def test_nothing_is_edited_while_nothing_changes(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, card = await asked(front, bruno)
    await front.studio.start(job)
    front.studio.progress(job, 4)
    await becomes(bruno, card, "4/8")
    edits = len(door.calls(EDITS))
    for _ in range(20):
        front.studio.progress(job, 4)
        front.studio.changed()
    other, _ = await asked(front, await people.be("ana"), "un faro")  # a fact to wait for that comes after them
    assert other.id != job.id
    assert [call.path for call in door.calls(EDITS)[edits:] if card.id in call.path] == []


async def test_after_a_restart_the_same_card_goes_on(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open() as first:
        job, card = await asked(first, bruno)
        await first.studio.start(job)
        first.studio.progress(job, 1)
        await becomes(bruno, card, "1/8")
    async with door.open() as second:
        await becomes(bruno, card, "You're next")  # what it is at is known again with the next step
        second.studio.progress(job, 6)
        await becomes(bruno, card, "6/8")
    assert len(await bruno.messages(card.channel_id)) == 1


async def test_a_card_that_was_posted_but_never_noted_goes_when_its_job_ended_while_nobody_was_there(
    door: FrontDoor, people: People
) -> None:
    """A kill between Discord's answer and our note: no row names the card."""
    bruno = await people.be("bruno")
    async with door.open() as first:
        job, card = await asked(first, bruno)
        attempt = await first.studio.start(job)
    await door.database.jobs.set_card(job.id, None)
    async with door.open() as second:
        await second.studio.finish(job, attempt)
        job = await second.until_state(job.id, JobState.DELIVERED)
        await bruno.until(_only(bruno, card.channel_id, {str(job.result_message_id)}), "the result alone")


async def test_a_card_that_was_never_noted_is_found_again_when_its_job_is_over_before_we_start(
    door: FrontDoor, people: People
) -> None:
    bruno = await people.be("bruno")
    async with door.open() as first:
        job, card = await asked(first, bruno)
    await door.database.jobs.set_card(job.id, None)
    assert await door.database.jobs.settle_failed(job.id, ErrorCode.OUT_OF_MEMORY, {})
    door.spoil(r"^GET /channels/\d+/messages$", times=2, code=40333)  # Discord does not let us look at once
    async with door.open() as second:
        failure = await bruno.wait_for_message(lambda m: "That didn't work" in m.text, channel=card.channel_id)
        await bruno.until(_only(bruno, card.channel_id, {failure.id}), "the failure alone")
        await second.until_job(job.id, lambda job: job.card_message_id is None)


async def test_a_card_that_somebody_deleted_is_hung_again_once(front: Front, people: People) -> None:
    bruno, elena = await people.be("bruno"), await people.be("elena")
    job, card = await asked(front, bruno)
    await elena.delete(card)
    await front.studio.start(job)
    front.studio.progress(job, 4)
    again = await bruno.wait_for_message(lambda m: "4/8" in m.text, channel=card.channel_id)
    assert again.id != card.id
    assert len(await bruno.messages(card.channel_id)) == 1


@pytest.mark.parametrize("is_refused", [False, True])
async def test_an_old_card_is_posted_anew_instead_of_edited(
    door: FrontDoor, front: Front, people: People, is_refused: bool
) -> None:
    """Also where Discord does not take the old one away at once: nobody is left with two."""
    if is_refused:
        door.spoil(r"^DELETE /channels/\d+/messages/\d+$", times=1, code=40333)
    bruno = await people.be("bruno")
    job, card = await asked(front, bruno)
    old = int(card.id) - (56 * 60 * 1000 << 22)  # the id of a message 56 minutes older
    world = front.sandbox.world
    channel = int(card.channel_id)
    message = world.messages[channel].pop(int(card.id))
    message.id = old
    world.messages[channel][old] = message
    hung = front.bot.cards.board.get(job.id)
    assert hung is not None
    hung.message_id = MessageId(old)
    await front.studio.start(job)
    front.studio.progress(job, 4)
    fresh = await bruno.wait_for_message(lambda m: "4/8" in m.text, channel=card.channel_id)
    assert int(fresh.id) > old
    await bruno.wait_for("MESSAGE_DELETE", lambda d: d["id"] == str(old))
    assert [m.id for m in await bruno.messages(card.channel_id)] == [fresh.id]


async def test_cards_in_different_channels_do_not_wait_for_each_other(front: Front, people: People) -> None:
    """One channel's rate limit is not another's: every card tells the end although all talk at the same time."""
    bruno, ana, chloe = await people.be("bruno"), await people.be("ana"), await people.be("chloe")
    cards = [(person, await asked(front, person, f"picture of {person.username}")) for person in (bruno, ana, chloe)]
    for _, (job, _) in cards:
        await front.studio.start(job)
    for step in range(1, 9):
        for _, (job, _) in cards:
            front.studio.progress(job, step)
    for person, (_, card) in cards:
        await becomes(person, card, "8/8")


async def test_a_session_made_anew_while_we_stop_is_no_error(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open() as front:
        job, _ = await asked(front, bruno)
    await front.bot.cards.moved(job.user_id, job.channel_id)  # whoever was just asking is still answered
