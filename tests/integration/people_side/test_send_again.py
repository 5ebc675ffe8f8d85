"""What could not be delivered stays in `/history`, and its person can have it sent again: once."""

from __future__ import annotations

import asyncio

from modules.discord.views.buttons import Act, custom_id
from modules.domain.jobs import Job, JobState
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People, Person, Seen
from tests.support.person_views import walk
from tests.support.split_roles import in_both_arrangements

pytestmark = in_both_arrangements

MESSAGES = r"^POST /channels/\d+/messages$"


async def undeliverable(door: FrontDoor, front: Front, person: Person, **options: object) -> Job:
    """Every door is closed while the picture is finished; afterwards all are open again."""
    wanted: dict[str, object] = {"model": "z-image", "prompt": "a fox"} | options
    await person.slash("imagine", **wanted)  # type: ignore[arg-type] # command options
    job = await front.studio.only_job(int(person.id))
    await person.wait_for_message(lambda m: str(wanted["prompt"]) in m.text, channel=str(job.channel_id))  # its card hangs
    door.spoil(MESSAGES, times=99, status=403, body={"code": 50013, "message": "Missing Permissions"})
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.UNDELIVERABLE)
    door.sandbox.context.faults.clear()
    return job


async def page_of(person: Person) -> Seen:
    page = (await person.slash("history")).message
    assert page is not None
    return page


async def results(person: Person, job: Job) -> list[Seen]:
    return [message for message in await person.messages(str(job.channel_id)) if message.pictures and message.mentions]


async def test_the_history_says_so_and_sends_it_again_into_the_session(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await undeliverable(door, front, bruno)
    page = await page_of(bruno)
    assert "It could not be delivered; it is kept here." in page.text
    answer = await bruno.press(page, "Send again")
    job = await front.until_state(job.id, JobState.DELIVERED)
    assert answer.text == f"It is on its way to <#{job.channel_id}> once more."
    [result] = await results(bruno, job)
    assert result.id == str(job.result_message_id)
    later = await page_of(bruno)
    assert "could not be delivered" not in later.text
    assert "Send again" not in [button.label for button in later.buttons]


async def test_presses_on_old_pages_and_after_a_restart_send_it_once(door: FrontDoor, people: People) -> None:
    ana = await people.be("ana")
    async with door.open() as first:
        job = await undeliverable(door, first, ana, prompt="un faro")
        pages = [await page_of(ana) for _ in range(4)]
    async with door.open() as second:
        *three, last = pages
        answers = await asyncio.gather(*(ana.press(page, "Enviar otra vez") for page in three))
        said = sorted(answer.text.split(" ", 2)[0] for answer in answers)
        assert said == ["Va", "Ya", "Ya"]  # "Va en camino ..." once, "Ya se envió ..." twice
        job = await second.until_state(job.id, JobState.DELIVERED)
        once_more = await ana.press(last, "Enviar otra vez")
        assert "Ya se envió" in once_more.text
        await second.courier.finish(5)
        assert len(await results(ana, job)) == 1


async def test_a_session_that_was_deleted_meanwhile_is_made_anew(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await undeliverable(door, front, bruno)
    page = await page_of(bruno)
    elena = await people.be("elena")
    await elena.delete_channel(str(job.channel_id))
    await bruno.press(page, "Send again")
    again = await front.until_state(job.id, JobState.DELIVERED)
    assert again.channel_id != job.channel_id
    assert len(await results(bruno, again)) == 1


async def test_where_the_doors_are_still_closed_it_can_be_tried_once_more(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await undeliverable(door, front, bruno)
    door.spoil(MESSAGES, times=99, status=403, body={"code": 50013, "message": "Missing Permissions"})
    await bruno.press(await page_of(bruno), "Send again")
    await front.until_state(job.id, JobState.UNDELIVERABLE)
    door.sandbox.context.faults.clear()
    await bruno.press(await page_of(bruno), "Send again")
    await front.until_state(job.id, JobState.DELIVERED)
    assert len(await results(bruno, await front.studio.job(job.id))) == 1


async def test_nobody_else_can_have_it_sent(door: FrontDoor, front: Front, people: People) -> None:
    """The page is private; a forged press is answered by the stored owner, administrators included."""
    bruno, chloe, elena = await people.be("bruno"), await people.be("chloe"), await people.be("elena")
    job = await undeliverable(door, front, bruno)
    forged = custom_id(Act.SEND_AGAIN, job.id)
    for stranger in (chloe, elena):
        await stranger.slash("imagine", model="z-image", prompt="a hen")
        mine = await front.studio.only_job(int(stranger.id))
        card = await stranger.wait_for_message(lambda m: "a hen" in m.text, channel=str(mine.channel_id))
        shown = door.sandbox.world.message(int(card.channel_id), int(card.id)).components
        next(piece for piece in walk(shown) if piece.get("custom_id"))["custom_id"] = forged
        answer = await stranger.press(await stranger.message(card), forged)
        assert f"Only {job.display_name} can do that here" in answer.text
    assert (await front.studio.job(job.id)).state is JobState.UNDELIVERABLE


async def test_pictures_that_were_erased_cannot_be_sent_again(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await undeliverable(door, front, bruno)
    page = await page_of(bruno)
    await front.database.blobs.erase_job(job.id)
    answer = await bruno.press(page, "Send again")
    assert "The picture for that is no longer stored" in answer.text
    assert (await front.studio.job(job.id)).state is JobState.UNDELIVERABLE
