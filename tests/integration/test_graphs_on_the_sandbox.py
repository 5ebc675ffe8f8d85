"""Every template in every form, posted to the ComfyUI stand-in, which refuses what the real one refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings
from modules.ai.node_pack import find_pack
from modules.ai.workflows.plan import InputPicture, MergeForm
from modules.ai.workflows.planner import Planner
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.images import BlobId, Dimensions
from modules.domain.jobs import Attempt
from modules.domain.recipes import Lora, ModelName, Seed
from modules.domain.servers import MergeCapability
from modules.sandbox.comfy_server import ComfySandbox
from tests.support.graphs import SERVER, a_catalogue, attempt_of, facts, the_library
from tests.support.plain_comfy import PlainComfy, plain_comfy

PICTURE = BlobId("picture")
ALL_KINDS = [(spec.name, kind) for spec in a_catalogue().models() for kind in spec.workflows]
FORMS = [
    ("none", MergeForm.SOLO, MergeCapability.NONE),
    ("none", MergeForm.STACKED, MergeCapability.NONE),
    ("encode", MergeForm.STACKED, MergeCapability.ENCODE),
    ("full", MergeForm.BATCHED, MergeCapability.FULL),
]


class House:
    """Catalogue and planner of ours in front of one stand-in."""

    def __init__(self, comfy: PlainComfy, listings: Listings, capability: MergeCapability) -> None:
        self.comfy = comfy
        self.capability = capability
        self.catalogue = TemplateCatalogue(library=the_library(), listings=listings)
        self.planner = Planner(library=the_library(), listings=listings)

    async def uploads(self, attempt: Attempt) -> dict[InputPicture, str]:
        if not any(job.recipe.source for job in attempt.jobs):
            return {}
        return {InputPicture(PICTURE): await self.comfy.upload(Image.linear_gradient("L").resize((96, 64)).convert("RGB"))}


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with ComfySandbox(time_scale=0.0, **request.param) as sandbox, plain_comfy(sandbox.url) as comfy:
        listings = Listings()
        listing = await comfy.listing()
        listings.update(SERVER, listing)
        yield House(comfy, listings, find_pack(listing, {}).capability)


def wishes(model: ModelName, kind: WorkflowKind, people: int, **rest: Any) -> list[Wish]:
    return [
        Wish(kind=kind, model=model, prompt=f'"{number}"\n🦊', seed=Seed(number), source=PICTURE, size="512x512", **rest)
        for number in range(people)
    ]


@pytest.mark.parametrize(("model", "kind"), ALL_KINDS)
@pytest.mark.parametrize(("house", "form", "capability"), [({"pack": pack}, *rest) for pack, *rest in FORMS], indirect=["house"])
async def test_every_template_runs_in_every_form_and_every_slot_has_its_file(
    house: House, model: ModelName, kind: WorkflowKind, form: MergeForm, capability: MergeCapability
) -> None:
    attempt = attempt_of(house.catalogue, *wishes(model, kind, 1 if form is MergeForm.SOLO else 3, count=2))
    built = house.planner.build(attempt, facts(capability), uploads=await house.uploads(attempt), form=form)
    pictures = await house.comfy.run(built)
    assert sorted(pictures) == [slot.index for slot in attempt.slots]
    for slot, picture in pictures.items():
        expected = built.expected_size[slot]
        assert expected is None or Dimensions(*picture.size) == expected


@pytest.mark.parametrize("house", [{"pack": pack} for pack in ("none", "full")], indirect=True)
async def test_each_persons_reference_reaches_only_their_own_picture(house: House) -> None:
    """Three edits of one picture by the same words and seed, merged: they differ by what each was told to look at as well."""
    uploads = {
        InputPicture(BlobId(colour)): await house.comfy.upload(Image.new("RGB", (96, 64), colour))
        for colour in ("green", "red", "blue")
    }
    uploads[InputPicture(PICTURE)] = uploads.pop(InputPicture(BlobId("green")))
    told = [BlobId("red"), BlobId("blue"), BlobId("red")]
    [plain] = wishes(ModelName("flux"), WorkflowKind.EDIT, 1)
    attempt = attempt_of(house.catalogue, *(replace(plain, reference=reference) for reference in told))
    built = house.planner.build(attempt, facts(house.capability), uploads=uploads, form=MergeForm.STACKED)
    first, other, like_first = (picture.tobytes() for _, picture in sorted((await house.comfy.run(built)).items()))
    assert first == like_first != other
    alone = attempt_of(house.catalogue, plain)
    [without] = (await house.comfy.run(house.planner.build(alone, facts(house.capability), uploads=uploads))).values()
    assert without.tobytes() not in (first, other)


@pytest.mark.parametrize("house", [{"pack": "none"}], indirect=True)
async def test_the_stand_in_has_everything_the_templates_need(house: House) -> None:
    assert list(house.catalogue.problems()) == []


@pytest.mark.parametrize("house", [{"pack": pack} for pack in ("none", "encode", "full")], indirect=True)
async def test_loras_and_a_chosen_sampler_are_taken(house: House) -> None:
    lora = Lora(name=house.catalogue.choices().loras[0], strength=0.5)
    attempt = attempt_of(
        house.catalogue, *wishes(ModelName("sdxl"), WorkflowKind.IMAGINE, 2, loras=(lora,), sampler="euler_ancestral")
    )
    for form in (MergeForm.SOLO, MergeForm.STACKED):
        built = house.planner.build(attempt, facts(MergeCapability.NONE), uploads={}, form=form)
        assert sorted(await house.comfy.run(built)) == [0, 1]


@pytest.mark.parametrize("house", [{"community_nodes": True}, {"community_nodes": False}], indirect=True)
async def test_the_multisampler_runs_with_and_without_the_older_packs(house: House) -> None:
    attempt = attempt_of(house.catalogue, *wishes(ModelName("multisampler"), WorkflowKind.FORM, 1))
    built = house.planner.build(attempt, facts(MergeCapability.NONE), uploads={})
    assert sorted(await house.comfy.run(built)) == [0]


@pytest.mark.parametrize(
    ("house", "expected"),
    [({"pack": "none"}, "none"), ({"pack": "encode"}, "encode"), ({"pack": "full"}, "full"), ({"pack": "wrong"}, "none")],
    indirect=["house"],
)
async def test_the_listing_tells_what_the_node_pack_allows(house: House, expected: str) -> None:
    pack = find_pack(await house.comfy.listing(), {})
    assert pack.capability.value == expected
