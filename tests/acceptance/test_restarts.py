"""The program is killed, stopped and started at every kind of moment: nothing is lost, drawn twice or sent twice."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.comfy_server.faults import Match
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import demo_world
from tests.support.person import Person, Seen
from tests.support.program import HouseOptions, WholeHouse, lawful_house, until
from tests.support.wishing import PATIENCE_S, ask, card, draw, pictures_on, result, results, seed_on


def options(*, time_scale: float = 0.02, **settings: str) -> HouseOptions:
    return {
        "discord": DiscordSandbox(world=demo_world(guests=10)),
        "gpus": [ComfySandbox(name="gpu-1", time_scale=time_scale)],
        "settings": settings,
    }


async def exactly_once(person: Person, *prompts: str) -> list[Seen]:
    """Each of these has arrived, and nothing else."""
    found = [await result(person, prompt) for prompt in prompts]
    assert sorted(m.id for m in await results(person)) == sorted(m.id for m in found)
    return found


def drawn(house: WholeHouse) -> int:
    """How many prompts ran to their end on the GPU."""
    return sum(life.status == "success" for life in house.gpus[0].journal.prompts)


async def settled(house: WholeHouse, person: Person) -> None:
    """Nothing of theirs is under way any more: whatever would be sent twice has been sent."""
    async with asyncio.timeout(PATIENCE_S):
        while "Nothing of yours is waiting" not in (await person.slash("queue")).text:  # noqa: ASYNC110 - asked, as a person would
            await asyncio.sleep(0.1)


async def test_killed_right_after_the_answer_everything_waiting_is_drawn_in_the_next_life(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        elena, guest = await house.people.be("elena"), await house.newcomer()
        await elena.slash("admin pause")
        await ask(guest, "the first wish")
        await ask(guest, "the second wish")
        await house.restart()
        assert "2 jobs in the works" in (await guest.slash("queue")).text  # nothing lost, and the pause is still on
        assert drawn(house) == 0
        await elena.slash("admin resume")
        await exactly_once(guest, "the first wish", "the second wish")


async def test_killed_while_the_gpu_draws_the_picture_is_taken_up_again_not_drawn_again(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest = await house.newcomer()
        house.gpus[0].fail("slow", times=None, factor=40)
        await ask(guest, "a slow picture")
        await until(lambda: [life for life in house.gpus[0].journal.prompts if life.status == "running"], "the drawing to begin")
        await house.program.kill()
        assert drawn(house) == 0
        await house.start()
        house.gpus[0].faults.clear()
        await exactly_once(guest, "a slow picture")
        assert len(house.gpus[0].journal.prompts) == 1


async def test_killed_while_the_gpu_finishes_alone_the_picture_is_fetched_in_the_next_life(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest = await house.newcomer()
        house.gpus[0].fail("slow", times=None, factor=10)
        await ask(guest, "finished while nobody looked")
        await until(lambda: [life for life in house.gpus[0].journal.prompts if life.status == "running"], "the drawing to begin")
        await house.program.kill()
        await until(lambda: drawn(house) == 1, "the GPU to finish")
        house.gpus[0].faults.clear()
        await house.start()
        await exactly_once(guest, "finished while nobody looked")
        assert len(house.gpus[0].journal.prompts) == 1


async def test_bot_and_gpu_dead_at_once_the_picture_is_drawn_once_more_and_sent_once(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest = await house.newcomer()
        house.gpus[0].fail("slow", times=None, factor=40)
        await ask(guest, "when everything died")
        await until(lambda: [life for life in house.gpus[0].journal.prompts if life.status == "running"], "the drawing to begin")
        await house.program.kill()
        house.gpus[0].faults.clear()
        await house.gpus[0].crash(down_s=0.1)
        await house.start()
        await exactly_once(guest, "when everything died")


@pytest.mark.parametrize("is_sent", [False, True], ids=["before", "after"])
async def test_killed_around_the_sending_of_a_picture_it_arrives_exactly_once(tmp_path: Path, is_sent: bool) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest = await house.newcomer()
        await draw(guest, "opens the session")
        # The connection is cut before Discord has made the message, or when it has, so that only its answer is lost.
        route = rf"^POST /channels/{(await results(guest))[0].channel_id}/messages$"
        house.discord.context.faults.add({"route": route, "times": 100, "reset": True, "after": is_sent})
        await ask(guest, "sent at the worst moment")
        await until(lambda: _pictures_sent(house) >= 2, "the picture to be on its way")
        if is_sent:
            await result(guest, "sent at the worst moment")
        await house.program.kill()
        house.discord.context.faults.clear()
        await house.start()
        await result(guest, "sent at the worst moment")
        await settled(house, guest)
        await exactly_once(guest, "opens the session", "sent at the worst moment")
        assert drawn(house) == 2


def _pictures_sent(house: WholeHouse) -> int:
    """Requests with files that the bot has made."""
    return sum(bool(entry.files) and entry.method == "POST" for entry in house.discord.context.journal.entries)


async def test_killed_during_its_start_it_starts_again_as_if_nothing_was(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest = await house.newcomer()
        await draw(guest, "before")
        for sign in ("checked ", "started "):
            await house.program.kill()
            seen = house.program.said().count(sign)
            await house.program.start()
            await until(lambda sign=sign, seen=seen: house.program.said().count(sign) > seen, f"{sign!r} in the log")  # type: ignore[misc]
        await house.program.kill()
        await house.start()
        await draw(guest, "after")
        await exactly_once(guest, "before", "after")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_and_what_runs_is_found_again(tmp_path: Path, number: signal.Signals) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest = await house.newcomer()
        house.gpus[0].fail("slow", times=None, factor=40)
        await ask(guest, "drawn over a clean restart")
        await ask(guest, "waiting over a clean restart")
        await until(lambda: [life for life in house.gpus[0].journal.prompts if life.status == "running"], "the drawing to begin")
        assert house.program.process is not None
        house.program.process.send_signal(number)
        assert await house.program.wait() == 0
        assert house.program.said().rstrip().endswith("stopped")
        house.gpus[0].faults.clear()
        await house.start()
        await exactly_once(guest, "drawn over a clean restart", "waiting over a clean restart")


async def test_what_was_drawn_before_a_restart_can_still_be_used(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest, another = await house.newcomer(), await house.newcomer()
        before = await draw(guest, "a lamp")
        await house.restart()
        refused = await guest.press(before, "Recipe")
        assert "a lamp" in refused.text
        await guest.press(before, "Again")
        again = await guest.wait_for_message(lambda m: bool(m.pictures) and m.id != before.id and guest.id in m.mentions)
        assert seed_on(again) != seed_on(before)
        await guest.slash("edit", prompt="light the lamp", timeout=PATIENCE_S)
        assert await pictures_on(guest, await result(guest, "light the lamp"))
        assert [choice.value for choice in await guest.autocomplete("imagine", "prompt", "lamp")][:1] == ["light the lamp"]
        assert "There is no picture" in (await another.slash("edit", prompt="light what")).text


async def test_the_queue_card_of_the_last_life_goes_on_in_the_next(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        elena, guest = await house.people.be("elena"), await house.newcomer()
        await elena.slash("admin pause")
        await ask(guest, "on the same card")
        shown = await card(guest, "on the same card")
        await house.restart(clean=True)
        await guest.press(await guest.message(shown), "Cancel")
        await guest.wait_for("MESSAGE_UPDATE", lambda d: d["id"] == shown.id and "Cancelled" in str(d), timeout=PATIENCE_S)
        assert [m.id for m in await guest.messages(shown.channel_id)] == [shown.id]
        await elena.slash("admin resume")


async def test_commands_are_registered_once_and_again_only_when_somebody_asks(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        elena = await house.people.be("elena")
        assert _registrations(house) == 1
        await house.restart(clean=True)
        await house.restart()
        assert _registrations(house) == 1
        assert {"imagine", "edit"} <= {command["name"] for command in await elena.commands()}
        await elena.say("!clearall", "admin-tools")
        await elena.wait_for_message(lambda m: "All slash commands are removed" in m.text, channel="admin-tools")
        await house.restart(clean=True)
        assert await elena.commands() == []  # an administrator wanted it so
        await elena.say("!sync", "admin-tools")
        await elena.wait_for_command("imagine", timeout=PATIENCE_S)


async def test_a_sync_that_was_promised_is_done_after_a_kill(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        elena = await house.people.be("elena")
        await elena.say("!clearall", "admin-tools")
        await elena.wait_for_message(lambda m: "All slash commands are removed" in m.text, channel="admin-tools")
        house.discord.context.faults.add({"route": r"^PUT /applications/\d+/commands$", "status": 429, "retry_after": 60})
        await elena.say("!sync", "admin-tools")
        await elena.wait_for_message(lambda m: "Discord asks us to wait" in m.text, channel="admin-tools")
        await house.restart()
        await elena.wait_for_command("imagine", timeout=PATIENCE_S)
        await elena.wait_for_message(lambda m: "slash commands are registered" in m.text, channel="admin-tools")


def _registrations(house: WholeHouse) -> int:
    entries = house.discord.context.journal.entries
    return sum(entry.method == "PUT" and entry.route.endswith("/commands") and (entry.body or b"") != b"[]" for entry in entries)


async def test_a_hanging_prompt_of_a_cancelled_job_does_not_come_back_after_a_kill(tmp_path: Path) -> None:
    async with lawful_house(tmp_path, **options()) as house:
        guest = await house.newcomer()
        house.gpus[0].fail("hang", times=1, match=Match(text="not wanted any more"))
        await ask(guest, "not wanted any more")
        await until(lambda: [life for life in house.gpus[0].journal.prompts if life.status == "running"], "the drawing to begin")
        shown = await card(guest, "not wanted any more")
        await guest.press(shown, "Cancel")
        await guest.wait_for("MESSAGE_UPDATE", lambda d: d["id"] == shown.id and "Cancelled" in str(d), timeout=PATIENCE_S)
        await house.restart()
        await draw(guest, "wanted")
        await exactly_once(guest, "wanted")
