"""The same jobs as graphs in every form: alone, batched through our pack, stacked."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.comfy import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    prompt: str
    negative: str = "blurry"
    seed: int = 1
    cfg: float = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all slots of a batch share."""

    family: str = "sdxl"  #: sdxl, z-image or flux2
    size: tuple[int, int] = (128, 96)
    steps: int = 3
    sampler: str = "euler"
    scheduler: str = "karras"


def _loaders(family: str) -> tuple[Graph, list[object], list[object], list[object]]:
    """Loader nodes and the links to model, text encoder and VAE."""
    if family == "sdxl":
        loader = {"ckpt": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}}}
        return loader, ["ckpt", 0], ["ckpt", 1], ["ckpt", 2]
    if family == "z-image":
        nodes: Graph = {
            "unet": {
                "class_type": "UNETLoader",
                "inputs": {"unet_name": "z_image_turbo_bf16.safetensors", "weight_dtype": "default"},
            },
            "clip": {"class_type": "CLIPLoader", "inputs": {"clip_name": "qwen_3_4b.safetensors", "type": "lumina2"}},
            "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
            "shift": {"class_type": "ModelSamplingAuraFlow", "inputs": {"model": ["unet", 0], "shift": 3.0}},
        }
        return nodes, ["shift", 0], ["clip", 0], ["vae", 0]
    nodes = {
        "unet": {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": "flux-2-klein-4b-Q4_K_M.gguf"}},
        "clip": {"class_type": "CLIPLoaderGGUF", "inputs": {"clip_name": "Qwen3-4B-Q4_K_M.gguf", "type": "flux2"}},
        "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "flux2-vae.safetensors"}},
    }
    return nodes, ["unet", 0], ["clip", 0], ["vae", 0]


def _latent(common: Common, count: int = 1) -> Graph:
    width, height = common.size
    kind = {"sdxl": "EmptyLatentImage", "z-image": "EmptySD3LatentImage", "flux2": "EmptyFlux2LatentImage"}[common.family]
    return {"class_type": kind, "inputs": {"width": width, "height": height, "batch_size": count}}


def _sampling(common: Common, model: list[object], job: Job, positive: str, negative: str, latent: str) -> Graph:
    """A stock sampler chain that ends in a node called `sample`."""
    if common.family != "flux2":
        inputs = {"model": model, "seed": job.seed, "steps": common.steps, "cfg": job.cfg, "sampler_name": common.sampler}
        inputs |= {"scheduler": common.scheduler, "denoise": 1.0, "positive": [positive, 0], "negative": [negative, 0]}
        return {"sample": {"class_type": "KSampler", "inputs": {**inputs, "latent_image": [latent, 0]}}}
    guider = {"model": model, "positive": [positive, 0], "negative": [negative, 0], "cfg": job.cfg}
    return {
        "guider": {"class_type": "CFGGuider", "inputs": guider},
        "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": job.seed}},
        **_custom(common, "noise", "guider", "choice", latent),
    }


def _custom(common: Common, noise: str, guider: str, sampler: str, latent: str) -> Graph:
    width, height = common.size
    links = {
        "noise": [noise, 0],
        "guider": [guider, 0],
        "sampler": [sampler, 0],
        "sigmas": ["sigmas", 0],
        "latent_image": [latent, 0],
    }
    return {
        "choice": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": common.sampler}},
        "sigmas": {"class_type": "Flux2Scheduler", "inputs": {"steps": common.steps, "width": width, "height": height}},
        "sample": {"class_type": "SamplerCustomAdvanced", "inputs": {**links, "sigmas": ["sigmas", 0]}},
    }


def solo(job: Job, common: Common, prefix: str = "solo") -> Graph:
    loaders, model, clip, vae = _loaders(common.family)
    return {
        **loaders,
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"text": job.prompt, "clip": clip}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"text": job.negative, "clip": clip}},
        "latent": _latent(common),
        **_sampling(common, model, job, "positive", "negative", "latent"),
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": vae}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": prefix}},
    }


def batched(jobs: Sequence[Job], common: Common, **sampler_inputs: object) -> Graph:
    """One pass of the sampler for all slots."""
    loaders, model, clip, vae = _loaders(common.family)
    seeds, cfg = json.dumps([job.seed for job in jobs]), json.dumps([job.cfg for job in jobs])
    conditioned = {"model": model, "positive": ["positive", 0], "negative": ["negative", 0], "cfg": cfg}
    if common.family == "flux2":
        chain: Graph = {
            "noise": {"class_type": "FuLLetMergeNoise", "inputs": {"seeds": seeds}},
            "guider": {"class_type": "FuLLetMergeGuider", "inputs": conditioned | sampler_inputs},
            "slotted": {"class_type": "FuLLetMergeSampler", "inputs": {"sampler": ["choice", 0], "seeds": seeds}},
            **_custom(common, "noise", "guider", "slotted", "latent"),
        }
    else:
        inputs = conditioned | {"latent_image": ["latent", 0], "seeds": seeds, "steps": common.steps, "denoise": 1.0}
        inputs |= {"sampler_name": common.sampler, "scheduler": common.scheduler} | sampler_inputs
        chain = {"sample": {"class_type": "FuLLetMergeKSampler", "inputs": inputs}}
    return {
        **loaders,
        "positive": _encode_batch([job.prompt for job in jobs], clip),
        "negative": _encode_batch([job.negative for job in jobs], clip),
        "latent": _latent(common, len(jobs)),
        **chain,
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": vae}},
        "save": _save(range(len(jobs)), ["decode", 0]),
    }


def _encode_batch(texts: Sequence[str], clip: list[object]) -> Graph:
    return {"class_type": "CLIPTextEncodeBatch", "inputs": {"clip": clip, "prompts": json.dumps(texts), "protocol": 1}}


def _save(slots: Sequence[int], images: list[object]) -> Graph:
    listed = [{"id": f"slot-{slot}", "prefix": f"merged/{slot}"} for slot in slots]
    return {"class_type": "FuLLetMergeSaveImage", "inputs": {"images": images, "slots": json.dumps(listed), "type": "output"}}


def stacked(jobs: Sequence[Job], common: Common) -> Graph:
    """One encode pass, then a stock chain for each slot."""
    loaders, model, clip, vae = _loaders(common.family)
    texts = [text for job in jobs for text in (job.prompt, job.negative)]
    graph: Graph = {**loaders, "encode": _encode_batch(texts, clip)}
    for slot, job in enumerate(jobs):
        chain: Graph = {
            "positive": {"class_type": "FuLLetMergeSelect", "inputs": {"conds": ["encode", 0], "index": 2 * slot}},
            "negative": {"class_type": "FuLLetMergeSelect", "inputs": {"conds": ["encode", 0], "index": 2 * slot + 1}},
            "latent": _latent(common),
            **_sampling(common, model, job, "positive", "negative", "latent"),
            "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": vae}},
            "save": _save([slot], ["decode", 0]),
        }
        graph |= _renamed(chain, slot)
    return graph


def _renamed(chain: Graph, slot: int) -> Graph:
    """The chain with a number after each of its own names."""
    renamed = copy.deepcopy(chain)
    for node in renamed.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in chain:
                node["inputs"][name] = [f"{value[0]}_{slot}", value[1]]
    return {f"{node_id}_{slot}": node for node_id, node in renamed.items()}
