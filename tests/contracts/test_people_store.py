"""The PeopleStore's contract: remember what was set, show everything, forget on request."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import JobState
from modules.domain.people import ChannelId, GuildId, MessageId
from modules.domain.recipes import ModelName
from modules.domain.records import FormDefaults, GuildSettings, MessageKind, PersonSettings
from modules.domain.stores import Change
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from tests.support.builders import ROOMY, THE_GUILD, SteeredClock, a_person, a_picture, a_recipe, a_report, a_request, a_session
from tests.support.queue_integrity import broken_rules
from tests.support.queue_steps import accepted, delivered, exactly, exported, generated, next_due, submitted


async def test_settings_come_back_and_can_be_changed(database: Database) -> None:
    person = a_person()
    assert await database.people.settings(person.user_id) == PersonSettings(user_id=person.user_id)
    chosen = PersonSettings(
        user_id=person.user_id,
        model=ModelName("flux"),
        size="832x1216",
        count=3,
        language="es",
        is_quiet=True,
        is_spoiler=True,
        forms={
            ModelName("sdxl"): FormDefaults(
                size="512x512", sampler="euler", loras=("ñ/ink.safetensors", "b"), strengths=("0,5", ""), cfg="７", steps="1"
            ),
            ModelName("flux"): FormDefaults(negative_prompt='"rain"\n\x00', checkpoint="x", scheduler="karras"),
        },
    )
    await database.people.save_settings(chosen)
    assert await database.people.settings(person.user_id) == chosen
    await database.people.save_settings(PersonSettings(user_id=person.user_id))
    assert await database.people.settings(person.user_id) == PersonSettings(user_id=person.user_id)


async def test_a_guilds_choices_come_back(database: Database) -> None:
    assert await database.people.guild(THE_GUILD) == GuildSettings(guild_id=THE_GUILD)
    chosen = GuildSettings(
        guild_id=THE_GUILD,
        blocked_words=("ñoño", "b\x00d"),
        audit_channel_id=ChannelId(7),
        role_weights={2**60 + 1: 4.0, 5: 0.5},
    )
    await database.people.save_guild(chosen)
    assert await database.people.guild(THE_GUILD) == chosen
    assert await database.people.guild(GuildId(2)) == GuildSettings(guild_id=GuildId(2))


async def test_recent_prompts_are_ones_own_distinct_and_newest_first(database: Database) -> None:
    ana, ben = a_person(), a_person()
    for person, prompt in ((ana, "a red fox"), (ana, "ÉTÉ à Paris"), (ben, "a red barn"), (ana, "100% wool"), (ana, "a red fox")):
        await accepted(database, a_request(person, recipe=a_recipe(prompt)))
    assert await database.people.recent_prompts(ana.user_id, "", 10) == ["a red fox", "100% wool", "ÉTÉ à Paris"]
    assert await database.people.recent_prompts(ana.user_id, "RED", 10) == ["a red fox"]
    assert await database.people.recent_prompts(ana.user_id, "été", 10) == ["ÉTÉ à Paris"]
    assert await database.people.recent_prompts(ana.user_id, "0%", 10) == ["100% wool"]
    assert await database.people.recent_prompts(ana.user_id, "_", 10) == []
    assert await database.people.recent_prompts(ana.user_id, "", 1) == ["a red fox"]


async def test_an_export_shows_everything_and_is_json(database: Database) -> None:
    person = a_person(display_name="Zoë")
    await database.people.save_settings(PersonSettings(user_id=person.user_id, language="es"))
    await database.sessions.save(a_session(person))
    source = await database.blobs.put(a_picture(1))
    [job] = await delivered(database, a_request(person, recipe=a_recipe("my secret garden", seed=2**64 - 1, source=source)))
    await accepted(database, a_request(a_person(), recipe=a_recipe("somebody else's")))

    export = json.loads(json.dumps(await exported(database, person.user_id)))

    assert export["settings"][0]["user_id"] == str(person.user_id)
    assert export["settings"][0]["language"] == "es"
    assert export["sessions"][0]["user_id"] == str(person.user_id)
    [shown] = export["jobs"]
    assert (shown["prompt"], shown["recipe"]["seed"], shown["state"]) == ("my secret garden", 2**64 - 1, "delivered")
    assert {picture["id"] for picture in export["pictures"]} == {source, *await database.blobs.of_job(job.id)}
    assert "somebody else" not in json.dumps(export)


async def test_a_forgotten_person_leaves_no_words_and_no_pictures(database: Database, clock: SteeredClock) -> None:
    person, other = a_person(), a_person()
    await database.people.save_settings(PersonSettings(user_id=person.user_id, language="es"))
    source, upload = await database.blobs.put(a_picture(1)), await database.blobs.put(a_picture(2))
    mine, theirs = await delivered(
        database, a_request(person, recipe=a_recipe("my secret", source=source)), a_request(other, recipe=a_recipe("not mine"))
    )
    [cancelled] = await accepted(database, a_request(person, recipe=a_recipe("another secret")))
    await database.jobs.cancel(cancelled.id)
    blobs = await database.blobs.of_job(mine.id)
    await database.blobs.remember_last(person.user_id, upload)

    await database.people.erase(person.user_id)

    assert [await database.blobs.get(blob_id) for blob_id in (source, upload, *blobs)] == [None, None, None]
    assert await database.people.recent_prompts(person.user_id, "", 10) == []
    assert await database.people.settings(person.user_id) == PersonSettings(user_id=person.user_id)
    assert "secret" not in json.dumps(await exported(database, person.user_id))
    assert await database.jobs.job(mine.id) is None
    assert await database.jobs.job(theirs.id) is not None
    assert await database.blobs.last_of(other.user_id) is not None
    assert await broken_rules(database) == []


async def test_forgetting_lifts_no_ban_and_resets_no_account(database: Database) -> None:
    person = a_person()
    await delivered(database, a_request(person))
    await database.people.save_settings(PersonSettings(user_id=person.user_id, size="1x1", is_banned=True))

    await database.people.erase(person.user_id)

    assert await database.people.settings(person.user_id) == PersonSettings(user_id=person.user_id, is_banned=True)
    assert (await exported(database, person.user_id))["account"] == [{"user_id": str(person.user_id), "vt": 8.0, "weight": 1.0}]
    with pytest.raises(FulletError, match=ErrorCode.PERSON_BANNED.value):
        await database.jobs.accept(a_request(person), ROOMY)


async def test_forgetting_spares_the_place_of_a_job_in_a_batch_still_running(database: Database) -> None:
    person, other = a_person(), a_person()
    mine, owed, theirs = await accepted(
        database,
        a_request(person, recipe=a_recipe("secret one", count=2)),
        a_request(person, recipe=a_recipe("secret two")),
        a_request(other, recipe=a_recipe("theirs")),
    )
    attempt = await submitted(database, exactly(mine.id, owed.id, theirs.id))
    await database.jobs.cancel(mine.id)
    await database.jobs.settle_generated(attempt.id, owed.id, [a_picture()], a_report())

    await database.people.erase(person.user_id)

    again = await database.jobs.attempt(attempt.id)
    assert again is not None
    assert again.slots == attempt.slots
    assert [job.recipe.prompt for job in again.jobs] == ["", "", "theirs"]
    assert again.jobs[1].state is JobState.UNDELIVERABLE
    assert await next_due(database) is None
    assert await database.jobs.settle_generated(attempt.id, theirs.id, [a_picture(3)], a_report())


async def test_forgetting_leaves_active_jobs_and_what_they_start_from(database: Database) -> None:
    person = a_person()
    source = await database.blobs.put(a_picture(1))
    [job] = await accepted(database, a_request(person, recipe=a_recipe("still wanted", source=source)))
    await database.people.erase(person.user_id)
    kept = await database.jobs.job(job.id)
    assert kept == job
    assert await database.blobs.get(source) is not None


async def test_what_is_on_its_way_when_a_person_is_forgotten_is_not_sent(database: Database, clock: SteeredClock) -> None:
    person = a_person()
    [job] = await generated(database, a_request(person))
    await database.outbox.claim_send(job.id, MessageKind.RESULT, clock.now(), timedelta(minutes=1))
    await database.people.erase(person.user_id)
    assert not await database.outbox.delivered(job.id, MessageKind.RESULT, MessageId(1))
    assert await next_due(database) is None


# --- two at once --------------------------------------------------------------------------------------------------------


def _counting(count: int) -> Change[PersonSettings]:
    return lambda mine: replace(mine, count=count)


def _banning(is_banned: bool) -> Change[PersonSettings]:
    return lambda mine: replace(mine, is_banned=is_banned)


def _blocking(word: str) -> Change[GuildSettings]:
    return lambda guild: replace(guild, blocked_words=(*guild.blocked_words, word))


def _weighing(role: int) -> Change[GuildSettings]:
    return lambda guild: replace(guild, role_weights={**guild.role_weights, role: 2.0})


async def test_changes_of_several_processes_at_once_all_count(database: Database, database_url: str, tmp_path: Path) -> None:
    """On PostgreSQL two processes; an SQLite file has one, whose calls come at once all the same."""
    person = a_person()
    async with AsyncExitStack() as stack:
        here, there = database, database
        if database_url.startswith("postgresql"):
            there = await stack.enter_async_context(open_database(database_url, data_dir=tmp_path, clock=SystemClock()))
        for number in range(10):
            await asyncio.gather(
                *(here.people.change_settings(person.user_id, _counting(count)) for count in range(4)),
                there.people.change_settings(person.user_id, _banning(number % 2 == 1)),
                here.people.change_guild(THE_GUILD, _blocking(f"{number}a")),
                there.people.change_guild(THE_GUILD, _blocking(f"{number}b")),
                here.people.change_guild(THE_GUILD, _blocking(f"{number}c")),
                there.people.change_guild(THE_GUILD, _weighing(number)),
            )
            assert (await database.people.settings(person.user_id)).is_banned == (number % 2 == 1)
        guild = await database.people.guild(THE_GUILD)
    assert (len(set(guild.blocked_words)), len(guild.role_weights)) == (30, 10)


async def test_a_change_that_raises_changes_nothing(database: Database) -> None:
    person = a_person()
    await database.people.save_settings(PersonSettings(user_id=person.user_id, size="1x1"))

    def refuse(_mine: PersonSettings) -> PersonSettings:
        raise FulletError(ErrorCode.SIZE_INVALID)

    with pytest.raises(FulletError, match="size_invalid"):
        await database.people.change_settings(person.user_id, refuse)
    assert (await database.people.settings(person.user_id)).size == "1x1"
