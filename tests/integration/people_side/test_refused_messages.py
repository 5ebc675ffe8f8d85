"""What Discord refuses: what passes by itself is tried again in the same place, what is refused for good is told at once."""

from __future__ import annotations

import io
import json
import os

import pytest
from PIL import Image
from sqlalchemy import Connection, text

from modules.discord.upload_sizes import REQUEST_BYTES
from modules.domain.errors import ErrorCode
from modules.domain.images import Dimensions, Picture, PictureFormat
from modules.domain.jobs import Job, JobState
from modules.sandbox.discord_server.world import ChannelKind
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People, Person, Seen

SENDS = r"^POST /channels/\d+/messages$"
EDITS = r"^PATCH /channels/\d+/messages/\d+$"
ANSWERS = r"^(POST|PATCH) /webhooks/"
HTML = "<html>Attention Required! | Cloudflare</html>"
LINK = "evil.example"
PROMPT = f"a fox at {LINK}"
LEFT_OUT = "Discord doesn't accept the words of this one"


async def asked(front: Front, person: Person, prompt: str = PROMPT, **options: object) -> Job:
    wanted: dict[str, object] = {"model": "z-image", "prompt": prompt} | options
    answer = await person.slash("imagine", **wanted)  # type: ignore[arg-type] # command options
    assert not answer.failed
    job = await front.studio.only_job(int(person.id))
    await person.wait_for_message(lambda m: m.buttons, channel=str(job.channel_id))  # its card hangs
    return job


async def results(person: Person, channel: str) -> list[Seen]:
    return [message for message in await person.messages(channel) if message.pictures and message.mentions]


def sessions(door: FrontDoor) -> list[str]:
    guild = door.sandbox.world.guilds[door.guild_id]
    return [one.name for one in guild.channels.values() if one.kind is ChannelKind.TEXT and one.name.startswith("session-")]


def refuse_the_link(door: FrontDoor, route: str, code: int = 240000) -> None:
    door.spoil(route, containing=LINK, code=code, times=999)


TROUBLES: list[dict[str, object]] = [
    {"status": 403, "body": HTML},
    {"status": 404, "body": HTML},
    {"status": 403},
    {"status": 404},
    {"code": 40333},
    {"code": 400001},
]


@pytest.mark.parametrize("fault", TROUBLES)
async def test_trouble_that_says_nothing_of_the_channel_moves_nothing_elsewhere(
    door: FrontDoor, front: Front, people: People, fault: dict[str, object]
) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    door.spoil(SENDS, times=2, **fault)
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    assert len(await results(bruno, str(job.channel_id))) == 1
    assert sessions(door) == ["session-bruno"]
    assert await bruno.messages("dm") == []


