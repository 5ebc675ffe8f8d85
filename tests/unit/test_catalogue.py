"""The catalogue: what is on offer, wishes turned into recipes, and what is refused with which code."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings, ServerListing, closest
from modules.ai.wishes import clean_text, read_decimal, read_whole
from modules.domain.catalogue import Detail, Range, Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions
from modules.domain.jobs import ServerName
from modules.domain.ports import Catalogue
from modules.domain.recipes import MAX_CHOSEN_SEED, MAX_SEED, Lora, ModelName, Recipe, Seed
from tests.support.graphs import ROOT, a_catalogue, a_listing, the_library

LISTING = a_listing()
CATALOGUE = a_catalogue(LISTING)
PICTURE = BlobId("picture")


def wish(**changes: Any) -> Wish:
    plain: dict[str, Any] = {"kind": WorkflowKind.IMAGINE, "model": ModelName("sdxl"), "prompt": "a fox"}
    return Wish(**{**plain, **changes})


def recipe(**changes: Any) -> Recipe:
    return CATALOGUE.resolve(wish(**changes))[0]


def refusal(catalogue: TemplateCatalogue = CATALOGUE, **changes: Any) -> tuple[ErrorCode, dict[str, Any]]:
    with pytest.raises(FulletError) as caught:
        catalogue.resolve(wish(**changes))
    return caught.value.code, dict(caught.value.params)


# --- models -------------------------------------------------------------------------------------------------------------


def test_it_is_the_port() -> None:
    port: Catalogue = CATALOGUE
    assert [spec.name for spec in port.models()] == ["flux", "z-image", "sdxl", "multisampler", "upscale"]


def test_the_models_keep_the_names_and_labels_operators_know() -> None:
    assert [(spec.name, spec.label) for spec in CATALOGUE.models(WorkflowKind.IMAGINE)][:2] == [
        ("flux", "Flux (Schnell)"),
        ("z-image", "Z-Image (Turbo)"),
    ]
    flux = CATALOGUE.model(ModelName("flux"))
    assert flux.workflows == {
        WorkflowKind.IMAGINE: "flux_image",
        WorkflowKind.EDIT: "flux_edit",
        WorkflowKind.VARY: "flux_vary",
    }
    assert flux.sizes[0] == flux.default_size == Dimensions(1024, 1024)


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((768, 512), (768, 512)),
        ((1000, 760), (992, 752)),  # onto the grid of 16, never larger than it was
        ((4000, 2000), (2048, 1024)),
        ((3000, 3000), (1536, 1536)),  # 2.25 megapixels
        ((100, 200), (256, 512)),
        ((100, 5000), (1024, 1024)),  # no size of that shape is within the limits
    ],
)
def test_a_picture_is_varied_in_its_own_shape(shape: tuple[int, int], drawn: tuple[int, int]) -> None:
    assert CATALOGUE.model("flux").size_like(Dimensions(*shape)) == Dimensions(*drawn)


def test_what_a_person_may_set_is_said_per_model() -> None:
    flux, sdxl = (CATALOGUE.model(ModelName(name)) for name in ("flux", "sdxl"))
    assert (flux.shows_steps, sdxl.shows_steps) == (False, True)
    everything = set(Detail)
    assert {kind: everything - taken for kind, taken in sdxl.takes.items()} == {
        WorkflowKind.IMAGINE: set(),
        WorkflowKind.VARY: set(),
    }
    assert {kind: everything - taken for kind, taken in flux.takes.items()} == {
        WorkflowKind.IMAGINE: {Detail.NEGATIVE_PROMPT},
        WorkflowKind.VARY: {Detail.NEGATIVE_PROMPT},
        WorkflowKind.EDIT: {Detail.NEGATIVE_PROMPT, Detail.SIZE},  # the answer has the picture's own proportions
    }


def test_whoever_only_enlarges_takes_no_words() -> None:
    upscale = CATALOGUE.model("Upscale")
    assert upscale.takes == {WorkflowKind.UPSCALE: frozenset()}


def test_each_choice_is_drawn_by_its_own_workflow() -> None:
    assert recipe(model=ModelName("z-image")).workflow == "z-image_imagine"
    assert recipe(model=ModelName("flux")).workflow == "flux_image"


# --- wishes -------------------------------------------------------------------------------------------------------------


def test_an_empty_wish_is_filled_with_the_models_defaults() -> None:
    filled = recipe()
    assert (filled.size, filled.steps, filled.cfg, filled.count) == (Dimensions(1024, 1024), 25, 7.0, 1)
    assert (filled.sampler, filled.checkpoint, filled.denoise) == (None, None, 1.0)


def test_a_seed_is_chosen_short_enough_to_read_aloud_and_a_given_one_is_kept() -> None:
    chosen = {recipe().seed for _ in range(20)}
    assert len(chosen) == 20
    assert max(chosen) <= MAX_CHOSEN_SEED
    assert recipe(seed=Seed(MAX_SEED)).seed == MAX_SEED
    fixed = TemplateCatalogue(library=the_library(), listings=Listings(), random=random.Random(3))
    assert fixed.resolve(wish())[0].seed == random.Random(3).randint(0, MAX_CHOSEN_SEED)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  a fox \r\n in snow\t", "a fox \n in snow"),
        ("a\x00b\x07c\x9bd", "abcd"),
        ("broken \ud83d end", "broken  end"),
        ("👩‍👩‍👧 `@everyone` “q”", "👩‍👩‍👧 `@everyone` “q”"),
    ],
)
def test_prompts_lose_controls_and_nothing_else(typed: str, kept: str) -> None:
    assert recipe(prompt=typed).prompt == kept


@given(st.text())
def test_a_cleaned_text_can_always_be_sent_and_is_clean(text: str) -> None:
    cleaned = clean_text(text)
    assert cleaned.encode("utf-8") is not None
    assert clean_text(cleaned) == cleaned
    assert "\x00" not in cleaned


@pytest.mark.parametrize(
    ("changes", "code", "params"),
    [
        ({"prompt": " \x00\n "}, ErrorCode.PROMPT_EMPTY, {}),
        ({"prompt": "x" * 2001}, ErrorCode.PROMPT_TOO_LONG, {"limit": 2000, "length": 2001}),
        ({"negative_prompt": "x" * 2500}, ErrorCode.PROMPT_TOO_LONG, {"limit": 2000, "length": 2500}),
        ({"size": "huge"}, ErrorCode.SIZE_INVALID, {"text": "huge", "example": "1024x1024"}),
        ({"size": "9" * 500}, ErrorCode.SIZE_INVALID, {"text": "9" * 40, "example": "1024x1024"}),
        ({"size": "4096x4096"}, ErrorCode.SIZE_OUT_OF_RANGE, {"min_px": 512, "max_px": 1536, "max_megapixels": 1.5}),
        ({"size": "1536x1536"}, ErrorCode.SIZE_OUT_OF_RANGE, {"min_px": 512, "max_px": 1536, "max_megapixels": 1.5}),
        ({"size": "64x512"}, ErrorCode.SIZE_OUT_OF_RANGE, {"min_px": 512, "max_px": 1536, "max_megapixels": 1.5}),
        ({"size": Dimensions(-8, 0)}, ErrorCode.SIZE_OUT_OF_RANGE, {"min_px": 512, "max_px": 1536, "max_megapixels": 1.5}),
        ({"steps": 0}, ErrorCode.VALUE_OUT_OF_RANGE, {"field": "steps", "low": 1, "high": 60}),
        ({"steps": "1e9"}, ErrorCode.VALUE_NOT_A_NUMBER, {"field": "steps", "example": 12}),
        ({"steps": True}, ErrorCode.VALUE_NOT_A_NUMBER, {"field": "steps", "example": 12}),
        ({"cfg": math.nan}, ErrorCode.VALUE_NOT_A_NUMBER, {"field": "cfg", "example": 5.5}),
        ({"cfg": "NaN"}, ErrorCode.VALUE_NOT_A_NUMBER, {"field": "cfg", "example": 5.5}),
        ({"cfg": math.inf}, ErrorCode.VALUE_NOT_A_NUMBER, {"field": "cfg", "example": 5.5}),
        ({"cfg": 20.5}, ErrorCode.VALUE_OUT_OF_RANGE, {"field": "cfg", "low": 1, "high": 20}),
        ({"seed": -1}, ErrorCode.VALUE_OUT_OF_RANGE, {"field": "seed", "low": 0, "high": MAX_SEED}),
        ({"seed": MAX_SEED + 1}, ErrorCode.VALUE_OUT_OF_RANGE, {"field": "seed", "low": 0, "high": MAX_SEED}),
        ({"count": 5}, ErrorCode.VALUE_OUT_OF_RANGE, {"field": "count", "low": 1, "high": 4}),
        ({"sampler": "nope"}, ErrorCode.CHOICE_UNKNOWN, {"field": "sampler", "value": "nope"}),
        ({"scheduler": "nope"}, ErrorCode.CHOICE_UNKNOWN, {"field": "scheduler", "value": "nope"}),
        ({"loras": (Lora(name="gone"),)}, ErrorCode.CHOICE_UNKNOWN, {"field": "lora", "value": "gone"}),
        (
            {"loras": (Lora(name="ink.safetensors", strength=9),)},
            ErrorCode.VALUE_OUT_OF_RANGE,
            {"field": "strength", "low": -4, "high": 4},
        ),
        (
            {"loras": tuple(Lora(name=f"{n}") for n in range(5))},
            ErrorCode.VALUE_OUT_OF_RANGE,
            {"field": "loras", "low": 0, "high": 4},
        ),
        ({"kind": WorkflowKind.EDIT, "model": None}, ErrorCode.PICTURE_MISSING, {}),
        ({"kind": WorkflowKind.VARY}, ErrorCode.PICTURE_MISSING, {}),
        ({"kind": WorkflowKind.UPSCALE, "model": None, "prompt": ""}, ErrorCode.PICTURE_MISSING, {}),
        (
            {"model": ModelName("dalle")},
            ErrorCode.MODEL_UNKNOWN,
            {"model": "dalle", "known": "Flux (Schnell), Z-Image (Turbo), SDXL"},
        ),
        (
            {"kind": WorkflowKind.EDIT, "model": ModelName("z-image"), "source": PICTURE},
            ErrorCode.MODEL_UNAVAILABLE,
            {"model": "Z-Image (Turbo)", "alternative": "Flux (Schnell)"},
        ),
        (
            {"kind": WorkflowKind.FORM, "model": None, "checkpoint": "nope.safetensors"},
            ErrorCode.CHOICE_UNKNOWN,
            {"field": "checkpoint", "value": "nope.safetensors"},
        ),
    ],
)
def test_what_is_wrong_is_refused_with_a_code_and_data(changes: dict[str, Any], code: ErrorCode, params: dict[str, Any]) -> None:
    assert refusal(**changes) == (code, params)


@pytest.mark.parametrize(
    ("typed", "size"),
    [
        ("768x768", Dimensions(768, 768)),
        ("1000 × 765", Dimensions(1000, 768)),
        ("１０２４ｘ７６８", Dimensions(1024, 768)),
        ("٨٠٠x٨٠٠", Dimensions(800, 800)),
        (Dimensions(771, 1021), Dimensions(768, 1024)),
    ],
)
def test_sizes_are_read_in_any_script_and_fitted_to_the_grid(typed: Any, size: Dimensions) -> None:
    assert recipe(size=typed).size == size


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([spec.name for spec in CATALOGUE.models(WorkflowKind.IMAGINE)]), st.integers(0, 5000), st.integers(0, 5000)
)
def test_a_size_is_on_the_grid_and_inside_the_limits_or_refused(model: ModelName, width: int, height: int) -> None:
    spec = CATALOGUE.model(model)
    try:
        size = recipe(model=model, size=Dimensions(width, height)).size
    except FulletError as error:
        size, code = None, error.code
    if size is None:
        assert code is ErrorCode.SIZE_OUT_OF_RANGE
        return
    assert size.megapixels <= spec.max_megapixels
    for got, asked in ((size.width_px, width), (size.height_px, height)):
        assert got % spec.grid_px == 0
        assert spec.min_side_px <= got <= spec.max_side_px
        assert abs(got - asked) <= spec.grid_px / 2


ALLOWED = Range(low=1, high=150, default=25)


@pytest.mark.parametrize(("typed", "number"), [("25", 25), (" ２５ ", 25), ("٢٥", 25), (25.0, 25), (7, 7), ("+3", 3)])
def test_whole_numbers_are_read_in_any_script(typed: object, number: int) -> None:
    assert read_whole(typed, "steps", ALLOWED) == number


@pytest.mark.parametrize(
    "typed", ["", "1e9", "NaN", "inf", "0x10", "1_000", "2.5", "²", "10²", "Ⅷ", "1" * 30, 2.5, None, True, [1]]
)
def test_what_is_no_whole_number_is_said_to_be_none(typed: object) -> None:
    with pytest.raises(FulletError) as caught:
        read_whole(typed, "steps", Range(low=-1e40, high=1e40, default=0))
    assert caught.value.code is ErrorCode.VALUE_NOT_A_NUMBER


@pytest.mark.parametrize(("typed", "number"), [("7.5", 7.5), ("7,5", 7.5), ("７．５", 7.5), (7, 7.0)])
def test_decimals_take_point_or_comma(typed: object, number: float) -> None:
    assert read_decimal(typed, "cfg", ALLOWED) == number


@given(st.one_of(st.text(), st.floats(), st.integers()))
def test_whatever_is_typed_becomes_a_number_inside_the_range_or_one_of_two_errors(typed: object) -> None:
    for read in (read_whole, read_decimal):
        try:
            outcome: object = ALLOWED.holds(read(typed, "steps", ALLOWED))
        except FulletError as error:
            outcome = error.code
        assert outcome in (True, ErrorCode.VALUE_NOT_A_NUMBER, ErrorCode.VALUE_OUT_OF_RANGE)


def test_numbers_that_mean_nothing_to_a_workflow_are_recorded_as_it_has_them() -> None:
    edit = recipe(kind=WorkflowKind.EDIT, model=None, source=PICTURE, size="512x512", negative_prompt="x", denoise=0.2)
    assert (edit.workflow, edit.size, edit.negative_prompt, edit.denoise) == ("flux_edit", None, "", 1.0)
    upscale = recipe(kind=WorkflowKind.UPSCALE, model=None, prompt="ignored", source=PICTURE)
    assert (upscale.model, upscale.prompt, upscale.source) == ("upscale", "", PICTURE)
    assert recipe(source=PICTURE).source is None


def test_a_reference_is_recorded_where_it_is_looked_at_and_refused_elsewhere() -> None:
    edit = recipe(kind=WorkflowKind.EDIT, model=None, source=PICTURE, reference=BlobId("beside"))
    assert (edit.source, edit.reference) == (PICTURE, "beside")
    with pytest.raises(FulletError) as caught:
        recipe(reference=BlobId("beside"))
    assert caught.value.code is ErrorCode.REFERENCE_NOT_TAKEN
    takers = {spec.name: spec.takes_reference for spec in a_catalogue().models() if spec.takes_reference}
    assert takers == {"flux": {WorkflowKind.EDIT}}


def test_the_form_records_the_checkpoint_and_takes_every_value() -> None:
    made = recipe(
        kind=WorkflowKind.FORM,
        model=None,
        checkpoint="other.safetensors",
        sampler="euler",
        scheduler="simple",
        steps=150,
        cfg=30.0,
    )
    assert (made.model, made.checkpoint, made.sampler, made.scheduler) == ("multisampler", "other.safetensors", "euler", "simple")
    assert recipe(kind=WorkflowKind.FORM, model=None).checkpoint == "sd_xl_base_1.0.safetensors"
    assert made.steps == 150


def test_a_vary_keeps_the_asked_strength_or_takes_the_models_own() -> None:
    assert recipe(kind=WorkflowKind.VARY, source=PICTURE).denoise == 0.6
    assert recipe(kind=WorkflowKind.VARY, source=PICTURE, denoise=0.35).denoise == 0.35
    assert refusal(kind=WorkflowKind.VARY, source=PICTURE, denoise=0.0)[0] is ErrorCode.VALUE_OUT_OF_RANGE


# --- servers ------------------------------------------------------------------------------------------------------------


def test_before_any_server_was_reached_wishes_are_taken_on_trust() -> None:
    catalogue = a_catalogue()
    made, work = catalogue.resolve(wish(sampler="brand_new"))
    assert made.sampler == "brand_new"
    assert work.is_mergeable
    assert not catalogue.is_available(ModelName("sdxl"), WorkflowKind.IMAGINE)


def test_what_no_server_could_ever_run_is_refused_with_something_that_runs() -> None:
    poor = a_catalogue(a_listing({"CheckpointLoaderSimple.ckpt_name": []}))
    assert refusal(poor) == (ErrorCode.MODEL_UNAVAILABLE, {"model": "SDXL", "alternative": "Flux (Schnell)"})


def test_what_one_of_two_servers_has_is_offered() -> None:
    both = a_catalogue(a_listing(without=["UnetLoaderGGUF"]), a_listing({"CheckpointLoaderSimple.ckpt_name": []}))
    assert both.is_available(ModelName("flux"), WorkflowKind.IMAGINE)
    assert both.is_available(ModelName("sdxl"), WorkflowKind.IMAGINE)
    assert both.resolve(wish())[0].workflow == "sdxl_image"


def test_a_form_is_available_with_any_checkpoint_at_all() -> None:
    other = a_catalogue(a_listing({"CheckpointLoaderSimple.ckpt_name": ["mine.safetensors"]}))
    assert other.is_available(ModelName("multisampler"), WorkflowKind.FORM)
    assert (
        other.resolve(wish(kind=WorkflowKind.FORM, model=None, checkpoint="mine.safetensors"))[0].checkpoint == "mine.safetensors"
    )
    assert refusal(other, kind=WorkflowKind.FORM, model=None)[0] is ErrorCode.CHOICE_UNKNOWN


def test_a_server_that_is_away_offers_nothing_but_is_still_worth_waiting_for() -> None:
    up = {ServerName("a")}
    listings = Listings()
    listings.heed(up.__contains__)
    listings.update(ServerName("a"), LISTING)
    catalogue = TemplateCatalogue(library=the_library(), listings=listings)
    assert catalogue.choices().checkpoints == ("other.safetensors", "sd_xl_base_1.0.safetensors")
    up.clear()
    assert catalogue.choices().checkpoints == ()
    assert not catalogue.is_available(ModelName("sdxl"), WorkflowKind.IMAGINE)
    assert catalogue.resolve(wish())[0].workflow == "sdxl_image"


def test_choices_are_everything_the_servers_have_once_and_sorted() -> None:
    both = a_catalogue(
        a_listing({"LoraLoader.lora_name": ["b", "A"], "LoraLoaderModelOnly.lora_name": ["A"]}),
        a_listing({"LoraLoader.lora_name": ["c", "b"], "LoraLoaderModelOnly.lora_name": []}),
    )
    choices = both.choices()
    assert choices.loras == ("A", "b", "c")
    assert choices.unets == ("flux-2-klein-4b-Q4_K_M.gguf", "z_image_turbo_bf16.safetensors")
    assert choices.upscalers == ("RealESRGAN_x4plus.pth",)
    assert {"euler", "dpmpp_2m"} <= set(choices.samplers)
    assert "karras" in choices.schedulers


def test_problems_name_server_template_and_mend() -> None:
    catalogue = a_catalogue(a_listing(without=["UnetLoaderGGUF"]))
    found = [problem for problem in catalogue.problems() if problem.workflow == "flux_image"]
    assert [(problem.server, problem.what, problem.name) for problem in found] == [("gpu-1", "node_missing", "UnetLoaderGGUF")]
    assert catalogue.where(found[0]) == "node pack ComfyUI-GGUF"


# --- listings -----------------------------------------------------------------------------------------------------------


def test_both_styles_of_lists_are_read() -> None:
    listing = ServerListing.from_object_info(
        {
            "Old": {"input": {"required": {"name": [["a", "b"], {"tooltip": "x"}]}}, "output": ["MODEL"]},
            "New": {"input": {"optional": {"name": ["COMBO", {"options": ["c"]}]}}, "output": ["CLIP"]},
        }
    )
    assert listing.options("Old", "name") == ("a", "b")
    assert listing.options("New", "name") == ("c",)
    assert listing.classes["Old"].inputs["name"].kind == listing.classes["New"].inputs["name"].kind == "COMBO"


@pytest.mark.parametrize(
    "body", [None, [], "<html>", {}, {"X": None}, {"X": {"input": []}}, {"X": {"input": {"required": {"a": None}}}}]
)
def test_a_strange_answer_is_an_empty_listing_and_no_crash(body: object) -> None:
    listing = ServerListing.from_object_info(body)
    assert listing.options("X", "a") == ()
    assert not listing.meets("class:KSampler")


def test_names_are_offered_most_alike_first_whatever_the_folder() -> None:
    names = ("zzz.ckpt", "xl/sd_xl_base_1.0.safetensors", "sd_xl_turbo.safetensors")
    assert closest("SD_XL_base_1.0.safetensors", names)[0] == "xl/sd_xl_base_1.0.safetensors"
    assert len(closest("a", names, limit=2)) == 2


def test_the_manifests_of_the_house_say_where_each_of_their_files_goes() -> None:
    for template in the_library().templates.values():
        files = {
            str(value)
            for node in template.graph.values()
            for name, value in node.inputs.items()
            if name.endswith("_name") and "." in str(value)
        }
        assert files <= template.manifest.where.keys(), template.name
    assert (ROOT / "flujos").is_dir()
