"""A picture that somebody else draws on the same server: the graph of a ComfyUI page's first workflow."""

from __future__ import annotations

from typing import Any

from modules.sandbox.comfy_server.models import ModelFiles

FOREIGN_STEPS = 20


def foreign_graph(files: ModelFiles, seed: int) -> dict[str, Any]:
    """Needs a checkpoint; raises `ValueError` where the server has none."""
    checkpoint = next(iter(files.get("checkpoints", ())), None)
    if checkpoint is None:
        raise ValueError("a foreign prompt needs a checkpoint")
    sampling = {"seed": seed, "steps": FOREIGN_STEPS, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ["checkpoint", 0], "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["latent", 0]}
    return {
        "checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["checkpoint", 1], "text": "somebody else's picture"}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["checkpoint", 1], "text": "text, watermark"}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "sample": {"class_type": "KSampler", "inputs": {**sampling, **links}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["checkpoint", 2]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "ComfyUI"}},
    }
