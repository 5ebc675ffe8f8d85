"""The stand-in runs the three forms of a merged workflow: each slot is drawn from its own inputs and nothing else."""

from __future__ import annotations

import importlib
import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageStat

from modules.sandbox.comfy_server import models
from modules.sandbox.comfy_server.models import Family, step_seconds
from modules.sandbox.comfy_server.slots import refused_inputs
from tests.support.comfy import Comfy, changed, comfy, png, saved
from tests.support.merge_graphs import Common, Job, batched, solo, stacked

#: The pack's own reader of JSON inputs: pure Python, no torch. (By name: mypy would follow the import into ComfyUI.)
pack_slots: Any = importlib.import_module("comfy_custom_nodes.slots")

JOBS = (
    Job(prompt="a red fox in the snow", seed=11, cfg=6.0),
    Job(prompt="un faro al atardecer", negative="people", seed=2**64 - 1, cfg=4.5),
    Job(prompt="neon city", negative="", seed=0, cfg=7.0),
)


async def pixels(server: Comfy, image: dict[str, str]) -> bytes:
    """The picture itself: text chunks do not count."""
    return Image.open(BytesIO(await server.image(image))).tobytes()


async def solo_pixels(server: Comfy, common: Common, jobs: tuple[Job, ...] = JOBS) -> list[bytes]:
    return [await pixels(server, saved((await server.run(solo(job, common)))[0])[0]) for job in jobs]


@pytest.mark.parametrize("family", ["sdxl", "z-image", "flux2"])
@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
async def test_a_slot_of_a_batch_is_the_picture_of_that_job_alone(family: str, sampler: str) -> None:
    common = Common(family=family, sampler=sampler)
    async with comfy() as server:
        alone = await solo_pixels(server, common)
        entry, _ = await server.run(batched(JOBS, common))
        together = [await pixels(server, image) for image in saved(entry, "save")]
        stack, _ = await server.run(stacked(JOBS, common))
        one_by_one = [await pixels(server, saved(stack, f"save_{slot}")[0]) for slot in range(len(JOBS))]
    assert len(set(alone)) == len(JOBS)
    assert together == alone
    assert one_by_one == alone


async def test_slots_that_start_from_pictures_are_the_pictures_of_those_jobs_alone() -> None:
    common = Common(size=(256, 256))
    jobs = JOBS[:2]
    merged = batched(jobs, common, latent_image=["joined", 0], denoise=0.6)
    alone = []
    async with comfy() as server:
        for slot, job in enumerate(jobs):
            await server.upload(f"{slot}.png", png(colour=(200 * slot, 90, 30)))
            load = {"class_type": "LoadImage", "inputs": {"image": f"{slot}.png"}}
            encode = {"class_type": "VAEEncode", "inputs": {"pixels": [f"load_{slot}", 0], "vae": ["ckpt", 2]}}
            graph = changed(solo(job, common), "sample", latent_image=[f"encode_{slot}", 0], denoise=0.6)
            started = {f"load_{slot}": load, f"encode_{slot}": encode}
            alone.append(await pixels(server, saved((await server.run(graph | started))[0])[0]))
            merged |= started
        joined = {f"latent_{slot}": [f"encode_{slot}", 0] for slot in range(len(jobs))}
        merged["joined"] = {"class_type": "FuLLetMergeLatents", "inputs": joined}
        entry, _ = await server.run(merged)
        together = [await pixels(server, image) for image in saved(entry, "save")]
    assert together == alone


async def test_saved_slots_name_themselves_and_hold_nobodys_prompt() -> None:
    async with comfy() as server:
        entry, _ = await server.run(batched(JOBS, Common()))
        images = saved(entry, "save")
        pictures = [Image.open(BytesIO(await server.image(image))) for image in images]
    named: list[tuple[object, str, str]] = [(image["slot"], image["id"], image["filename"]) for image in images]
    assert named == [(slot, f"slot-{slot}", f"{slot}_00001_.png") for slot in range(3)]
    assert all(not getattr(picture, "text", {}) for picture in pictures)


async def test_one_seed_for_an_ordinary_batch_gives_other_pictures_than_alone() -> None:
    common = Common()
    async with comfy() as server:
        (alone,) = await solo_pixels(server, common, JOBS[:1])
        entry, _ = await server.run(changed(solo(JOBS[0], common), "latent", batch_size=3))
        rows = [await pixels(server, image) for image in saved(entry)]
    assert rows[0] == alone
    assert len(set(rows)) == 3


