"""The courier: every picture arrives, once, whatever Discord and our own crashes do in between."""

from __future__ import annotations

import asyncio
import io
import os
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import Connection, select, text, update

from modules.domain.errors import ErrorCode
from modules.domain.images import Dimensions, Picture, PictureFormat
from modules.domain.jobs import Job, JobState, base36, short_id
from modules.domain.people import UserId
from modules.domain.records import MessageKind
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.posting import NONCE_LIFE_S
from modules.utils.database.tables import outbox
from tests.support.front_side import Front, FrontDoor, a_png
from tests.support.person import People, Person, Seen
from tests.support.split_roles import in_both_arrangements

pytestmark = in_both_arrangements

SENDS = r"^POST /channels/\d+/messages$"


async def asked(front: Front, person: Person, prompt: str = "a fox", **options: object) -> Job:
    answer = await person.slash("imagine", model="z-image", prompt=prompt, **options)  # type: ignore[arg-type] # command options
    assert not answer.failed
    job = await front.studio.only_job(int(person.id))
    await person.wait_for_message(lambda m: prompt in m.text, channel=str(job.channel_id))  # its card hangs
    return job


async def results(person: Person, channel: str) -> list[Seen]:
    return [message for message in await person.messages(channel) if message.pictures and message.mentions]


async def test_a_result_carries_its_nonce_and_its_marker(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    sent = [call for call in door.calls(SENDS) if call.files]
    assert len(sent) == 1
    assert sent[0].body is not None
    assert f'"nonce":"{base36(job.id)}"' in sent[0].body.decode().replace('": "', '":"')
    assert b'"enforce_nonce"' in sent[0].body
    assert short_id(job.id) in sent[0].files[0]["filename"]


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}, {"status": 429, "retry_after": 0.2, "via": False}])
async def test_when_discord_stumbles_the_picture_still_comes_once(
    door: FrontDoor, front: Front, people: People, fault: dict[str, object]
) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    door.spoil(SENDS, times=2, **fault)
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    assert len(await results(bruno, str(job.channel_id))) == 1


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}])
async def test_a_lost_answer_never_means_a_second_message(
    door: FrontDoor, front: Front, people: People, fault: dict[str, object]
) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    door.spoil(SENDS, times=2, after=True, **fault)
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    assert len(await results(bruno, str(job.channel_id))) == 1


@pytest.mark.parametrize("clock_was_ahead", [timedelta(0), timedelta(hours=1)])
async def test_a_crash_between_send_and_note_is_healed_by_looking_when_the_nonce_is_forgotten(
    door: FrontDoor, people: People, clock_was_ahead: timedelta
) -> None:
    bruno = await people.be("bruno")
    async with door.open() as first:
        job = await asked(first, bruno)
        await first.studio.draw(job)
        await first.until_state(job.id, JobState.DELIVERED)
    message = (await results(bruno, str(job.channel_id)))[0]
    await _forget_the_delivery(door, job, clock_was_ahead=clock_was_ahead)
    door.sandbox.world.clock.advance(NONCE_LIFE_S + 60)
    async with door.open() as second:
        await second.until_state(job.id, JobState.DELIVERED)
        assert (await second.studio.job(job.id)).result_message_id == int(message.id)
    assert len(await results(bruno, str(job.channel_id))) == 1
    assert len([call for call in door.calls(SENDS) if call.files]) == 1


