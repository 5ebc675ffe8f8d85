"""What people meet when ComfyUI is away, refuses, answers with something else, or breaks: clear words, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.comfy_server.faults import FaultKind, Match
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import demo_world
from tests.support.person import Person, Seen
from tests.support.pictures import a_picture, kind_of, pixels
from tests.support.program import HouseOptions, WholeHouse, lawful_house
from tests.support.wishing import PATIENCE_S, ask, draw, is_result, pictures_on, result, results

pytestmark = pytest.mark.asyncio(loop_scope="module")


def house_options() -> HouseOptions:
    return {"gpus": [ComfySandbox(name="gpu-1", time_scale=0.02)]}


@pytest_asyncio.fixture(loop_scope="module")
async def gpu(house: WholeHouse) -> AsyncIterator[ComfySandbox]:
    """The only GPU; whatever a test does to it is over afterwards."""
    yield house.gpus[0]
    house.gpus[0].faults.clear()


@asynccontextmanager
async def a_house(folder: Path, gpu: ComfySandbox, **settings: str) -> AsyncIterator[WholeHouse]:
    """One of the test's own."""
    options: HouseOptions = {"discord": DiscordSandbox(world=demo_world(guests=3)), "gpus": [gpu], "settings": settings}
    async with lawful_house(folder, **options) as house:
        yield house


async def failure(person: Person, prompt: str) -> Seen:
    """The red card of a wish, with what to do next."""
    failed = await person.wait_for_message(lambda m: "That didn't work" in m.text and prompt in m.text, timeout=PATIENCE_S)
    assert {"Try again", "Settings"} <= {button.label for button in failed.buttons}
    for secret in ("127.0.0.1", "/", "Traceback", "node_errors"):
        assert secret not in failed.text.partition("\n> ")[0].replace("`/imagine`", "")
    return failed


async def test_a_refused_workflow_is_not_tried_again_and_is_told(house: WholeHouse, gpu: ComfySandbox, guest: Person) -> None:
    gpu.fail("reject", times=None, match=Match(text="a wish ComfyUI rejects"))
    await ask(guest, "a wish ComfyUI rejects")
    failed = await failure(guest, "a wish ComfyUI rejects")
    assert "This model can't draw that right now. Your turn was not used up" in failed.text
    refused = [line for line in gpu.journal.requests if line.path.endswith("/prompt") and line.status == 400]
    assert len(refused) == 1
    await draw(guest, "and the next one works")


async def test_out_of_memory_at_every_size_is_told_with_what_to_try(gpu: ComfySandbox, guest: Person) -> None:
    gpu.fail("oom", times=None, match=Match(text="a wish too large"))
    await ask(guest, "a wish too large")
    assert (
        "That is too big for our GPUs. Try a smaller size, fewer pictures or another model"
        in (await failure(guest, "a wish too large")).text
    )


async def test_a_picture_too_large_for_a_proxy_is_told_to_its_person_and_with_its_status_to_administrators(
    house: WholeHouse, gpu: ComfySandbox, guest: Person
) -> None:
    elena = await house.people.be("elena")
    gpu.fail("413", times=None, match=Match(path="/upload/image"), limit_bytes=100)
    picture = await guest.upload("mine.png", a_picture("red", (800, 400)))
    await guest.slash("edit", prompt="a change that never gets there", image=picture, timeout=PATIENCE_S)
    assert "That picture is too large to be sent to our GPU" in (await failure(guest, "a change that never gets there")).text
    await elena.wait_for_message(lambda m: "`POST /upload/image` answered 413" in m.text, channel="admin-tools")
    await draw(guest, "and the GPU draws on")


async def test_one_bad_wish_in_a_batch_spoils_nobody_elses(house: WholeHouse, gpu: ComfySandbox, guest: Person) -> None:
    elena, others = await house.people.be("elena"), [await house.newcomer() for _ in range(2)]
    gpu.fail("node_error", times=None, match=Match(text="the wish that breaks"))
    await elena.slash("admin pause")
    await ask(guest, "the wish that breaks")
    for person in others:
        await ask(person, "an innocent wish")
    await elena.slash("admin resume")
    await failure(guest, "the wish that breaks")
    for person in others:
        await result(person, "an innocent wish")


@pytest.mark.parametrize("fault", ["fewer_images", "truncate_output", "missing_output"])
async def test_a_picture_that_comes_damaged_is_drawn_once_more(gpu: ComfySandbox, guest: Person, fault: str) -> None:
    gpu.fail(fault, times=1)
    await draw(guest, f"after {fault}", count=2 if fault == "fewer_images" else 1)
    assert len(await results(guest)) == 1


@pytest.mark.parametrize("fault", ["ws_drop", "ws_silent", "lost_answer", "delay_history"])
async def test_a_hiccup_of_the_connection_costs_nothing(gpu: ComfySandbox, guest: Person, fault: str) -> None:
    before = len(gpu.journal.prompts)
    gpu.fail(fault, times=1)
    await draw(guest, f"through {fault}")
    assert len(await results(guest)) == 1
    assert len(gpu.journal.prompts) == before + 1, "drawn twice"