async def test_a_stochastic_sampler_without_a_stream_per_slot_spoils_all_slots_but_the_first() -> None:
    common = Common(family="flux2", sampler="euler_ancestral")
    async with comfy() as server:
        alone = await solo_pixels(server, common)
        entry, _ = await server.run(changed(batched(JOBS, common), "sample", sampler=["choice", 0]))
        rows = [await pixels(server, image) for image in saved(entry, "save")]
    assert [row == own for row, own in zip(rows, alone, strict=True)] == [True, False, False]


async def test_a_list_of_slots_into_a_stock_sampler_is_refused() -> None:
    graph = changed(solo(JOBS[0], Common()), "sample", positive=["slots", 0])
    graph["slots"] = batched(JOBS, Common())["positive"]
    async with comfy() as server:
        status, body = await server.call("POST", "/prompt", {"prompt": graph})
    (reason,) = body["node_errors"]["sample"]["errors"]
    assert (status, reason["type"]) == (400, "return_type_mismatch")
    assert reason["details"] == "positive, received_type(MERGE_COND) mismatch input_type(CONDITIONING)"


async def test_a_stack_with_one_bad_slot_runs_the_others_and_a_batch_refuses_all() -> None:
    bad = changed(stacked(JOBS, Common()), "latent_1", width=99999)
    async with comfy() as server:
        entry, _ = await server.run(bad)
        status, body = await server.call(
            "POST", "/prompt", {"prompt": changed(batched(JOBS, Common()), "positive", prompts="[1]")}
        )
    assert entry["outputs"].keys() == {"save_0", "save_2"}
    assert status == 400
    (reason,) = body["node_errors"]["positive"]["errors"]
    assert reason["type"] == "custom_validation_failed"
    assert reason["details"] == "prompts - fullet-merge: bad_json: every prompt must be a string."


async def test_a_stacked_slot_is_reported_when_its_own_chain_ends() -> None:
    async with comfy() as server:
        _, events = await server.run(stacked(JOBS, Common()), prompt_id="00000000-0000-4000-8000-000000000001")
    steps = [
        str(event["data"]["node"]) for event in events if event["type"] in ("executing", "executed") and event["data"].get("node")
    ]
    marks = [node for node in steps if node.startswith(("sample_", "save_"))]
    slots = [mark.split("_")[1] for mark in marks]
    assert sorted(slots) == sorted("000111222")
    assert [slots[index] for index in (0, 3, 6)] == [
        slots[index] for index in (2, 5, 8)
    ]  # sampler, saver, its report: one slot at a time


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"seeds": "[1, 2]", "cfg": "1.0"}, "slot_count"),
        ({"sampler_name": "euler", "negative": ["short", 0]}, "slot_count"),
        ({"latent_image": ["two", 0]}, "slot_count"),
    ],
)
async def test_slots_that_do_not_agree_fail_with_the_code_of_the_protocol(inputs: dict[str, Any], code: str) -> None:
    graph = batched(JOBS, Common(), **inputs)
    graph["short"] = {"class_type": "CLIPTextEncodeBatch", "inputs": {"clip": ["ckpt", 1], "prompts": '["a", "b"]'}}
    graph["two"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 96, "batch_size": 2}}
    async with comfy() as server:
        entry, events = await server.run(graph)
    (failure,) = [event["data"] for event in events if event["type"] == "execution_error"]
    assert entry["status"]["status_str"] == "error"
    assert failure["exception_message"].startswith(f"fullet-merge: {code}: ")


async def test_a_negative_may_be_left_out_only_where_it_changes_nothing() -> None:
    plain = [Job(prompt=job.prompt, seed=job.seed, cfg=1.0) for job in JOBS]
    async with comfy() as server:
        fine = batched(plain, Common(family="z-image"))
        del fine["sample"]["inputs"]["negative"]
        missing = batched(JOBS, Common(family="z-image"))
        del missing["sample"]["inputs"]["negative"]
        good, _ = await server.run(fine)
        _, events = await server.run(missing)
    assert good["status"]["status_str"] == "success"
    (failure,) = [event["data"] for event in events if event["type"] == "execution_error"]
    assert "negative_missing" in failure["exception_message"]