async def test_a_result_made_while_nobody_was_there_is_delivered_by_the_next_start(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open() as first:
        job = await asked(first, bruno)
        attempt = await first.studio.start(job)
    async with door.open() as second:
        await second.studio.finish(job, attempt)
        await second.until_state(job.id, JobState.DELIVERED)
    assert len(await results(bruno, str(job.channel_id))) == 1

    async def has_only_results() -> bool:
        return all(message.pictures for message in await bruno.messages(str(job.channel_id)))

    # The card of the first start is taken down by the second, in its own time where the courier is another process.
    await bruno.until(has_only_results, "the card to go")


async def test_a_deleted_channel_means_a_new_one_and_no_loss(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    attempt = await front.studio.start(job)
    door.spoil(
        rf"^POST /channels/{job.channel_id}/messages$", times=1, status=404, body={"code": 10003, "message": "Unknown Channel"}
    )
    await front.studio.finish(job, attempt)
    await front.until_state(job.id, JobState.DELIVERED)
    new = await front.database.sessions.get(door.guild_id, UserId(int(bruno.id)))
    assert new is not None
    assert new.channel_id != job.channel_id
    assert len(await results(bruno, str(new.channel_id))) == 1


async def test_without_a_usable_channel_the_picture_comes_as_a_direct_message(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    door.spoil(r"^POST /channels/\d+/messages$", times=2, status=403, body={"code": 50013, "message": "Missing Permissions"})
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    assert len(await results(bruno, "dm")) == 1


async def test_with_every_door_closed_the_job_is_undeliverable_and_its_pictures_are_kept(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    door.spoil(r"^POST /channels/\d+/messages$", times=20, status=403, body={"code": 50013, "message": "Missing Permissions"})
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.UNDELIVERABLE)
    assert len(await front.database.blobs.of_job(job.id)) == 1


async def test_a_slow_channel_keeps_nobody_else_waiting(door: FrontDoor, front: Front, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    slow, quick = await asked(front, ana), await asked(front, bruno)
    door.spoil(rf"^POST /channels/{slow.channel_id}/messages$", times=1, delay_s=3.0)
    await front.studio.draw(slow)
    await front.studio.draw(quick)
    await front.until_state(quick.id, JobState.DELIVERED)
    assert (await front.studio.job(slow.id)).state is JobState.GENERATED


async def test_a_picture_over_the_limit_is_sent_smaller_and_its_name_tells_its_format(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    await front.studio.draw(job, [_noise(2_000)])
    result = await bruno.wait_for_message(lambda m: m.pictures, channel=str(job.channel_id), timeout=20)
    assert len(await bruno.download(result.files[0].url)) <= 10 * 1024 * 1024
    assert result.files[0].filename.endswith((".webp", ".jpg"))


async def test_copies_go_to_the_export_folder(door: FrontDoor, people: People, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    bruno = await people.be("bruno")
    async with door.open(export_path=folder) as front:
        job = await asked(front, bruno, count=2)
        await front.studio.draw(job)
        await front.until_state(job.id, JobState.DELIVERED)
    kept = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    day = job.accepted_at.date().isoformat()
    assert kept == [f"{day}/{short_id(job.id)}-1.png", f"{day}/{short_id(job.id)}-2.png"]
    assert (folder / kept[0]).read_bytes() == a_png(0).data


async def test_a_failure_without_a_card_is_posted_with_a_mention(door: FrontDoor, front: Front, people: People) -> None:
    ana = await people.be("ana")
    job = await asked(front, ana, "un faro")
    card = await ana.wait_for_message(lambda m: "un faro" in m.text, channel=str(job.channel_id))
    door.spoil(rf"^PATCH /channels/\d+/messages/{card.id}$", status=404, body={"code": 10008, "message": "Unknown Message"})
    await front.studio.fail(job, ErrorCode.OUT_OF_MEMORY)
    red = await ana.wait_for_message(lambda m: "No salió bien" in m.text, channel=str(job.channel_id))
    assert red.mentions == [ana.id]


async def test_a_card_that_cannot_be_taken_down_keeps_nobody_from_their_pictures(
    door: FrontDoor, front: Front, people: People
) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    first, second = await asked(front, ana), await asked(front, bruno)
    door.spoil(r"^DELETE /channels/\d+/messages", times=99, status=403, body={"code": 50001, "message": "Missing Access"})
    for job in (first, second):
        await front.studio.draw(job)
        await front.until_state(job.id, JobState.DELIVERED)
    third = await asked(front, bruno, "an owl")
    await front.studio.draw(third)
    await front.until_state(third.id, JobState.DELIVERED)


async def test_before_stopping_what_is_owed_is_sent(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job = await asked(front, bruno)
    await front.studio.draw(job)
    async with asyncio.timeout(10):
        await front.courier.finish(10)
    assert (await front.studio.job(job.id)).state is JobState.DELIVERED


async def test_a_session_without_a_view_for_others_is_all_that_ever_gets_a_picture(
    door: FrontDoor, front: Front, people: People
) -> None:
    """Between acceptance and delivery somebody opens the channel, and we may not close it again: the picture goes elsewhere."""
    bruno, ana = await people.be("bruno"), await people.be("ana")
    job = await asked(front, bruno)
    channel = door.sandbox.world.channel(job.channel_id)
    for overwrite in channel.overwrites:
        if overwrite.target_id == door.guild_id:
            overwrite.deny, overwrite.allow = 0, int(Permission.VIEW_CHANNEL)
    door.sandbox.context.announcer.channel_updated(channel)
    door.spoil(
        rf"^PATCH /channels/{job.channel_id}$", times=10, status=403, body={"code": 50013, "message": "Missing Permissions"}
    )
    await ana.wait_for_channel(channel.name)
    await front.studio.draw(job)
    await front.until_state(job.id, JobState.DELIVERED)
    assert not any(m.pictures for m in await ana.messages(str(job.channel_id)))
    assert len(await results(bruno, "dm")) == 1


async def _forget_the_delivery(door: FrontDoor, job: Job, *, clock_was_ahead: timedelta) -> None:
    """As if the process had died after Discord's answer and before the note: the intent stands, nothing more."""

    def undo(connection: Connection) -> None:
        connection.execute(update(outbox).values(sent_at=None, message_id=None, is_owed=True, due_at=outbox.c.created_at))
        connection.execute(text("UPDATE job SET state = 'generated', result_message_id = NULL"))
        [tried_at] = connection.execute(select(outbox.c.first_try_at)).scalars()
        connection.execute(update(outbox).values(first_try_at=tried_at + clock_was_ahead))

    await door.database.engine.write(undo)
    due = await door.database.outbox.due(door.clock.now() + timedelta(seconds=1))
    assert [(item.job_id, item.kind) for item in due] == [(job.id, MessageKind.RESULT)]
    assert due[0].first_try_at is not None


def _noise(side_px: int) -> Picture:
    """Noise does not compress: this PNG is larger than Discord takes."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), os.urandom(side_px * side_px * 3)).save(buffer, "PNG", compress_level=1)
    return Picture(data=buffer.getvalue(), format=PictureFormat.PNG, size=Dimensions(side_px, side_px))
