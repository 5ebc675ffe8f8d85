"""Several people's wishes in one graph: every slot once, every picture the one it would have been alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modules.ai.wishes import clean_text
from modules.ai.workflows.gain import MergeMode
from modules.ai.workflows.manifest import Family
from modules.ai.workflows.memory import rows_that_fit
from modules.ai.workflows.plan import BuiltWorkflow, MergeForm
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.images import BlobId, Dimensions
from modules.domain.jobs import Attempt
from modules.domain.recipes import MAX_SEED, Lora, ModelName, Seed
from modules.domain.servers import MergeCapability
from tests.support.graphs import (
    SERVER,
    a_catalogue,
    a_listing,
    a_planner,
    an_attempt,
    an_object_info,
    attempt_of,
    facts,
    faults_of,
    meaning_of,
    single,
    uploads_of,
)

INFO = an_object_info()
LISTING = a_listing()
CATALOGUE = a_catalogue(LISTING)
KINDS = [(spec.name, kind) for spec in CATALOGUE.models() for kind in spec.workflows]
SAMPLED_KINDS = [(model, kind) for model, kind in KINDS if kind is not WorkflowKind.UPSCALE]
NASTY = 'a "quoted"\nnew line, {"json": [1, "2"]}, ] } \\ \\n %date% <lora:x:1> 🦊👩‍👩‍👧 ¿qué?'

prompts = st.one_of(st.just(NASTY), st.text(min_size=1, max_size=60)).filter(clean_text)
seeds = st.integers(0, MAX_SEED).map(Seed)


def build(attempt: Attempt, form: MergeForm, capability: MergeCapability = MergeCapability.FULL) -> BuiltWorkflow:
    return a_planner(LISTING).build(attempt, facts(capability), uploads=uploads_of(attempt), form=form)


def save_of(built: BuiltWorkflow, slot: int) -> tuple[str, int]:
    """The output node of a slot and the slot's row in it."""
    return next((node, slots.index(slot)) for node, slots in built.save_nodes.items() if slot in slots)


def without_prefix(meaning: Any) -> Any:
    class_type, inputs = meaning
    return class_type, tuple(pair for pair in inputs if pair[0] != "filename_prefix")


def meanings(built: BuiltWorkflow) -> list[Any]:
    return [without_prefix(meaning_of(built.graph, *save_of(built, slot))) for slot in sorted(built.file_of_slot)]


def alone(attempt: Attempt) -> list[Any]:
    """What each slot means when its picture is asked for alone."""
    jobs = [single(job, index) for job in attempt.jobs for index in range(job.recipe.count)]
    return [meanings(build(an_attempt(job), MergeForm.SOLO))[0] for job in jobs]


