"""A template as its author exported it, drawn by servers as people have them: Windows beside Linux, odd names, growing inputs."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings
from modules.ai.workflows.template import Library, Template, read_template
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.jobs import ServerName
from modules.domain.recipes import Lora, ModelName, WorkflowName
from modules.domain.servers import RunPhase
from modules.sandbox.comfy_server import ComfySandbox
from tests.support.comfy_side import an_attempt, comfy_side, report_in
from tests.support.graphs import ROOT
from tests.support.plain_comfy import plain_comfy

FILES = {
    "checkpoints": ["xl/base.safetensors", "caf\udce9.safetensors"],
    "loras": ["style/oil.safetensors", "caf\udce9.safetensors"],
}
FLEET = (ServerName("linux"), ServerName("windows"))


def the_template() -> Template:
    """Exported on Windows: a fixed checkpoint in a folder, an input that grows, a fixed picture, a text of the author's own."""
    graph: dict[str, Any] = json.loads((ROOT / "tests/recordings/workflows/sd15_txt2img.json").read_text("utf-8"))
    graph["4"]["inputs"]["ckpt_name"] = "xl\\base.safetensors"
    graph["7"]["inputs"]["text"] = "blurry, watermark"
    graph["20"] = {"class_type": "BatchImagesNode", "inputs": {"images.image0": ["8", 0], "images.image1": ["8", 0]}}
    graph["9"]["inputs"]["images"] = ["20", 0]
    said = 'model = "m"\nkind = "imagine"\n[cost]\nseconds = 1.0\n'
    return read_template(WorkflowName("t"), json.dumps(graph), said)


@pytest.mark.parametrize("is_windows", [False, True])
async def test_each_server_of_a_mixed_fleet_draws_the_same_job(is_windows: bool) -> None:
    template = the_template()
    library, listings = Library({template.name: template}), Listings()
    catalogue = TemplateCatalogue(library=library, listings=listings)
    async with (
        ComfySandbox(time_scale=0.0, models=FILES) as linux,
        ComfySandbox(time_scale=0.0, models=FILES, is_windows=True) as windows,
    ):
        for name, server in zip(FLEET, (linux, windows), strict=True):
            async with plain_comfy(server.url) as met:
                await listings.take_in(name, await met.listing())
        assert list(catalogue.problems()) == []
        assert catalogue.choices().checkpoints == ("xl/base.safetensors",)
        assert catalogue.choices().loras == ("style/oil.safetensors",)
        recipe, work = catalogue.resolve(
            Wish(
                kind=WorkflowKind.IMAGINE, model=ModelName("m"), prompt="a fox", loras=(Lora(name=catalogue.choices().loras[0]),)
            )
        )
        drawing = windows if is_windows else linux
        async with comfy_side(drawing, library=library) as side:
            assert side.ours.missing(work) == ()
            attempt = an_attempt(recipe)
            assert report_in(await side.run(attempt)).phase is RunPhase.SUCCEEDED
            assert set(await side.ours.fetch(attempt, {0})) == {0}
            async with aiohttp.ClientSession() as http, http.get(f"{drawing.url}/history/{attempt.id}") as answer:
                sent = json.dumps((await answer.json())[str(attempt.id)]["prompt"][2])
        slash = "\\\\" if is_windows else "/"
        assert f"xl{slash}base.safetensors" in sent
        assert f"style{slash}oil.safetensors" in sent
        assert '"blurry, watermark"' in sent
