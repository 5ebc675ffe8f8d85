"""The nodes as ComfyUI sees them (V1 schema); PROTOCOL.md describes every input."""

from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths
import latent_preview
import numpy as np
import torch
from PIL import Image

from .adapter import (
    REFUSED_SAMPLER,
    MergeCond,
    MergeGuider,
    SlotNoise,
    SlotSampler,
    encode_prompts,
    sample_as_ksampler,
    with_guidance,
)
from .encode_cache import Conditioning, EncodeCache
from .protocol import CATEGORY, MAX_SLOTS, MERGE_COND, PROTOCOL, MergeError, described
from .slots import (
    SaveSlot,
    agree,
    parse_cfg,
    parse_guidance,
    parse_prompts,
    parse_save_slots,
    parse_seeds,
    spread,
    verdict,
)

Inputs = dict[str, dict[str, Any]]

#: ComfyUI makes the node objects itself: what outlives a run has to live beside them.
ENCODED = EncodeCache()


def _json(default: str, tooltip: str, *, multiline: bool = False) -> tuple[str, dict[str, Any]]:
    return "STRING", {"default": default, "multiline": multiline, "tooltip": tooltip}


def _protocol() -> tuple[list[int], dict[str, Any]]:
    return [PROTOCOL], {"default": PROTOCOL, "tooltip": "What the client was written for; others are refused."}


def _max_rows() -> tuple[str, dict[str, Any]]:
    return "INT", {
        "default": 0,
        "min": 0,
        "max": MAX_SLOTS,
        "tooltip": "Most pictures in one pass of the model; 0: all that fit.",
    }


def _numbered(name: str, type_name: str) -> Inputs:
    """`name_0` required, the others optional: fixed sockets, so that every version of ComfyUI shows them alike."""
    rest = {f"{name}_{slot}": (type_name,) for slot in range(1, MAX_SLOTS)}
    return {"required": {f"{name}_0": (type_name,)}, "optional": rest}


def _in_order(name: str, given: dict[str, Any]) -> list[Any]:
    """The values of `name_0`, `name_1`, ...; raises MergeError("slot_gap") when one in between is missing."""
    slots = sorted(int(key.rsplit("_", 1)[1]) for key, value in given.items() if value is not None)
    if slots != list(range(len(slots))):
        raise MergeError("slot_gap", f"the inputs {name}_0, {name}_1, ... must be used without gaps.")
    return [given[f"{name}_{slot}"] for slot in slots]


class CLIPTextEncodeBatch:
    """All prompts in one go, so that the text encoder is loaded once; the slots stay separate."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("Encodes one prompt per slot. The slots stay separate: no prompt touches another one's picture.")
    RETURN_TYPES = (MERGE_COND,)
    RETURN_NAMES = ("conds",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "clip": ("CLIP",),
                "prompts": _json(
                    '["a fox in the snow", "a lighthouse at night"]', "JSON list of strings, one per slot.", multiline=True
                ),
            },
            "optional": {
                "guidance": _json(
                    "", "JSON number, or a list with one per slot, for models with embedded guidance; may be empty."
                ),
                "cache": ("BOOLEAN", {"default": True, "tooltip": "Keep encoded prompts in memory for the next run."}),
                "protocol": _protocol(),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, prompts: str | None = None, guidance: str | None = None) -> bool | str:
        found = verdict(parse_prompts, prompts) or verdict(parse_guidance, guidance)
        if found is None and prompts is not None and guidance is not None:
            found = verdict(lambda text: spread(parse_guidance(text), len(parse_prompts(prompts)), "guidance"), guidance)
        return found or True

    def encode(
        self, clip: Any, prompts: str, guidance: str = "", cache: bool = True, protocol: int = PROTOCOL
    ) -> tuple[MergeCond]:
        texts = parse_prompts(prompts)
        wanted = spread(parse_guidance(guidance), len(texts), "guidance")
        encoded = encode_prompts(clip, texts, ENCODED if cache else None)
        return (MergeCond(tuple(with_guidance(cond, value) for cond, value in zip(encoded, wanted, strict=True))),)


class MergeConditioning:
    """Ordinary conditionings, one per slot: for chains with reference pictures and the like."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("Gathers ordinary conditionings, one per slot, without mixing them.")
    RETURN_TYPES = (MERGE_COND,)
    RETURN_NAMES = ("conds",)
    FUNCTION = "gather"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return _numbered("cond", "CONDITIONING")

    def gather(self, **conds: Conditioning) -> tuple[MergeCond]:
        return (MergeCond(tuple(_in_order("cond", conds))),)