async def test_a_card_survives_trouble_that_says_nothing_of_the_channel(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    door.spoil(EDITS, times=1, status=403, body=HTML)
    attempt = await front.studio.start(job)
    await bruno.wait_for_message(lambda m: "Finishing" in m.text or m.accent == 0x5865F2, channel=str(job.channel_id))
    door.spoil(r"^DELETE /channels/\d+/messages/\d+$", times=1, status=404, body=HTML)
    await front.studio.finish(job, attempt)
    await front.until_state(job.id, JobState.DELIVERED)
    await front.until_job(job.id, lambda stored: stored.card_message_id is None)
    assert [message.pictures != [] for message in await bruno.messages(str(job.channel_id))] == [True]


@pytest.mark.parametrize("code", [240000, 50035])
async def test_a_result_whose_words_are_refused_comes_without_them(
    door: FrontDoor, front: Front, people: People, code: int
) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    refuse_the_link(door, SENDS, code)
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    [result] = await results(bruno, str(job.channel_id))
    assert LEFT_OUT in result.text
    assert LINK not in str(result.raw)
    assert (await front.studio.job(job.id)).recipe.prompt == PROMPT
    door.sandbox.context.journal.clear()  # asking is how one learns of it


async def test_a_result_that_is_refused_in_every_form_is_told_at_once_and_can_be_sent_again(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    door.spoil(SENDS, containing="fullet-", code=20009, times=999)
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.UNDELIVERABLE)
    told = await bruno.wait_for_message(lambda m: "Discord doesn't accept it here" in m.text, channel=str(job.channel_id))
    assert told.mentions == [bruno.id]
    assert len([call for call in door.calls(SENDS) if call.files]) == 2  # with the words, and without
    door.sandbox.context.faults.clear()
    await bruno.press(told, "Send again")
    await front.until_state(job.id, JobState.DELIVERED)
    assert len(await results(bruno, str(job.channel_id))) == 1


async def test_a_card_whose_words_are_refused_hangs_without_them(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    refuse_the_link(door, SENDS)
    refuse_the_link(door, EDITS)
    job = await asked(front, bruno)
    card = await bruno.wait_for_message(lambda m: LEFT_OUT in m.text, channel=str(job.channel_id))
    await front.studio.start(job)
    shown = await bruno.wait_for_message(lambda m: m.id == card.id and m.is_edited, channel=str(job.channel_id))
    assert LEFT_OUT in shown.text


async def test_a_failure_whose_words_are_refused_is_told_without_them(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    refuse_the_link(door, EDITS)
    await front.studio.fail(job, ErrorCode.OUT_OF_MEMORY)
    red = await bruno.wait_for_message(lambda m: "That didn't work" in m.text, channel=str(job.channel_id))
    assert LEFT_OUT in red.text


async def test_private_answers_whose_words_are_refused_come_without_them(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    waiting = await asked(front, bruno)
    done = await asked(front, bruno, f"a hen at {LINK}")
    await front.studio.draw(done)
    await front.until_state(done.id, JobState.DELIVERED)
    [result] = await results(bruno, str(done.channel_id))
    refuse_the_link(door, ANSWERS)
    refuse_the_link(door, r"^POST /interactions/")
    file = await bruno.upload("recipe.json", json.dumps({"model": "z-image", "prompt": PROMPT}).encode())
    for answer in (
        await bruno.slash("queue"),
        await bruno.slash("history"),
        await bruno.press(result, "Recipe"),
        await bruno.slash("recall", file=file),
    ):
        assert LEFT_OUT in answer.text
    recalled = (await bruno.slash("recall", file=file)).message
    assert recalled is not None
    form = await bruno.press(recalled, "Open the form")
    assert LEFT_OUT in form.text
    assert (await front.studio.job(waiting.id)).state is JobState.QUEUED


async def test_a_result_that_was_posted_and_deleted_before_a_crash_is_not_posted_again(door: FrontDoor, people: People) -> None:
    """Discord answers 10008 to the nonce of a message that was deleted: so it was there."""
    bruno = await people.be("bruno")
    async with door.open() as first:
        job = await asked(first, bruno)
        await first.studio.draw(job)
        await first.until_state(job.id, JobState.DELIVERED)
    [result] = await results(bruno, str(job.channel_id))
    door.sandbox.context.posting.delete(door.sandbox.world.message(int(result.channel_id), int(result.id)))

    def forget(connection: Connection) -> None:
        connection.execute(text("UPDATE outbox SET sent_at = NULL, message_id = NULL, is_owed = 1, due_at = created_at"))
        connection.execute(text("UPDATE job SET state = 'generated', result_message_id = NULL"))

    await door.database.engine.write(forget)
    async with door.open() as second:
        await second.until_state(job.id, JobState.DELIVERED)
    assert await results(bruno, str(job.channel_id)) == []


async def test_a_card_that_was_deleted_before_it_was_noted_hangs_anew(door: FrontDoor, people: People) -> None:
    """The nonce of a deleted message is refused for minutes: the new card needs another one."""
    bruno = await people.be("bruno")
    async with door.open() as first:
        job = await asked(first, bruno, "a fox")
    [card] = await bruno.messages(str(job.channel_id))
    door.sandbox.context.posting.delete(door.sandbox.world.message(int(card.channel_id), int(card.id)))
    await door.database.jobs.set_card(job.id, None)
    async with door.open() as second:
        anew = await bruno.wait_for_message(lambda m: "a fox" in m.text and m.id != card.id, channel=str(job.channel_id))
        await second.until_job(job.id, lambda stored: stored.card_message_id == int(anew.id))


def noise(side_px: int) -> Picture:
    """Noise does not compress."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), os.urandom(side_px * side_px * 3)).save(buffer, "PNG", compress_level=1)
    return Picture(data=buffer.getvalue(), format=PictureFormat.PNG, size=Dimensions(side_px, side_px))


async def test_pictures_that_are_too_much_together_are_sent_smaller_from_the_first_try(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno, count=3)
    await front.studio.draw(job, [noise(1_700)] * 3)  # 8.7 MB each: each is allowed, all together are not
    result = await bruno.wait_for_message(lambda m: m.pictures, channel=str(job.channel_id), timeout=40)
    [sent] = [call for call in door.calls(SENDS) if call.files]
    assert sum(file["size"] for file in sent.files) <= REQUEST_BYTES
    assert len(result.pictures) == 3


async def test_a_size_that_was_refused_is_not_tried_again_in_that_guild(door: FrontDoor, front: Front, people: People) -> None:
    """The guild takes less than it says; a person's second picture begins where the first one ended."""
    door.sandbox.context.files.upload_limit_bytes = 600_000
    bruno = await people.be("bruno")
    for _ in range(2):
        job = await asked(front, bruno)
        await front.studio.draw(job, [noise(500)])  # 750 kB
        await front.until_state(job.id, JobState.DELIVERED)
    assert [call.status for call in door.calls(SENDS) if call.files] == [413, 200, 200]
    door.sandbox.context.journal.clear()  # the limit is found by trying