@pytest.mark.parametrize(("fault", "status"), [("html", 200), ("html", 404), ("401", 401), ("5xx", 502)])
async def test_something_else_in_comfyuis_place_means_waiting_and_then_the_picture(
    house: WholeHouse, gpu: ComfySandbox, guest: Person, fault: str, status: int
) -> None:
    gpu.fail(fault, times=None, status=status)
    await ask(guest, "patient words")
    await guest.wait_for_message(lambda m: "your place is kept" in m.text, timeout=PATIENCE_S)
    answer = await ask(guest, "more patient words")
    assert "All our GPUs are away right now. Your picture keeps its place and starts by itself when one returns." in answer.text
    gpu.faults.clear()
    elena = await house.people.be("elena")
    await elena.slash("admin enable", server=gpu.url.removeprefix("http://"))  # looks again at once
    await result(guest, "patient words")
    await result(guest, "more patient words")


async def test_a_gpu_that_is_down_is_waited_for_and_retries_are_not_shouted(
    house: WholeHouse, gpu: ComfySandbox, guest: Person
) -> None:
    losses = house.program.said().count("server_lost")
    gpu.crash_soon(5.0)
    await gpu.wait_until_down()
    await ask(guest, "while it is down")
    await guest.wait_for_message(lambda m: "your place is kept" in m.text, timeout=PATIENCE_S)
    await gpu.wait_until_up()
    await result(guest, "while it is down")
    assert house.program.said().count("server_lost") == losses + 1
    assert "stamina" not in house.program.said()


async def test_a_gpu_that_dies_while_it_draws_gives_the_picture_after_its_return(gpu: ComfySandbox, guest: Person) -> None:
    gpu.fail(FaultKind.CRASH, match=Match(step=2, text="the one it died of"), seconds=0.5)
    await draw(guest, "the one it died of")
    assert len(await results(guest)) == 1


@pytest.mark.parametrize("key", ["artist:secret-word", "a-long-bearer-token"])
async def test_a_protected_comfyui_is_used_with_its_key_which_is_never_logged(tmp_path: Path, key: str) -> None:
    async with a_house(tmp_path, ComfySandbox(name="gpu-1", time_scale=0.02, key=key), COMFY_API_KEY=key) as house:
        await draw(await house.newcomer(), "behind a lock")
        assert key not in house.program.said()
        assert key.partition(":")[2] or key not in house.program.said()


async def test_with_the_wrong_key_people_wait_and_the_log_says_why(tmp_path: Path) -> None:
    gpu = ComfySandbox(name="gpu-1", time_scale=0.02, key="right-secret")
    async with a_house(tmp_path, gpu, COMFY_API_KEY="wrong-secret") as house:
        guest = await house.newcomer()
        answer = await guest.slash("imagine", model="z-image", prompt="a fox")
        assert "All our GPUs are away right now" in answer.text
        assert "refuses the key" in house.program.said()
        elena = await house.people.be("elena")
        assert "it refused our key" in (await elena.slash("admin status")).text


async def test_a_plain_comfyui_without_our_nodes_draws_for_everybody_one_after_the_other(tmp_path: Path) -> None:
    async with a_house(tmp_path, ComfySandbox(name="gpu-1", time_scale=0.02, pack="none")) as house:
        elena, people = await house.people.be("elena"), [await house.newcomer() for _ in range(3)]
        await elena.slash("admin pause")
        for person in people:
            await ask(person, "without the pack", count=2)
        await elena.slash("admin resume")
        for person in people:
            message = await result(person, "without the pack")
            assert len(message.pictures) == 2
            assert "together" not in message.text


async def test_a_picture_over_the_upload_limit_comes_smaller_under_the_right_name(tmp_path: Path) -> None:
    discord = DiscordSandbox(world=demo_world(guests=1), upload_limit_bytes=700_000)
    async with lawful_house(tmp_path, discord=discord, gpus=[ComfySandbox(name="gpu-1", time_scale=0.01)]) as house:
        guest = await house.newcomer()
        small = await draw(guest, "a city of neon lights", size="1536x1536")
        await guest.press(small, "Upscale")
        large = await guest.wait_for_message(lambda m: is_result(m, guest) and m.id != small.id, timeout=PATIENCE_S)
        [file], [data] = large.files, await pictures_on(guest, large)
        assert len(data) <= 700_000
        assert (file.filename.rpartition(".")[2], file.content_type, kind_of(data)) == ("webp", "image/webp", "WEBP")
        assert pixels(data)[0] == (3072, 3072)
        refusals = house.discord.context.journal.violations()
        assert {(found.kind, found.message[:5]) for found in refusals} == {("limit", "40005")}  # the limit is found by trying
        house.discord.context.journal.clear()