@st.composite
def batches(draw: st.DrawFn) -> Attempt:
    """Jobs of several people that may share a pass: what a slot has for itself is drawn anew for each."""
    model, kind = draw(st.sampled_from(SAMPLED_KINDS))
    spec = CATALOGUE.model(model)
    side = st.integers(spec.min_side_px // spec.grid_px, 1024 // spec.grid_px).map(lambda cells: cells * spec.grid_px)
    size = Dimensions(draw(side), draw(side))
    steps = draw(st.integers(int(spec.steps.low), int(spec.steps.high)))
    is_guided = draw(st.booleans()) and spec.cfg.high > 1
    loras = draw(st.sampled_from([(), (Lora(name="ink.safetensors", strength=0.8),)]))
    loras = loras and (*loras, Lora(name="style/oil.safetensors", strength=-0.5))
    has_reference = kind in spec.takes_reference and draw(st.booleans())
    cfgs = st.floats(1.1, spec.cfg.high) if is_guided else st.just(1.0)
    wishes = [
        Wish(
            kind=kind,
            model=model,
            prompt=draw(prompts),
            negative_prompt=draw(st.one_of(st.just(""), prompts)),
            size=size,
            seed=draw(seeds),
            steps=steps,
            cfg=draw(cfgs),
            loras=loras,
            count=draw(st.integers(1, 3)),
            source=BlobId(f"picture-{draw(st.integers(1, 2))}"),
            reference=BlobId(f"beside-{draw(st.integers(1, 2))}") if has_reference else None,
            denoise=0.6 if kind is WorkflowKind.VARY else None,
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    return attempt_of(CATALOGUE, *wishes)


FORMS = [
    (MergeForm.SOLO, MergeCapability.NONE),
    (MergeForm.STACKED, MergeCapability.NONE),
    (MergeForm.STACKED, MergeCapability.ENCODE),
    (MergeForm.BATCHED, MergeCapability.FULL),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches(), st.sampled_from(FORMS))
def test_every_form_is_valid_has_every_slot_once_and_draws_what_each_would_have_alone(
    attempt: Attempt, form: tuple[MergeForm, MergeCapability]
) -> None:
    built = build(attempt, *form)
    slots = [slot.index for slot in attempt.slots]
    assert faults_of(built.graph, INFO) == []
    assert sorted(slot for saved in built.save_nodes.values() for slot in saved) == slots
    assert built.file_of_slot == {slot: f"fullet/{attempt.id}/{slot}_00001_.png" for slot in slots}
    assert set(built.slot_of_node) == set(built.graph)
    assert meanings(built) == alone(attempt)


def wishes_of(count: int, model: str = "sdxl", **rest: Any) -> list[Wish]:
    kind = rest.pop("kind", WorkflowKind.IMAGINE)
    return [
        Wish(kind=kind, model=ModelName(model), prompt=f"picture {number}", seed=Seed(number), **rest) for number in range(count)
    ]


def classes(built: BuiltWorkflow) -> list[str]:
    return sorted(str(node["class_type"]) for node in built.graph.values())


@pytest.mark.parametrize(("model", "kind"), SAMPLED_KINDS)
@pytest.mark.parametrize(("form", "capability"), FORMS)
def test_three_people_with_nothing_in_common_get_what_each_would_have_alone(
    model: ModelName, kind: WorkflowKind, form: MergeForm, capability: MergeCapability
) -> None:
    high = CATALOGUE.model(model).cfg.high
    wishes = [
        Wish(
            kind=kind,
            model=model,
            prompt=f"prompt {number}",
            negative_prompt=f"negative {number}",
            seed=Seed(100 * number),
            cfg=min(high, 5.0 + number),
            source=BlobId(f"picture-{number}"),
        )
        for number in range(3)
    ]
    attempt = attempt_of(CATALOGUE, *wishes)
    built = build(attempt, form, capability)
    assert faults_of(built.graph, INFO) == []
    assert meanings(built) == alone(attempt)
    can_batch = kind in (WorkflowKind.IMAGINE, WorkflowKind.VARY)
    assert built.form is (MergeForm.STACKED if form is MergeForm.BATCHED and not can_batch else form)


def test_a_batch_of_four_is_one_sampler_one_decode_and_one_save() -> None:
    built = build(attempt_of(CATALOGUE, *wishes_of(4)), MergeForm.BATCHED)
    assert classes(built) == sorted(
        [
            "CheckpointLoaderSimple",
            "CLIPTextEncodeBatch",
            "CLIPTextEncodeBatch",
            "EmptyLatentImage",
            "FuLLetMergeKSampler",
            "VAEDecode",
            "FuLLetMergeSaveImage",
        ]
    )
    assert built.form is MergeForm.BATCHED
    assert built.preview_rows == {"8": (0, 1, 2, 3)}


def test_a_custom_sampling_template_keeps_its_sampler_and_sigmas_and_gets_one_list_of_seeds() -> None:
    built = build(attempt_of(CATALOGUE, *wishes_of(3, "flux")), MergeForm.BATCHED)
    by_class = {str(node["class_type"]): node["inputs"] for node in built.graph.values()}
    assert {"SamplerCustomAdvanced", "Flux2Scheduler", "FuLLetMergeGuider"} <= by_class.keys()
    assert "CFGGuider" not in by_class
    assert "RandomNoise" not in by_class
    noise: Any = by_class["FuLLetMergeNoise"]
    sampler: Any = by_class["FuLLetMergeSampler"]
    latent: Any = by_class["EmptyFlux2LatentImage"]
    assert json.loads(noise["seeds"]) == json.loads(sampler["seeds"]) == [0, 1, 2]
    assert latent["batch_size"] == 3


def test_stacked_chains_share_loaders_and_one_encode_pass_and_end_in_a_save_each() -> None:
    built = build(attempt_of(CATALOGUE, *wishes_of(3, "z-image")), MergeForm.STACKED, MergeCapability.ENCODE)
    found = classes(built)
    assert found.count("UNETLoader") == found.count("CLIPTextEncodeBatch") == found.count("EmptySD3LatentImage") == 1
    assert found.count("KSampler") == found.count("FuLLetMergeSelect") == 3
    assert built.save_nodes == {"save_0": (0,), "save_1": (1,), "save_2": (2,)}
    samplers = [node for node, said in built.graph.items() if said["class_type"] == "KSampler"]
    assert sorted(built.slot_of_node[node] for node in samplers) == [(0,), (1,), (2,)]


def test_four_pictures_of_one_job_are_chains_of_stock_nodes_with_seeds_that_count_up() -> None:
    attempt = attempt_of(
        CATALOGUE, Wish(kind=WorkflowKind.IMAGINE, model=ModelName("sdxl"), prompt="x", seed=Seed(MAX_SEED - 1), count=4)
    )
    built = build(attempt, MergeForm.SOLO, MergeCapability.NONE)
    found = classes(built)
    assert not any("FuLLet" in name or "Batch" in name for name in found)
    assert found.count("CheckpointLoaderSimple") == 1
    assert found.count("CLIPTextEncode") == 2
    chains: list[Any] = [node["inputs"] for node in built.graph.values() if node["class_type"] == "KSampler"]
    assert sorted(inputs["seed"] for inputs in chains) == [0, 1, MAX_SEED - 1, MAX_SEED]


def test_the_longest_and_oddest_prompts_stay_one_json_value() -> None:
    long = (NASTY * 200)[:5000]
    attempt = attempt_of(CATALOGUE, *wishes_of(2))
    jobs = [replace(job, recipe=replace(job.recipe, prompt=long + str(number))) for number, job in enumerate(attempt.jobs)]
    built = build(an_attempt(*jobs), MergeForm.BATCHED)
    encodes: list[Any] = [node["inputs"] for node in built.graph.values() if node["class_type"] == "CLIPTextEncodeBatch"]
    assert [long + "0", long + "1"] in [json.loads(inputs["prompts"]) for inputs in encodes]
    assert json.loads(json.dumps(built.graph)) == built.graph


def test_two_people_with_the_very_same_wish_share_everything_but_their_files() -> None:
    wish = Wish(kind=WorkflowKind.IMAGINE, model=ModelName("sdxl"), prompt="the same", seed=Seed(5))
    built = build(attempt_of(CATALOGUE, wish, wish), MergeForm.STACKED, MergeCapability.NONE)
    assert classes(built).count("KSampler") == 1
    assert len(built.save_nodes) == 2
    assert len(set(built.file_of_slot.values())) == 2


@pytest.mark.parametrize("kind", [WorkflowKind.IMAGINE, WorkflowKind.VARY])
def test_what_a_pass_cannot_have_twice_falls_back_to_chains(kind: WorkflowKind) -> None:
    small, large = (
        Wish(kind=kind, model=ModelName("sdxl"), prompt="x", size=size, source=BlobId("a")) for size in ("512x512", "768x768")
    )
    built = build(attempt_of(CATALOGUE, small, large), MergeForm.BATCHED)
    assert built.form is MergeForm.STACKED
    assert faults_of(built.graph, INFO) == []
    assert built.expected_size == {0: Dimensions(512, 512), 1: Dimensions(768, 768)}


def test_more_slots_than_the_protocol_has_are_chained() -> None:
    wishes = [
        Wish(kind=WorkflowKind.IMAGINE, model=ModelName("sdxl"), prompt=f"{n}", negative_prompt=f"no {n}", count=2)
        for n in range(9)
    ]
    attempt = attempt_of(CATALOGUE, *wishes)
    built = build(attempt, MergeForm.BATCHED)
    assert built.form is MergeForm.STACKED
    assert len(built.save_nodes) == 18
    assert meanings(built) == alone(attempt)
    assert "CLIPTextEncode" not in classes(built)
    assert faults_of(built.graph, INFO) == []
    assert all(
        len(json.loads(node["inputs"]["prompts"])) <= 16  # type: ignore[index]  # JSON
        for node in built.graph.values()
        if node["class_type"] == "CLIPTextEncodeBatch"
    )


def test_only_a_size_that_the_template_keeps_is_expected() -> None:
    form = attempt_of(CATALOGUE, *wishes_of(1, "multisampler", kind=WorkflowKind.FORM))
    edit = attempt_of(CATALOGUE, *wishes_of(1, "flux", kind=WorkflowKind.EDIT, source=BlobId("a")))
    plain = attempt_of(CATALOGUE, *wishes_of(1, size="640x512"))
    sizes = [build(attempt, MergeForm.SOLO).expected_size[0] for attempt in (form, edit, plain)]
    assert sizes == [None, None, Dimensions(640, 512)]


KEY_CHANGES: list[dict[str, Any]] = [
    {"size": "768x768"},
    {"steps": 9},
    {"sampler": "euler"},
    {"scheduler": "simple"},
    {"loras": (Lora(name="ink.safetensors"),)},
    {"cfg": 1.0},
]


@pytest.mark.parametrize("change", KEY_CHANGES)
def test_jobs_that_differ_in_what_is_common_to_a_pass_have_different_keys(change: dict[str, Any]) -> None:
    plain, changed = (CATALOGUE.resolve(wishes_of(1, **rest)[0])[1] for rest in ({}, change))
    assert plain.exact_key != changed.exact_key
    assert plain.heavy_key == changed.heavy_key


def test_prompt_negative_seed_and_guidance_strength_may_differ_inside_a_pass() -> None:
    one = Wish(kind=WorkflowKind.IMAGINE, model=ModelName("sdxl"), prompt="a", negative_prompt="b", seed=Seed(1), cfg=5.0)
    other = Wish(kind=WorkflowKind.IMAGINE, model=ModelName("sdxl"), prompt="c", seed=Seed(2), cfg=8.5, count=2)
    assert CATALOGUE.resolve(one)[1].exact_key == CATALOGUE.resolve(other)[1].exact_key


def test_two_strengths_of_one_lora_never_share_a_pass() -> None:
    soft, hard = (wishes_of(1, loras=(Lora(name="ink.safetensors", strength=strength),))[0] for strength in (0.5, 1.0))
    assert CATALOGUE.resolve(soft)[1].exact_key != CATALOGUE.resolve(hard)[1].exact_key


def test_a_prompt_too_long_for_the_common_shape_waits_for_its_like() -> None:
    short, long = (Wish(kind=WorkflowKind.IMAGINE, model=ModelName("flux"), prompt=text) for text in ("fox", "fox " * 450))
    assert CATALOGUE.resolve(short)[1].exact_key != CATALOGUE.resolve(long)[1].exact_key


@pytest.mark.parametrize(
    ("mode", "capability", "model", "size", "form"),
    [
        (MergeMode.AUTO, MergeCapability.NONE, "sdxl", "1024x1024", MergeForm.STACKED),
        (MergeMode.AUTO, MergeCapability.ENCODE, "sdxl", "1024x1024", MergeForm.STACKED),
        (MergeMode.AUTO, MergeCapability.FULL, "sdxl", "1024x1024", MergeForm.BATCHED),
        (MergeMode.AUTO, MergeCapability.FULL, "flux", "1024x1024", MergeForm.STACKED),
        (MergeMode.AUTO, MergeCapability.FULL, "flux", "512x512", MergeForm.BATCHED),
        (MergeMode.BATCHED, MergeCapability.FULL, "flux", "1024x1024", MergeForm.BATCHED),
        (MergeMode.BATCHED, MergeCapability.ENCODE, "flux", "1024x1024", MergeForm.STACKED),
        (MergeMode.STACKED, MergeCapability.FULL, "sdxl", "512x512", MergeForm.STACKED),
    ],
)
def test_the_form_follows_mode_server_model_and_size(
    mode: MergeMode, capability: MergeCapability, model: str, size: str, form: MergeForm
) -> None:
    attempt = attempt_of(CATALOGUE, *wishes_of(3, model, size=size))
    assert a_planner(LISTING, mode=mode).build(attempt, facts(capability), uploads={}).form is form


def test_one_picture_is_always_solo_and_edits_are_stacked_even_when_batching_is_forced() -> None:
    planner = a_planner(LISTING, mode=MergeMode.BATCHED)
    one = attempt_of(CATALOGUE, *wishes_of(1))
    edits = attempt_of(CATALOGUE, *wishes_of(2, "flux", kind=WorkflowKind.EDIT, source=BlobId("a")))
    assert planner.build(one, facts(), uploads={}).form is MergeForm.SOLO
    assert planner.build(edits, facts(), uploads=uploads_of(edits)).form is MergeForm.STACKED


def test_dpm_adaptive_never_shares_a_pass() -> None:
    attempt = attempt_of(CATALOGUE, *wishes_of(2, sampler="dpm_adaptive"))
    built = build(attempt, MergeForm.BATCHED)
    assert built.form is MergeForm.STACKED
    assert a_planner(LISTING, mode=MergeMode.BATCHED).build(attempt, facts(), uploads={}).form is MergeForm.STACKED


@pytest.mark.parametrize(
    ("mode", "capability", "kind", "expected"),
    [
        (MergeMode.AUTO, MergeCapability.FULL, WorkflowKind.IMAGINE, 4),
        (MergeMode.AUTO, MergeCapability.ENCODE, WorkflowKind.IMAGINE, 4),
        (MergeMode.AUTO, MergeCapability.NONE, WorkflowKind.IMAGINE, 1),
        (MergeMode.NEVER, MergeCapability.FULL, WorkflowKind.IMAGINE, 1),
        (MergeMode.AUTO, MergeCapability.FULL, WorkflowKind.UPSCALE, 1),
    ],
)
def test_how_many_jobs_may_share_depends_on_mode_pack_and_template(
    mode: MergeMode, capability: MergeCapability, kind: WorkflowKind, expected: int
) -> None:
    work = CATALOGUE.resolve(Wish(kind=kind, prompt="x", source=BlobId("a")))[1]
    assert a_planner(LISTING, mode=mode).max_jobs(work, facts(capability)) == expected


def test_the_planner_learns_which_form_is_faster_and_follows_it() -> None:
    planner = a_planner(LISTING)
    attempt = attempt_of(CATALOGUE, *wishes_of(2, "flux"))
    assert planner.choose_form(attempt, facts()) is MergeForm.STACKED
    planner.note_run(attempt, MergeForm.STACKED, 10.0)
    planner.note_run(attempt, MergeForm.BATCHED, 6.0)
    assert planner.choose_form(attempt, facts()) is MergeForm.BATCHED
    assert attempt.server == SERVER


@pytest.mark.parametrize(
    ("vram_gb", "model", "size", "jobs", "form"),
    [
        (8, "sdxl", "1024x1024", 4, MergeForm.BATCHED),
        (4, "sdxl", "1024x1024", 4, MergeForm.STACKED),
        (4, "sdxl", "1024x1024", 3, MergeForm.BATCHED),
        (8, "flux", "512x512", 4, MergeForm.BATCHED),
        (3.5, "flux", "512x512", 4, MergeForm.BATCHED),  # a "4 GB" card says less
        (2, "flux", "512x512", 4, MergeForm.STACKED),
        (0, "flux", "512x512", 4, MergeForm.BATCHED),  # unknown
    ],
)
def test_a_batch_that_the_memory_has_no_room_for_becomes_chains(
    vram_gb: float, model: str, size: str, jobs: int, form: MergeForm
) -> None:
    attempt = attempt_of(CATALOGUE, *wishes_of(jobs, model, size=size))
    assert a_planner(LISTING).build(attempt, facts(vram_gb=vram_gb), uploads={}).form is form


@pytest.mark.parametrize(("vram_gb", "rows"), [(0, 4), (4, 1), (8, 2), (24, 4)])
def test_a_forced_batch_is_taken_in_parts_that_fit(vram_gb: float, rows: int) -> None:
    attempt = attempt_of(CATALOGUE, *wishes_of(4, "flux", size="1024x1024"))
    built = a_planner(LISTING, mode=MergeMode.BATCHED).build(attempt, facts(vram_gb=vram_gb), uploads={})
    assert built.form is MergeForm.BATCHED
    graph: Any = built.graph
    assert [node["inputs"]["max_rows"] for node in graph.values() if "max_rows" in node["inputs"]] == [rows]


@given(vram_gb=st.floats(0.6, 200), family=st.sampled_from(Family), width=st.integers(64, 4096), height=st.integers(64, 4096))
def test_more_memory_or_a_smaller_picture_never_holds_fewer(vram_gb: float, family: Family, width: int, height: int) -> None:
    size = Dimensions(width, height)
    rows = rows_that_fit(int(vram_gb * 2**30), family, size)
    more = rows_that_fit(int(2 * vram_gb * 2**30), family, size)
    smaller = rows_that_fit(int(vram_gb * 2**30), family, Dimensions(max(1, width // 2), height))
    assert rows is not None
    assert more is not None
    assert smaller is not None
    assert 1 <= rows <= min(more, smaller)
    assert rows_that_fit(0, family, size) is None
