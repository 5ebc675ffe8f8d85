"""The planner's own graphs on a real ComfyUI with the node pack and tiny random models: accepted, and equal slot by slot.

Run with `COMFYUI_URL` pointing at a server that has the models of `tools/make_tiny_models.py` and runs in fp32.
The templates here are graphs exported from ComfyUI, read by role like any other.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image, ImageChops, ImageStat

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings, ServerListing
from modules.ai.workflows.plan import InputPicture, MergeForm
from modules.ai.workflows.planner import Planner
from modules.ai.workflows.template import Library, read_template
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.errors import FulletError
from modules.domain.images import BlobId
from modules.domain.jobs import Attempt
from modules.domain.recipes import ModelName, Seed, WorkflowName
from modules.domain.servers import MergeCapability
from tests.support.graphs import SERVER, an_attempt, attempt_of, facts, single, the_library
from tests.support.plain_comfy import PlainComfy, plain_comfy

URL = os.environ.get("COMFYUI_URL", "").rstrip("/")
pytestmark = [
    pytest.mark.real_comfyui,
    pytest.mark.skipif(not URL, reason="COMFYUI_URL does not point at a real ComfyUI"),
    pytest.mark.timeout(900),
]

RECORDED = Path(__file__).parents[1] / "recordings" / "workflows"
PICTURE = BlobId("input")
#: In fp32 the same sums in another order; PNGs are 8 bits a channel, so anything above 48 dB is at most a last bit somewhere.
LEAST_DB = 50.0

MANIFEST = """
model = "{model}"
kind = "{kind}"
merge = "batched"
{size}
[steps]
low = 1
high = 20
default = 4
[cfg]
low = 1.0
high = 20.0
default = {cfg}
[cost]
seconds = 1.0
"""
SIZE = '[size]\ndefault = "64x64"\nmin_side = 64\nmax_side = 512\n'
#: Exported graph -> (kind, cfg).
EXPORTED = {
    "sd15_txt2img": (WorkflowKind.IMAGINE, 7.0),
    "flux_dev_txt2img": (WorkflowKind.IMAGINE, 1.0),
    "flux_dev_custom_sampler": (WorkflowKind.IMAGINE, None),
    "zimage_txt2img": (WorkflowKind.IMAGINE, 1.0),
    "sd15_img2img": (WorkflowKind.VARY, 7.0),
    "flux_dev_img2img": (WorkflowKind.VARY, 1.0),
}
FAMILIES = list(EXPORTED)
SAMPLERS = [
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpmpp_2m",
    "dpmpp_sde",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "ddim",
    "uni_pc",
    "lcm",
    "res_multistep",
    "er_sde",
    "sa_solver",
]


#: A loader that a test server may have for the tiny random T5 and Qwen3, which the stock loaders build at full size.
TINY_LOADER = "LocalTinyCLIPLoader"


def exported(name: str, listing: ServerListing) -> str:
    """A recorded graph with a text encoder this server can load: the family's own tokenizer where there is a loader for it."""
    graph = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    for node in graph.values():
        if node["class_type"] not in ("DualCLIPLoader", "CLIPLoader"):
            continue
        kind = "flux" if node["class_type"] == "DualCLIPLoader" else "z_image"
        if kind in listing.options(TINY_LOADER, "type"):
            node |= {"class_type": TINY_LOADER, "inputs": {"type": kind}}
        else:
            stand_in = {"clip_name": "clip_l.safetensors", "type": "stable_diffusion"}
            node |= {"class_type": "CLIPLoader", "inputs": stand_in}
    return json.dumps(graph)


def a_library(listing: ServerListing) -> Library:
    templates = {}
    for name, (kind, cfg) in EXPORTED.items():
        text = MANIFEST.format(model=name, kind=kind.value, cfg=cfg or 1.0, size=SIZE if kind is WorkflowKind.IMAGINE else "")
        text = text if cfg is not None else text[: text.index("[cfg]")] + text[text.index("[cost]") :]
        templates[WorkflowName(name)] = read_template(WorkflowName(name), exported(name, listing), text)
    return Library(templates)


class RealServer:
    """A real ComfyUI, with a catalogue and a planner that know it."""

    def __init__(self, comfy: PlainComfy, listing: ServerListing) -> None:
        self.comfy = comfy
        self.listings = Listings()
        self.listings.update(SERVER, listing)
        library = a_library(listing)
        self.catalogue = TemplateCatalogue(library=library, listings=self.listings)
        self.planner = Planner(library=library, listings=self.listings)


@pytest.fixture
async def server() -> AsyncIterator[RealServer]:
    async with plain_comfy(URL) as comfy:
        yield RealServer(comfy, await comfy.listing())


def decibels(one: Image.Image, other: Image.Image) -> float:
    """Peak signal to noise; infinite for equal pictures."""
    assert one.size == other.size
    squares: Sequence[float] = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).sum2
    mean = sum(squares) / (3 * one.width * one.height)
    return math.inf if mean == 0 else 10 * math.log10(255**2 / mean)