async def test_previews_turn_through_the_slots_and_stay_on_row_0_without_our_pack() -> None:
    common = Common(steps=12, size=(512, 512))
    async with comfy() as server:
        frames: dict[str, list[Image.Image]] = {}
        for name, graph in (
            ("merged", batched(JOBS[:2], common)),
            ("stock", changed(solo(JOBS[0], common), "latent", batch_size=2)),
        ):
            async with server.listen(name, metadata=True) as socket:
                prompt_id = await server.post(graph, client_id=name, extra_data={"preview_method": "latent2rgb"})
                await socket.until_end_of(prompt_id)
            binary = [event for event in socket.events if event["type"] == "binary"]
            assert {event["metadata"]["prompt_id"] for event in binary} == {prompt_id}
            assert {event["metadata"]["node_id"] for event in binary} == {"sample"}
            frames[name] = [Image.open(BytesIO(event["image"])) for event in binary]
    assert all(frame.format == "JPEG" and max(frame.size) <= 512 for frame in frames["merged"] + frames["stock"])

    late = [mean_colour(frame) for frame in frames["merged"][-4:]]
    assert _near(late[0], late[2])
    assert _near(late[1], late[3])
    assert not _near(late[0], late[1])
    stock = [mean_colour(frame) for frame in frames["stock"][-4:]]
    assert all(_near(stock[0], other) for other in stock)


def mean_colour(frame: Image.Image) -> tuple[float, ...]:
    return tuple(ImageStat.Stat(frame.convert("RGB")).mean)


def _near(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(abs(a - b) < 14 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("pack", "encoder_output", "has_guider"),
    [("none", None, False), ("encode", "MERGE_COND", False), ("full", "MERGE_COND", True), ("wrong", "CONDITIONING", False)],
)
async def test_what_the_pack_can_do_shows_in_object_info(pack: str, encoder_output: str | None, has_guider: bool) -> None:
    async with comfy(pack=pack) as server:
        encoder = (await server.get("/object_info/CLIPTextEncodeBatch")).get("CLIPTextEncodeBatch")
        guider = await server.get("/object_info/FuLLetMergeGuider")
        sampler = await server.get("/object_info/FuLLetMergeKSampler")
    assert (encoder["output"][0] if encoder else None) == encoder_output
    assert bool(guider) is bool(sampler) is has_guider
    if encoder_output == "MERGE_COND":
        assert encoder["input"]["optional"]["protocol"][0] == [1]
        assert encoder["description"].startswith("FuLLet merge pack 1.1.0, protocol 1.")


async def test_a_pack_of_a_later_protocol_refuses_a_client_of_this_one() -> None:
    async with comfy(pack="newer") as server:
        status, body = await server.call("POST", "/prompt", {"prompt": batched(JOBS, Common())})
    assert status == 400
    assert body["node_errors"]["positive"]["errors"][0]["type"] == "value_not_in_list"


@given(
    family=st.sampled_from(list(Family)),
    megapixels=st.floats(0.05, 4.0),
    rows=st.integers(1, 16),
    evaluations=st.integers(1, 2),
)
def test_a_pass_takes_what_the_study_says(family: Family, megapixels: float, rows: int, evaluations: int) -> None:
    one = step_seconds(family, megapixels, evaluations=evaluations, groups=[1])
    many = step_seconds(family, megapixels, evaluations=evaluations, groups=[rows])
    shared = models.shared_part(family, megapixels)
    assert many == pytest.approx(one * (shared + (1 - shared) * rows))
    assert one <= many <= rows * one + 1e-9
    assert step_seconds(family, megapixels, evaluations=evaluations, groups=[1] * rows) == pytest.approx(rows * one)


_scalars = st.none() | st.booleans() | st.integers(-2, 2**64) | st.floats() | st.text(max_size=5)
_objects = st.dictionaries(st.sampled_from(["id", "prefix", "x"]), _scalars, max_size=3)
_texts = _scalars | _objects | st.lists(_scalars | _objects, max_size=17)
_PAIRS = {
    "prompts": ("CLIPTextEncodeBatch", pack_slots.parse_prompts),
    "guidance": ("CLIPTextEncodeBatch", pack_slots.parse_guidance),
    "seeds": ("FuLLetMergeNoise", pack_slots.parse_seeds),
    "cfg": ("FuLLetMergeGuider", pack_slots.parse_cfg),
    "slots": ("FuLLetMergeSaveImage", pack_slots.parse_save_slots),
}


@pytest.mark.parametrize("name", sorted(_PAIRS))
@given(value=_texts, spoiled=st.booleans())
def test_the_stand_in_refuses_just_what_the_pack_refuses(name: str, value: object, spoiled: bool) -> None:
    text = json.dumps(value)[: -1 if spoiled else None]
    class_type, parse = _PAIRS[name]
    refused = dict(refused_inputs(class_type, {name: text}))
    assert refused.get(name) == pack_slots.verdict(parse, text)
