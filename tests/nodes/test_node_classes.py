"""The nodes as ComfyUI calls them: names, checks before queueing, files without anybody's words."""

import json
import re
from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths
import latent_preview
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from comfy_custom_nodes import nodes
from comfy_custom_nodes.adapter import MergeCond, MergeGuider, SlotNoise, SlotSampler
from comfy_custom_nodes.protocol import ERROR_PREFIX, MAX_SLOTS, PREVIEW_RULE, PROTOCOL, VERSION, MergeError

from .toy import SIZE, Patcher, Wish, alone, likeness_db, together

pytestmark = pytest.mark.torch

PACK = Path(nodes.__file__).parent


def refusal(run: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(MergeError) as caught:
        run(*args, **kwargs)
    assert str(caught.value).startswith(f"{ERROR_PREFIX}{caught.value.code}: ")
    return caught.value.code


def test_the_protocol_document_lists_exactly_these_nodes_and_inputs() -> None:
    text = (PACK / "PROTOCOL.md").read_text()
    table = text.split("## Nodes")[1].split("### Saving")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", table, re.MULTILINE))
    assert rows.keys() == nodes.NODE_CLASS_MAPPINGS.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for name, node in nodes.NODE_CLASS_MAPPINGS.items():
        for inputs in node.INPUT_TYPES().values():
            for socket in inputs:
                assert f"`{socket}`" in rows[name] or re.fullmatch(r"(cond|latent)_\d+", socket)


def test_what_a_client_reads_about_the_pack() -> None:
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        assert node.DESCRIPTION.startswith(f"FuLLet merge pack {VERSION}, protocol {PROTOCOL}. ")
    for name in ("CLIPTextEncodeBatch", "FuLLetMergeGuider", "FuLLetMergeKSampler"):
        assert nodes.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()["optional"]["protocol"][0] == [PROTOCOL]
    assert nodes.CLIPTextEncodeBatch.RETURN_TYPES == ("MERGE_COND",)
    assert "dpm_adaptive" not in nodes.MergeKSampler.INPUT_TYPES()["required"]["sampler_name"][0]


def test_the_protocol_is_left_for_comfyui_to_enforce() -> None:
    # an input that VALIDATE_INPUTS names is no longer checked against its options by ComfyUI
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        check = getattr(node, "VALIDATE_INPUTS", None)
        assert check is None or "protocol" not in check.__func__.__code__.co_varnames


def test_bad_inputs_are_refused_before_anything_is_queued() -> None:
    assert nodes.CLIPTextEncodeBatch.VALIDATE_INPUTS(prompts='["a"]', guidance="") is True
    assert nodes.CLIPTextEncodeBatch.VALIDATE_INPUTS(prompts=None, guidance=None) is True
    assert str(nodes.CLIPTextEncodeBatch.VALIDATE_INPUTS(prompts="a", guidance="")).startswith("fullet-merge: bad_json: ")
    assert str(nodes.CLIPTextEncodeBatch.VALIDATE_INPUTS(prompts='["a"]', guidance="[1, 2]")).startswith(
        "fullet-merge: slot_count: "
    )
    assert str(nodes.MergeKSampler.VALIDATE_INPUTS(seeds="[1, 2]", cfg="[1]")).startswith("fullet-merge: slot_count: ")
    assert str(nodes.MergeSaveImage.VALIDATE_INPUTS(slots="[]")).startswith("fullet-merge: bad_json: ")
    assert nodes.MergeNoise.VALIDATE_INPUTS(seeds="[1]") is nodes.FuLLetGuider.VALIDATE_INPUTS(cfg="1") is True


def test_slots_are_gathered_in_order_and_given_back() -> None:
    wishes = [Wish(seed=seed) for seed in range(3)]
    (conds,) = nodes.MergeConditioning().gather(
        **{f"cond_{slot}": wish.positive for slot, wish in reversed(list(enumerate(wishes)))}
    )
    for slot, wish in enumerate(wishes):
        assert torch.equal(nodes.MergeSelect().select(conds, slot)[0][0][0], wish.positive[0][0])
    assert refusal(nodes.MergeSelect().select, conds, 3) == "slot_index"
    assert refusal(nodes.MergeConditioning().gather, cond_0=wishes[0].positive, cond_2=wishes[2].positive) == "slot_gap"


def test_numbers_that_disagree_are_refused() -> None:
    model, one, two = (
        Patcher("cross"),
        MergeCond((Wish(seed=1).positive,)),
        MergeCond((Wish(seed=1).positive, Wish(seed=2).positive)),
    )
    three = MergeCond(tuple(Wish(seed=seed).positive for seed in range(3)))
    guide = nodes.FuLLetGuider().guide
    assert refusal(guide, model, two, "[1, 2, 3]", two) == "slot_count"
    assert refusal(guide, model, two, "2", three) == "slot_count"
    assert refusal(guide, model, two, "2") == "negative_missing"
    assert guide(model, two, "2", one)[0].cfgs == (2.0, 2.0)  # one negative serves all
    latent = {"samples": torch.zeros(2, 4, SIZE, SIZE)}
    ksample = nodes.MergeKSampler().sample
    assert refusal(ksample, model, two, latent, "[1]", "1", 1, "euler", "simple", 1.0, two) == "slot_count"
    assert refusal(ksample, model, three, latent, "[1, 2, 3]", "1", 1, "euler", "simple", 1.0, three) == "slot_count"
    assert refusal(ksample, model, two, latent, "[1, 2]", "1", 1, "euler_cfg_pp", "simple", 1.0) == "negative_missing"


def test_the_ksampler_gives_everyone_the_stock_picture() -> None:
    model, wishes = Patcher("cross"), [Wish(seed=3, cfg=2.0), Wish(seed=8, cfg=5.0, tokens=10)]
    positive, negative = (MergeCond(tuple(getattr(wish, side) for wish in wishes)) for side in ("positive", "negative"))
    latent = {"samples": torch.zeros(2, 4, SIZE, SIZE), "downscale_ratio_spacial": 8}
    (out,) = nodes.MergeKSampler().sample(
        model, positive, latent, "[3, 8]", "[2, 5]", 4, "euler_ancestral", "simple", 1.0, negative
    )
    assert out.keys() == {"samples"}
    for row, wish in enumerate(wishes):
        assert likeness_db(out["samples"][row : row + 1], alone(model, wish, "euler_ancestral")) > 100


def test_an_empty_latent_beside_a_picture_is_refused() -> None:
    people = [Wish(seed=1), Wish(seed=2, latent=torch.ones(1, 4, SIZE, SIZE))]
    assert refusal(together, Patcher("cross"), people) == "mixed_latents"


@pytest.mark.parametrize("options", [{"transformer_options": {"easycache": object()}}, {"sampler_pre_cfg_function": ["apg"]}])
def test_a_patch_that_ties_slots_together_is_refused_for_several(options: dict[str, Any]) -> None:
    def momentum(args: dict[str, Any]) -> Any:
        return args["conds_out"]

    momentum.__module__ = "comfy_extras.nodes_apg"
    options = {name: [momentum] if value == ["apg"] else value for name, value in options.items()}
    wishes = [Wish(seed=1).positive, Wish(seed=2).positive]
    assert refusal(MergeGuider, Patcher("cross", **options), MergeCond(tuple(wishes)), None, [1.0, 1.0]) == "model_refused"
    assert MergeGuider(Patcher("cross", **options), MergeCond(tuple(wishes[:1])), None, [1.0]) is not None


def test_latents_of_one_size_are_joined_and_others_refused() -> None:
    join = nodes.MergeLatents().join
    small, large = torch.ones(1, 4, 4, 4), torch.ones(1, 4, 8, 4)
    mask = torch.zeros(32, 32)
    (out,) = join(latent_0={"samples": small}, latent_1={"samples": 2 * small, "noise_mask": mask})
    assert out["samples"][:, 0, 0, 0].tolist() == [1.0, 2.0]
    assert out["noise_mask"].shape == (2, 1, 32, 32)
    assert out["noise_mask"].mean(dim=(1, 2, 3)).tolist() == [1.0, 0.0]  # no mask of one's own: all of it may change
    assert "noise_mask" not in join(latent_0={"samples": small})[0]
    assert refusal(join, latent_0={"samples": small}, latent_1={"samples": large}) == "latent_shape"
    assert refusal(join, latent_0={"samples": torch.cat([small, small])}) == "latent_shape"
    assert refusal(join, latent_0={"samples": small}, latent_2={"samples": small}) == "slot_gap"
    other = {"samples": small, "noise_mask": torch.zeros(16, 16)}
    assert refusal(join, latent_0={"samples": small, "noise_mask": mask}, latent_1=other) == "latent_shape"


def test_saved_files_are_addressed_by_slot_and_hold_nobodys_prompt(tmp_path: Path) -> None:
    folder_paths.set_root(tmp_path)
    wanted = [{"id": "job-a", "prefix": "ana/fox"}, {"id": "job-b", "prefix": "ben"}, {"id": "job-c", "prefix": "ana/fox"}]
    pictures = torch.stack([torch.full((8, 6, 3), value) for value in (0.0, 0.5, 1.0)])
    shown = nodes.MergeSaveImage().save(pictures, json.dumps(wanted), "output")["ui"]["images"]
    assert [(entry["slot"], entry["id"], entry["subfolder"], entry["filename"]) for entry in shown] == [
        (0, "job-a", "ana", "fox_00001_.png"),
        (1, "job-b", "", "ben_00001_.png"),
        (2, "job-c", "ana", "fox_00002_.png"),
    ]
    for entry, value in zip(shown, (0, 127, 255), strict=True):
        path = tmp_path / "output" / entry["subfolder"] / entry["filename"]
        with Image.open(path) as picture:
            assert picture.size == (6, 8)
            assert picture.getpixel((0, 0)) == (value, value, value)
            assert picture.info == {}
        chunks = re.findall(rb"tEXt|iTXt|zTXt|eXIf", path.read_bytes())
        assert chunks == []
    assert refusal(nodes.MergeSaveImage().save, pictures, json.dumps(wanted[:2]), "output") == "slot_count"


def test_the_save_node_is_never_given_the_graph() -> None:
    assert "hidden" not in nodes.MergeSaveImage.INPUT_TYPES()


@settings(deadline=None, max_examples=25)
@given(slots=st.integers(1, MAX_SLOTS), steps=st.integers(1, 12))
def test_a_preview_shows_the_slot_that_its_counter_names(slots: int, steps: int) -> None:
    latent_preview.shown.clear()
    denoised: dict[str, Any] = {}
    people = [Wish(seed=seed, cfg=1.0) for seed in range(slots)]
    together(Patcher("joint"), people, steps=steps, callback=latent_preview.prepare_callback(None, steps, denoised))
    assert len(latent_preview.shown) == steps
    alone_in_order = _denoised_of_each_step(people, steps)
    for value, picture in latent_preview.shown:
        slot = eval(PREVIEW_RULE, {"value": value, "slots": slots})  # the words of the protocol are what is tested
        assert likeness_db(picture, alone_in_order[value - 1][slot]) > 100
    # the last tensor becomes `denoised_output`: its rows are in slot order again
    assert likeness_db(denoised["x0"], alone_in_order[-1]) > 100


def _denoised_of_each_step(people: list[Wish], steps: int) -> list[torch.Tensor]:
    seen: list[list[torch.Tensor]] = [[] for _ in range(steps)]
    patcher = Patcher("joint")
    for wish in people:
        guider = comfy.samplers.CFGGuider(patcher)
        guider.inner_set_conds({"positive": wish.positive})
        noise, sampler = SlotNoise([wish.seed]), SlotSampler(comfy.samplers.sampler_object("euler"), [wish.seed])
        first = noise.generate_noise({"samples": wish.start})

        def keep(step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
            seen[step].append(x0)

        guider.sample(first, wish.start, sampler, comfy.samplers.sigmas_for(steps), callback=keep, seed=wish.seed)
    return [torch.cat(rows) for rows in seen]