def skip_where_missing(server: RealServer, name: str) -> None:
    """The recorded graph names a file that this server may not have; ComfyUI before 0.3.74 has no Z-Image."""
    lacking = [
        problem.name for problem in server.catalogue.problems() if problem.workflow == name and problem.what == "file_missing"
    ]
    if lacking:
        pytest.skip(f"This ComfyUI has no {', '.join(lacking)}.")


def wishes(name: str, *prompts: str, **rest: Any) -> list[Wish]:
    kind, cfg = EXPORTED[name]
    is_guided = cfg is not None and cfg > 1
    return [
        Wish(
            kind=kind,
            model=ModelName(name),
            prompt=prompt,
            negative_prompt="blurry" * number,
            seed=Seed(2**63 + 17 * number),
            cfg=cfg + number if is_guided and cfg else None,
            source=PICTURE if kind is WorkflowKind.VARY else None,
            steps=rest.get("steps", 4),
            sampler=rest.get("sampler"),
        )
        for number, prompt in enumerate(prompts)
    ]


async def uploads_for(server: RealServer, attempt: Attempt) -> dict[InputPicture, str]:
    if not any(job.recipe.source for job in attempt.jobs):
        return {}
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    return {InputPicture(PICTURE): await server.comfy.upload(picture)}


async def compared(server: RealServer, attempt: Attempt, form: MergeForm, capability: MergeCapability) -> list[float]:
    """Decibels between each slot of the merged run and the same picture alone."""
    uploads = await uploads_for(server, attempt)
    merged = server.planner.build(attempt, facts(capability), uploads=uploads, form=form)
    assert merged.form is form
    together = await server.comfy.run(merged)
    found = []
    for job, slot in zip(attempt.jobs, sorted(together), strict=True):
        solo = server.planner.build(an_attempt(single(job, 0)), facts(), uploads=uploads, form=MergeForm.SOLO)
        found.append(decibels(together[slot], (await server.comfy.run(solo))[0]))
    return found


FORMS = [
    (MergeForm.STACKED, MergeCapability.NONE),
    (MergeForm.STACKED, MergeCapability.ENCODE),
    (MergeForm.BATCHED, MergeCapability.FULL),
]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("form", "capability"), FORMS)
async def test_every_slot_is_the_picture_it_would_have_been_alone(
    server: RealServer, name: str, form: MergeForm, capability: MergeCapability
) -> None:
    skip_where_missing(server, name)
    prompts = ("a red fox in the snow", "the sea at night, " * 12, 'odd "quotes"\nand\\slashes 🦊')
    attempt = attempt_of(server.catalogue, *wishes(name, *prompts))
    found = await compared(server, attempt, form, capability)
    print(f"{name} {form} {[round(value, 1) for value in found]}")
    assert min(found) > LEAST_DB


@pytest.mark.parametrize("sampler", SAMPLERS)
async def test_a_batched_pass_keeps_every_slot_exact_with_this_sampler(server: RealServer, sampler: str) -> None:
    attempt = attempt_of(server.catalogue, *wishes("sd15_txt2img", "a red fox", "the sea at night", sampler=sampler, steps=5))
    found = await compared(server, attempt, MergeForm.BATCHED, MergeCapability.FULL)
    print(f"{sampler} {[round(value, 1) for value in found]}")
    assert min(found) > LEAST_DB


async def test_the_house_templates_name_exactly_the_files_this_server_lacks(server: RealServer) -> None:
    catalogue = TemplateCatalogue(library=the_library(), listings=server.listings)
    problems = [problem for problem in catalogue.problems() if problem.workflow == "sdxl_image"]
    assert [(problem.what, problem.name, problem.available) for problem in problems] == [
        ("file_missing", "sd_xl_base_1.0.safetensors", ("tiny_sd15.safetensors",))
    ]
    with pytest.raises(FulletError):
        catalogue.resolve(Wish(kind=WorkflowKind.IMAGINE, model=ModelName("sdxl"), prompt="x"))


async def test_one_slots_prompt_is_in_no_other_slots_file(server: RealServer) -> None:
    attempt = attempt_of(server.catalogue, *wishes("sd15_txt2img", "first secret", "second secret"))
    for form, capability in FORMS[1:]:
        built = server.planner.build(attempt, facts(capability), uploads={}, form=form)
        pictures = await server.comfy.run(built)
        for picture in pictures.values():
            assert "secret" not in str(cast(dict[str, object], picture.info))


async def test_a_bad_slot_costs_only_itself_when_stacked(server: RealServer) -> None:
    attempt = attempt_of(server.catalogue, *wishes("sd15_img2img", "good", "bad"))
    uploads = await uploads_for(server, attempt)
    built = server.planner.build(attempt, facts(MergeCapability.ENCODE), uploads=uploads, form=MergeForm.STACKED)
    graph: Any = {node: {**said, "inputs": dict(cast(dict[str, object], said["inputs"]))} for node, said in built.graph.items()}
    sampler = next(
        node for node, slots in built.slot_of_node.items() if slots == (1,) and graph[node]["class_type"] == "KSampler"
    )
    graph[sampler]["inputs"]["sampler_name"] = "no such sampler"
    status, answer, _ = await server.comfy.submit(graph)
    assert status == 200
    assert set(answer["node_errors"]) == {sampler}
    assert answer["node_errors"][sampler]["dependent_outputs"] == ["save_1"]