class MergeSelect:
    """One slot as ordinary conditioning."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("Gives one slot back as ordinary conditioning for stock nodes.")
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "select"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"conds": (MERGE_COND,), "index": ("INT", {"default": 0, "min": 0, "max": MAX_SLOTS - 1})}}

    def select(self, conds: MergeCond, index: int) -> tuple[Conditioning]:
        if index >= len(conds):
            raise MergeError("slot_index", f"slot {index} was asked for, there are {len(conds)}.")
        return (conds.slots[index],)


class FuLLetGuider:
    """The guider for SamplerCustomAdvanced."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("Samples all slots in one run; each has its own prompt, negative and cfg.")
    RETURN_TYPES = ("GUIDER",)
    FUNCTION = "guide"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "model": ("MODEL",),
                "positive": (MERGE_COND,),
                "cfg": _json("1.0", "JSON number, or a list with one per slot."),
            },
            "optional": {"negative": (MERGE_COND,), "max_rows": _max_rows(), "protocol": _protocol()},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, cfg: str | None = None) -> bool | str:
        return verdict(parse_cfg, cfg) or True

    def guide(
        self,
        model: Any,
        positive: MergeCond,
        cfg: str,
        negative: MergeCond | None = None,
        max_rows: int = 0,
        protocol: int = PROTOCOL,
    ) -> tuple[MergeGuider]:
        return (MergeGuider(model, positive, negative, spread(parse_cfg(cfg), len(positive), "cfg"), max_rows),)


class MergeNoise:
    """The starting noise of every slot."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("Gives each slot the noise that its seed alone would have drawn.")
    RETURN_TYPES = ("NOISE",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"seeds": _json("[1, 2]", "JSON list of integers, one per slot.")}}

    @classmethod
    def VALIDATE_INPUTS(cls, seeds: str | None = None) -> bool | str:
        return verdict(parse_seeds, seeds) or True

    def make(self, seeds: str) -> tuple[SlotNoise]:
        return (SlotNoise(parse_seeds(seeds)),)


class MergeSampler:
    """A stock sampler with one stream of random numbers per slot."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("Gives a sampler one stream of random numbers per slot.")
    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "wrap"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"sampler": ("SAMPLER",), "seeds": _json("[1, 2]", "JSON list of integers, one per slot.")}}

    @classmethod
    def VALIDATE_INPUTS(cls, seeds: str | None = None) -> bool | str:
        return verdict(parse_seeds, seeds) or True

    def wrap(self, sampler: Any, seeds: str) -> tuple[SlotSampler]:
        return (SlotSampler(sampler, parse_seeds(seeds)),)


class MergeKSampler:
    """The stock KSampler for slots."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("KSampler for slots: same sigmas, same noise, each slot as if it ran alone.")
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        samplers = [name for name in comfy.samplers.KSampler.SAMPLERS if name != REFUSED_SAMPLER]
        return {
            "required": {
                "model": ("MODEL",),
                "positive": (MERGE_COND,),
                "latent_image": ("LATENT",),
                "seeds": _json("[1, 2]", "JSON list of integers, one per slot."),
                "cfg": _json("8.0", "JSON number, or a list with one per slot."),
                "steps": ("INT", {"default": 20, "min": 1, "max": 10_000}),
                "sampler_name": (samplers,),
                "scheduler": (comfy.samplers.KSampler.SCHEDULERS,),
                "denoise": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
            },
            "optional": {"negative": (MERGE_COND,), "max_rows": _max_rows(), "protocol": _protocol()},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, seeds: str | None = None, cfg: str | None = None) -> bool | str:
        found = verdict(parse_seeds, seeds) or verdict(parse_cfg, cfg)
        if found is None and seeds is not None and cfg is not None:
            found = verdict(lambda text: spread(parse_cfg(text), len(parse_seeds(seeds)), "cfg"), cfg)
        return found or True

    def sample(
        self, model: Any, positive: MergeCond, latent_image: dict[str, Any], seeds: str, cfg: str, steps: int, sampler_name: str,
        scheduler: str, denoise: float, negative: MergeCond | None = None, max_rows: int = 0, protocol: int = PROTOCOL,
    ) -> tuple[dict[str, Any]]:  # fmt: skip
        own_seeds = parse_seeds(seeds)
        agree(len(own_seeds), len(positive), "seeds")
        guider = MergeGuider(model, positive, negative, spread(parse_cfg(cfg), len(positive), "cfg"), max_rows)
        callback = latent_preview.prepare_callback(guider.model_patcher, steps)
        return (sample_as_ksampler(guider, own_seeds, steps, sampler_name, scheduler, denoise, latent_image, callback),)


class MergeLatents:
    """Input pictures of one size, one per slot."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("Joins latents of one size, one per slot; never rescales.")
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "join"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return _numbered("latent", "LATENT")

    def join(self, **latents: dict[str, Any]) -> tuple[dict[str, Any]]:
        given = _in_order("latent", latents)
        samples = [latent["samples"] for latent in given]
        if any(row.is_nested or row.shape[0] != 1 or row.shape != samples[0].shape for row in samples):
            raise MergeError("latent_shape", "every slot needs exactly one picture, all of one size.")
        joined = {"samples": torch.cat(samples)}
        masks = [latent.get("noise_mask") for latent in given]
        if any(mask is not None for mask in masks):
            joined["noise_mask"] = _joined_masks(masks, samples[0])
        return (joined,)


