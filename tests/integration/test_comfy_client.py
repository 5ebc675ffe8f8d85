"""The life of a prompt: ours in front of a stand-in that answers as a recorded ComfyUI did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from statistics import correlation

import pytest
from PIL import Image

from modules.ai.workflows.gain import MergeMode
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions, Picture
from modules.domain.jobs import Attempt
from modules.domain.servers import (
    MergeCapability,
    RunEnded,
    RunEvent,
    RunPhase,
    RunPreviewed,
    RunProgressed,
    RunStarted,
    SlotSaved,
)
from modules.sandbox.comfy_server import ComfySandbox
from modules.utils.images import MAX_PREVIEW_BYTES, finish_output, read_recipe
from tests.support.comfy_side import SMALL, ComfySide, a_recipe, an_attempt, comfy_side, events_of, report_in, started

#: Wall-clock seconds per simulated second: a run takes about a second, long enough to look at while it goes on.
BRISK = 0.05
#: As fast as possible.
AT_ONCE = 0.0

PROMPTS = ("a red fox in the snow", "a harbour at night", "three green bottles", "a map of nowhere")


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image.convert("RGB")


def pixels(picture: Picture) -> bytes:
    return opened(picture.data).tobytes()


def likeness(preview: bytes, picture: Picture) -> float:
    """Correlation of two pictures, seen from afar: noise that is still over a preview does not matter."""
    one, other = (opened(data).resize((24, 24), Image.Resampling.BOX).tobytes() for data in (preview, picture.data))
    return correlation(one, other)


async def drawn_alone(side: ComfySide, prompts: Sequence[str]) -> list[bytes]:
    """The picture each prompt gets when it has a server to itself."""
    alone = []
    for number, prompt in enumerate(prompts):
        attempt = an_attempt(a_recipe(prompt, seed=100 + number))
        await side.run(attempt)
        alone.append(pixels((await side.ours.fetch(attempt, {0}))[0]))
    return alone


def together(prompts: Sequence[str]) -> Attempt:
    return an_attempt(*(a_recipe(prompt, seed=100 + number) for number, prompt in enumerate(prompts)))


async def test_the_steps_of_a_jobs_pictures_that_are_drawn_one_after_the_other_add_up() -> None:
    async with ComfySandbox(time_scale=BRISK) as sandbox, comfy_side(sandbox, mode=MergeMode.NEVER) as side:
        events = await side.run(an_attempt(a_recipe("two lighthouses", steps=4, count=2)))
    steps = [(event.step, event.steps) for event in events if isinstance(event, RunProgressed)]
    assert steps[-1] == (8, 8)
    assert all(earlier < later for earlier, later in pairwise(steps))


async def test_a_prompt_starts_progresses_is_saved_and_fetched() -> None:
    async with ComfySandbox(time_scale=BRISK) as sandbox, comfy_side(sandbox) as side:
        attempt = an_attempt(a_recipe("a lighthouse at dawn", steps=4))
        events = await side.run(attempt)
        pictures = await side.ours.fetch(attempt, {0})
        report = await side.ours.report(attempt.id)
    assert events[0] == RunStarted()
    steps = [(event.step, event.steps) for event in events if isinstance(event, RunProgressed)]
    assert steps[-1] == (4, 4)
    assert all(earlier < later for earlier, later in pairwise(steps))
    assert events[-2] == SlotSaved(slot=0)
    assert report_in(events).phase is report.phase is RunPhase.SUCCEEDED
    assert report_in(events).worked_s == pytest.approx(report.worked_s, abs=0.01)
    assert pictures[0].size == SMALL


async def test_a_picture_carries_its_own_recipe_and_nobody_elses_words() -> None:
    async with ComfySandbox(time_scale=AT_ONCE, pack="none") as sandbox, comfy_side(sandbox) as side:
        attempt = together(PROMPTS[:2])
        await side.run(attempt)
        [written, _] = sorted(path for path in sandbox.outputs.rglob("*.png") if str(attempt.id) in str(path))
        pictures = await side.ours.fetch(attempt, {0, 1})
    assert b"KSampler" in written.read_bytes() if written.exists() else True
    for index, prompt in enumerate(PROMPTS[:2]):
        text = read_recipe(pictures[index].data)
        assert text is not None
        recipe = json.loads(text)
        assert (recipe["prompt"], recipe["seed"], recipe["size"]) == (prompt, 100 + index, "512x512")
        assert PROMPTS[1 - index].encode() not in pictures[index].data
        assert b"KSampler" not in pictures[index].data


@pytest.mark.parametrize(
    ("pack", "mode"),
    [("full", MergeMode.BATCHED), ("full", MergeMode.STACKED), ("encode", MergeMode.AUTO), ("none", MergeMode.AUTO)],
)
async def test_every_slot_of_a_merged_run_is_the_picture_drawn_alone(pack: str, mode: MergeMode) -> None:
    sandbox = ComfySandbox(time_scale=AT_ONCE, pack=pack)  # type: ignore[arg-type]  # a literal by another name
    async with sandbox, comfy_side(sandbox, mode=mode) as side:
        alone = await drawn_alone(side, PROMPTS)
        attempt = together(PROMPTS)
        events = await side.run(attempt)
        pictures = await side.ours.fetch(attempt, range(4))
    assert {event.slot for event in events if isinstance(event, SlotSaved)} == {0, 1, 2, 3}
    assert [pixels(pictures[slot]) for slot in range(4)] == alone


@pytest.mark.parametrize("mode", [MergeMode.BATCHED, MergeMode.STACKED])
async def test_a_preview_only_ever_shows_the_picture_of_its_own_slot(mode: MergeMode) -> None:
    async with ComfySandbox(time_scale=BRISK) as sandbox, comfy_side(sandbox, mode=mode) as side:
        attempt = an_attempt(*(a_recipe(prompt, seed=100 + number, steps=8) for number, prompt in enumerate(PROMPTS)))
        events = await side.run(attempt)
        pictures = await side.ours.fetch(attempt, range(4))
    previews = [event for event in events if isinstance(event, RunPreviewed)]
    assert {preview.slot for preview in previews} == {0, 1, 2, 3}
    for preview in previews:
        assert len(preview.jpeg) <= MAX_PREVIEW_BYTES
        likest = max(pictures, key=lambda slot: likeness(preview.jpeg, pictures[slot]))
        assert likest == preview.slot


async def test_progress_of_chains_goes_to_one_person_and_of_a_shared_pass_to_all() -> None:
    async with ComfySandbox(time_scale=AT_ONCE) as sandbox:
        seen: dict[MergeMode, set[int]] = {}
        for mode in (MergeMode.STACKED, MergeMode.BATCHED):
            async with comfy_side(sandbox, mode=mode) as side:
                events = await side.run(together(PROMPTS))
                seen[mode] = {len(event.job_ids) for event in events if isinstance(event, RunProgressed)}
    assert seen == {MergeMode.STACKED: {1}, MergeMode.BATCHED: {4}}


async def test_strangers_on_the_same_server_see_and_show_nothing() -> None:
    """A program that posts without a client id has its previews broadcast; ours must not take them for its own."""
    async with (
        ComfySandbox(time_scale=BRISK, preview_method="auto") as sandbox,
        comfy_side(sandbox) as side,
        comfy_side(sandbox) as other_side,
    ):
        stranger = an_attempt(a_recipe("a stranger's picture", seed=9, steps=6))
        ours = an_attempt(a_recipe("ours", seed=10, steps=6))
        await other_side.ours.post(stranger)
        await side.ours.post(ours)
        theirs_seen, ours_seen = await asyncio.gather(events_of(other_side.ours, stranger), events_of(side.ours, ours))
        drawn = {0: (await side.ours.fetch(ours, {0}))[0], 1: (await other_side.ours.fetch(stranger, {0}))[0]}
    for events, own in ((ours_seen, 0), (theirs_seen, 1)):
        previews = [event.jpeg for event in events if isinstance(event, RunPreviewed)]
        assert previews
        for jpeg in previews:
            assert max(drawn, key=lambda slot: likeness(jpeg, drawn[slot])) == own


async def test_an_input_picture_is_uploaded_once_under_its_own_name() -> None:
    drawing = BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((640, 480)).save(drawing, "PNG")
    async with ComfySandbox(time_scale=AT_ONCE) as sandbox, comfy_side(sandbox) as side:
        source = await side.blobs.put(finish_output(drawing.getvalue()))
        recipe = a_recipe("make it blue", workflow="flux_edit", size=None, source=source, count=2)
        attempt = an_attempt(recipe)
        events = await side.run(attempt)
        pictures = await side.ours.fetch(attempt, {0, 1})
        uploaded = [path.relative_to(sandbox.inputs).as_posix() for path in sandbox.inputs.rglob("*") if path.is_file()]
    assert report_in(events).phase is RunPhase.SUCCEEDED
    assert set(pictures) == {0, 1}
    assert uploaded == [f"fullet/{source}.png"]


async def test_an_input_picture_that_is_gone_names_the_slot() -> None:
    async with ComfySandbox(time_scale=AT_ONCE) as sandbox, comfy_side(sandbox) as side:
        lost = a_recipe("x", workflow="flux_edit", size=None, source=BlobId("00000000-0000-4000-8000-000000000000"))
        with pytest.raises(FulletError) as caught:
            await side.ours.post(an_attempt(a_recipe(count=2), lost))
    assert (caught.value.code, caught.value.params["guilty"]) == (ErrorCode.PICTURE_GONE, 2)


async def test_two_attempts_wait_in_line_and_each_follower_hears_its_own() -> None:
    async with ComfySandbox(time_scale=BRISK) as sandbox, comfy_side(sandbox) as side:
        first, second = an_attempt(a_recipe("one", seed=1)), an_attempt(a_recipe("two", seed=2))
        await side.ours.post(first)
        await side.ours.post(second)
        assert (await side.ours.report(second.id)).phase is RunPhase.PENDING
        heard: Sequence[Sequence[RunEvent]] = await asyncio.gather(events_of(side.ours, first), events_of(side.ours, second))
    for attempt, events in zip((first, second), heard, strict=True):
        assert next(iter(events)) == RunStarted()
        assert {job for event in events if isinstance(event, RunProgressed) for job in event.job_ids} == {attempt.jobs[0].id}
        assert sum(isinstance(event, RunEnded) for event in events) == 1
    ended = [report_in(events) for events in heard]
    assert ended[0].ended_at is not None
    assert ended[1].started_at is not None
    assert ended[0].ended_at <= ended[1].started_at


async def test_a_forgotten_attempt_leaves_no_history_but_its_files() -> None:
    async with ComfySandbox(time_scale=AT_ONCE) as sandbox, comfy_side(sandbox) as side:
        attempt = an_attempt()
        await side.run(attempt)
        await side.ours.forget(attempt.id)
        assert (await side.ours.report(attempt.id)).phase is RunPhase.UNKNOWN
        assert set(await side.ours.fetch(attempt, {0})) == {0}


@pytest.mark.parametrize("has_jobs_api", [True, False])
async def test_old_servers_are_followed_through_queue_and_history(has_jobs_api: bool) -> None:
    async with ComfySandbox(time_scale=BRISK, has_jobs_api=has_jobs_api) as sandbox, comfy_side(sandbox) as side:
        running, waiting = an_attempt(a_recipe("one", seed=1, steps=30)), an_attempt(a_recipe("two", seed=2))
        await side.ours.post(running)
        await side.ours.post(waiting)
        await started(side.ours, running)
        assert (await side.ours.report(waiting.id)).phase is RunPhase.PENDING
        await side.ours.cancel(running.id)
        stopped, done = await events_of(side.ours, running), await events_of(side.ours, waiting)
        asked = {line.path for line in sandbox.journal.requests}
    assert report_in(stopped).phase is RunPhase.INTERRUPTED
    assert report_in(done).phase is RunPhase.SUCCEEDED
    assert ("/interrupt" in asked) is not has_jobs_api


@pytest.mark.parametrize(
    ("pack", "capability", "is_wrong"),
    [
        ("none", MergeCapability.NONE, False),
        ("encode", MergeCapability.ENCODE, False),
        ("full", MergeCapability.FULL, False),
        ("wrong", MergeCapability.NONE, True),
    ],
)
async def test_the_facts_of_a_server(pack: str, capability: MergeCapability, is_wrong: bool) -> None:
    sandbox = ComfySandbox(pack=pack, vram_gb=8)  # type: ignore[arg-type]  # a literal by another name
    async with sandbox, comfy_side(sandbox) as side:
        facts = side.ours.facts
    assert facts is not None
    assert facts.version == "0.33.0"
    assert (facts.capability, facts.has_wrong_pack) == (capability, is_wrong)
    assert (facts.pack_version != "") is (capability is not MergeCapability.NONE)
    assert facts.vram_bytes == 8 * 2**30


async def test_a_size_that_follows_the_input_is_not_held_against_the_picture() -> None:
    drawing = BytesIO()
    Image.new("RGB", (320, 200), "teal").save(drawing, "PNG")
    async with ComfySandbox(time_scale=AT_ONCE) as sandbox, comfy_side(sandbox) as side:
        source = await side.blobs.put(finish_output(drawing.getvalue()))
        attempt = an_attempt(a_recipe("", workflow="upscale", size=None, source=source))
        await side.run(attempt)
        pictures: Mapping[int, Picture] = await side.ours.fetch(attempt, {0})
    assert pictures[0].size in (Dimensions(640, 400), Dimensions(1280, 800))