class MergeSaveImage:
    """One file per slot, without a word about anybody's prompt."""

    CATEGORY = CATEGORY
    DESCRIPTION = described("Saves one file per slot, named per slot, without the graph in its metadata.")
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "save"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        example = '[{"id": "a", "prefix": "fullet/a"}, {"id": "b", "prefix": "fullet/b"}]'
        return {
            "required": {
                "images": ("IMAGE",),
                "slots": _json(example, 'JSON list of {"id": ..., "prefix": ...}, one per slot.', multiline=True),
                "type": (["output", "temp"], {"default": "output"}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, slots: str | None = None) -> bool | str:
        return verdict(parse_save_slots, slots) or True

    def save(self, images: torch.Tensor, slots: str, type: str) -> dict[str, Any]:  # the input's name in ComfyUI's own nodes
        wanted = parse_save_slots(slots)
        agree(images.shape[0], len(wanted), "the picture batch")
        root = folder_paths.get_output_directory() if type == "output" else folder_paths.get_temp_directory()
        saved = [
            {**_saved(picture, slot, root), "type": type, "slot": number, "id": slot.id}
            for number, (picture, slot) in enumerate(zip(images, wanted, strict=True))
        ]
        return {"ui": {"images": saved}}


def _joined_masks(masks: list[torch.Tensor | None], like: torch.Tensor) -> torch.Tensor:
    """Masks of one size, one row per slot; where a slot has none, all of its picture is free to change."""
    known = [mask.reshape(-1, 1, *mask.shape[-2:]) for mask in masks if mask is not None]
    if any(mask.shape != (1, *known[0].shape[1:]) for mask in known):
        raise MergeError("latent_shape", "every slot needs one mask at most, all of one size.")
    full = torch.ones_like(known[0])
    return torch.cat([full if mask is None else mask.reshape(full.shape).to(like.device) for mask in masks])


def _saved(picture: torch.Tensor, slot: SaveSlot, root: str) -> dict[str, str]:
    height, width = picture.shape[0], picture.shape[1]
    folder, name, counter, subfolder, _prefix = folder_paths.get_save_image_path(slot.prefix, root, width, height)
    filename = f"{name}_{counter:05}_.png"
    pixels = (255.0 * picture.cpu().numpy()).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(Path(folder) / filename, compress_level=4)
    return {"filename": filename, "subfolder": subfolder}


NODE_CLASS_MAPPINGS: dict[str, Any] = {
    "CLIPTextEncodeBatch": CLIPTextEncodeBatch,
    "FuLLetMergeConditioning": MergeConditioning,
    "FuLLetMergeSelect": MergeSelect,
    "FuLLetMergeGuider": FuLLetGuider,
    "FuLLetMergeNoise": MergeNoise,
    "FuLLetMergeSampler": MergeSampler,
    "FuLLetMergeKSampler": MergeKSampler,
    "FuLLetMergeLatents": MergeLatents,
    "FuLLetMergeSaveImage": MergeSaveImage,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "CLIPTextEncodeBatch": "CLIP Text Encode (FuLLet batch)",
    "FuLLetMergeConditioning": "Merge Conditionings (FuLLet)",
    "FuLLetMergeSelect": "Select Slot (FuLLet)",
    "FuLLetMergeGuider": "Merge Guider (FuLLet)",
    "FuLLetMergeNoise": "Merge Noise (FuLLet)",
    "FuLLetMergeSampler": "Merge Sampler (FuLLet)",
    "FuLLetMergeKSampler": "Merge KSampler (FuLLet)",
    "FuLLetMergeLatents": "Merge Latents (FuLLet)",
    "FuLLetMergeSaveImage": "Save Slots (FuLLet)",
}
